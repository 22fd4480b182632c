"""Names of files, of whatever file system they come."""

import os
import unicodedata
from pathlib import Path

import pytest
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import load_pairs
from synthset.errors import InputError
from synthset.sources.folder import list_source
from synthset.sources.names import nearest, printable, require_storable
from synthset.sources.reading import Reading

NFC, NFD = (unicodedata.normalize(form, "ähre") for form in ("NFC", "NFD"))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def listed(folder: Path, reading: Reading | None = None, split: str = "train"):
    """The pairs of names that a folder is listed as, relative to it, and the listing."""
    splits = list_source(folder, reading or Reading())
    assert splits is not None
    listing = splits[split]
    pairs = [
        (os.path.relpath(record.name, folder), *(os.path.relpath(name, folder) for name in record.mask_names))
        for record in listing.records
    ]
    return pairs, listing


def refusal(folder: Path, reading: Reading | None = None) -> str:
    with pytest.raises(InputError) as caught:
        list_source(folder, reading or Reading())
    message = str(caught.value)
    assert message.splitlines() == [message]
    message.encode()  # no half of a surrogate pair
    return message


@pytest.mark.parametrize("image, mask", [(NFC, NFD), (NFD, NFC)])
def test_one_name_in_two_unicode_forms_is_a_pair(tmp_path, image, mask):
    rows = random_pairs(1)
    write_raw_folder(tmp_path, rows)
    (tmp_path / "images" / "000.png").rename(tmp_path / "images" / f"{image}.png")
    (tmp_path / "masks" / "000.png").rename(tmp_path / "masks" / f"{mask}.png")
    assert same_pairs(load_pairs(str(tmp_path)), rows)


@pytest.mark.parametrize("form", [NFC, NFD])
def test_folders_are_found_in_either_unicode_form(tmp_path, form):
    other = NFC if form == NFD else NFD
    touch(tmp_path, f"{form}/1.jpg", f"{form}/1_mask.png")
    pairs, _ = listed(tmp_path, Reading(image_column=other, mask_column=other, mask_suffix="_mask"))
    assert pairs == [(f"{form}/1.jpg", f"{form}/1_mask.png")]


def test_names_that_differ_in_case_are_pairs_and_suspicious(tmp_path):
    touch(tmp_path, "Images/IMG.JPG", "Images/b.jpg", "masks/img.png", "masks/b.png")
    pairs, listing = listed(tmp_path)
    assert sorted(pairs) == [("Images/IMG.JPG", "masks/img.png"), ("Images/b.jpg", "masks/b.png")]
    assert listing.suspicious == {"names that differ in case": ["Images/IMG.JPG and masks/img.png"]}


def test_exact_case_comes_first(tmp_path):
    touch(tmp_path, "images/A.jpg", "images/a.png", "masks/A.tif", "masks/a.png")
    pairs, listing = listed(tmp_path)
    assert pairs == [("images/A.jpg", "masks/A.tif"), ("images/a.png", "masks/a.png")]
    assert not listing.suspicious


COLLISIONS = {
    "case": (["images/a.png", "images/A.png", "masks/a.png"], r"images/a.png and images/A.png differ only in case"),
    "case of the suffix": (["images/a.png", "images/a.PNG"], r"images/a.png and images/a.PNG differ only in case"),
    "case of a folder": (["images/b/1.png", "images/B/1.png"], r"images/b/1.png and images/B/1.png differ only in"),
    "Unicode form": (
        [f"images/{NFC}.png", f"images/{NFD}.png"],
        r"images/\xe4hre.png' and 'images/a\u0308hre.png' differ only in Unicode form",
    ),
    "masks": (["images/a.png", "masks/a.png", "masks/A.png"], r"masks/a.png and masks/A.png differ only in case"),
}


@pytest.mark.parametrize("case", COLLISIONS)
def test_names_that_overwrite_each_other_elsewhere_are_refused(tmp_path, case):
    names, expected = COLLISIONS[case]
    message = refusal(touch(tmp_path, "masks/0.png", *names))
    assert expected in message, message


def test_a_name_that_fits_two_images_but_for_case_is_refused(tmp_path):
    touch(tmp_path, "images/img.jpg", "images/Img.png", "masks/IMG.png")
    assert "masks/IMG.png may be the mask of" in refusal(tmp_path)


def test_files_of_operating_systems_are_ignored_and_others_named(tmp_path):
    touch(tmp_path, "images/1.jpg", "masks/1.png", "images/.DS_Store", "images/._1.jpg", "images/Thumbs.db")
    touch(tmp_path, "images/__MACOSX/1.jpg", "masks/desktop.ini", "images/@eaDir/1.jpg/a.jpg", ".hidden/images/1.jpg")
    touch(tmp_path, "images/notes.txt", "masks/1.json", "masks/sub/array.npy")
    pairs, listing = listed(tmp_path)
    assert pairs == [("images/1.jpg", "masks/1.png")]
    assert listing.skipped == {"files that are no images": ["images/notes.txt", "masks/1.json", "masks/sub/array.npy"]}


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path):
    touch(tmp_path, "images/1.png/photo.jpg", "masks/1.png/photo.png")
    assert listed(tmp_path)[0] == [("images/1.png/photo.jpg", "masks/1.png/photo.png")]


def test_loops_of_links_end(tmp_path):
    touch(tmp_path, "images/a/1.jpg", "masks/a/1.png")
    (tmp_path / "images" / "a" / "up").symlink_to("..")
    (tmp_path / "images" / "root").symlink_to(tmp_path)
    (tmp_path / "images" / "again").symlink_to("a")
    pairs, listing = listed(tmp_path)
    assert pairs == [("images/a/1.jpg", "masks/a/1.png")]
    assert len(listing.skipped["folders that were read by another name"]) == 3


def test_linked_folders_and_files_are_read(tmp_path):
    touch(tmp_path / "store", "photos/1.jpg", "masks/1.png")
    (tmp_path / "set" / "masks").mkdir(parents=True)
    (tmp_path / "set" / "images").symlink_to("../store/photos")
    (tmp_path / "set" / "masks" / "1.png").symlink_to("../../store/masks/1.png")
    assert listed(tmp_path / "set")[0] == [("images/1.jpg", "masks/1.png")]


def test_broken_links_and_loops_of_files_are_named(tmp_path):
    touch(tmp_path, "images/1.jpg", "masks/1.png")
    (tmp_path / "images" / "2.jpg").symlink_to("2.jpg")
    assert "images/2.jpg is a link to a file that does not exist" in refusal(tmp_path)


def test_pipes_are_not_opened(tmp_path):
    touch(tmp_path, "images/1.jpg", "masks/1.png")
    os.mkfifo(tmp_path / "images" / "2.jpg")
    os.mkfifo(tmp_path / "metadata.csv")
    pairs, listing = listed(tmp_path)
    assert len(pairs) == 1
    assert listing.skipped == {"files that are no images": ["images/2.jpg"]}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_folders_are_named(tmp_path):
    touch(tmp_path, "images/a/1.jpg", "masks/a/1.png")
    (tmp_path / "images" / "a").chmod(0)
    assert "images/a can't be listed: Permission denied" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[2Jb", "a\x85b", "a\u2028b", os.fsdecode(b"a\xffb")])
def test_names_that_datasets_cannot_hold_are_refused_in_one_line(tmp_path, name):
    with pytest.raises(InputError):
        require_storable(name)
    assert printable(name).isprintable()
    touch(tmp_path / "set", f"images/{name}.png", f"masks/{name}.png")
    assert "rename it" in refusal(tmp_path / "set")
    touch(tmp_path / name, "images/1.png", "masks/1.png")
    assert "rename it" in refusal(tmp_path / name)
    with pytest.raises(InputError, match="rename it"):
        load_pairs(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a b", "\u202fscreen shot", "写真", "👩‍🌾", "a'b\"c", "-x", "%20", "a\\b"])
def test_other_names_are_read(tmp_path, name):
    assert printable(name) == name
    rows = random_pairs(1)
    write_raw_folder(tmp_path / name, rows)
    for folder in ("images", "masks"):
        (tmp_path / name / folder / "000.png").rename(tmp_path / name / folder / f"{name}.png")
    assert same_pairs(load_pairs(str(tmp_path / name)), rows)


def test_nearest():
    names = ["masks/013-mask.png", "masks/200.png", "other/99.png"]
    assert nearest("images/013.png", names) == "masks/013-mask.png"
    assert nearest("images/field.png", names) is None
