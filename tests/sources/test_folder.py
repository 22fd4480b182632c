import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import load_pairs
from synthset.errors import InputError
from synthset.sources.folder import list_source, load_raw_folder
from synthset.sources.reading import Listing, Reading, Record

BITS = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]], dtype=np.uint8)


def palette_mask(indices):
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.flatten().tolist())
    picture.putpalette([200, 10, 10] + [7, 7, 7] * 254 + [9, 200, 9])  # colors that say nothing about the class
    return picture


MASKS = {
    "0 and 255": Image.fromarray(BITS * 255),
    "0 and 1": Image.fromarray(BITS),
    "mode 1": Image.fromarray(BITS * 255).convert("1"),
    "palette 0 and 1": palette_mask(BITS),
    "palette 0 and 255": palette_mask(BITS * 255),
    "gray RGB": Image.fromarray(np.repeat(BITS[..., None] * 255, 3, axis=2)),
    "16 bit 0 and 1": Image.fromarray(BITS.astype(np.uint16)),
}


@pytest.mark.parametrize("stored", MASKS)
def test_masks_come_in_as_0_and_1_however_they_are_stored(tmp_path, stored):
    write_raw_folder(tmp_path, random_pairs(1, size=(4, 3)))
    MASKS[stored].save(tmp_path / "masks" / "000.png")
    mask = load_pairs(str(tmp_path))[0]["mask"]
    assert mask.mode == "L"
    assert np.array_equal(mask, BITS)


@pytest.mark.parametrize("value, expected", [(0, 0), (255, 1), (1, 1)])
def test_constant_masks_are_legal(tmp_path, value, expected):
    write_raw_folder(tmp_path, random_pairs(1, size=(4, 3)))
    Image.new("L", (4, 3), value).save(tmp_path / "masks" / "000.png")
    assert (np.asarray(load_pairs(str(tmp_path))[0]["mask"]) == expected).all()


@pytest.mark.parametrize(
    "picture, pixel",
    [
        (Image.new("L", (4, 3), 90), (90, 90, 90)),
        (Image.new("RGBA", (4, 3), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("1", (4, 3), 1), (255, 255, 255)),
        (Image.new("RGB", (4, 3), (10, 20, 30)).quantize(2), (10, 20, 30)),
    ],
    ids=["gray", "RGBA", "1 bit", "palette"],
)
def test_images_come_in_as_rgb(tmp_path, picture, pixel):
    write_raw_folder(tmp_path, random_pairs(1, size=(4, 3)))
    picture.save(tmp_path / "images" / "000.png")
    image = load_pairs(str(tmp_path))[0]["image"]
    assert image.mode == "RGB"
    assert (np.asarray(image) == pixel).all()


def test_files_match_by_stem_whatever_their_suffix(tmp_path):
    rows = random_pairs(3)
    write_raw_folder(tmp_path, rows)
    (tmp_path / "images" / "000.png").rename(tmp_path / "images" / "000.PNG")
    rows[2]["mask"].save(tmp_path / "masks" / "002.tif")
    (tmp_path / "masks" / "002.png").unlink()
    for ignored in ("images/.hidden.png", "images/Thumbs.db", "masks/notes.txt"):
        (tmp_path / ignored).write_text("not an image")
    assert same_pairs(load_pairs(str(tmp_path)), rows)


def test_exif_orientation_is_applied_before_sizes_are_compared(tmp_path):
    write_raw_folder(tmp_path, random_pairs(1, size=(4, 3)))
    upright = Image.new("RGB", (4, 3), "red")
    upright.putpixel((0, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees; to be turned back clockwise when shown
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "images" / "000.png", exif=exif)
    assert np.array_equal(load_pairs(str(tmp_path))[0]["image"], upright)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def values(*levels):
    return Image.fromarray(np.resize(np.array(levels, dtype=np.uint8), (32, 40)))


BAD_FOLDERS = {
    "zero bytes": (lambda f: (f / "images/001.png").write_bytes(b""), r"images/001.png can't be .* empty file"),
    "not an image": (
        lambda f: (f / "images/001.png").write_text("hello"),
        r"images/001.png can't be .* 5 bytes in no",
    ),
    "truncated image": (
        lambda f: truncate(f / "images/001.png"),
        r"images/001.png can't be read as an image: .*trunc",
    ),
    "truncated mask": (lambda f: truncate(f / "masks/001.png"), r"masks/001.png can't be read as an image: .*trunc"),
    "16-bit image": (
        lambda f: Image.fromarray(np.zeros((32, 40), np.uint16)).save(f / "images/001.png"),
        r"images/001.png has 16 bits per channel .*--bit_depth",
    ),
    "no mask": (lambda f: (f / "masks/001.png").unlink(), r"images/001.png has no mask in .*masks; add 001.png"),
    "no image": (lambda f: (f / "images/001.png").unlink(), r"masks/001.png has no image in .*images; add 001.png"),
    "sizes differ": (
        lambda f: Image.new("L", (32, 40)).save(f / "masks/001.png"),
        r"masks/001.png is 32x40 pixels but .*images/001.png is 40x32",
    ),
    "labels": (lambda f: values(0, 1, 2).save(f / "masks/001.png"), r"masks/001.png .*values 0, 1, 2; save it"),
    "1 and 255": (lambda f: values(0, 1, 255).save(f / "masks/001.png"), r"masks/001.png .*values 0, 1, 255; save it"),
    "no background, two levels": (lambda f: values(1, 255).save(f / "masks/001.png"), r"values 1, 255; save it"),
    "gray levels": (
        lambda f: values(*range(20)).save(f / "masks/001.png"),
        r"values 0, 1, 2, 3, 4, 5, \.\.\. \(20 different\)",
    ),
    "color": (
        lambda f: Image.new("RGB", (40, 32), "red").save(f / "masks/001.png"),
        r"masks/001.png is a mask of colors \(#ff0000\).*--object_color",
    ),
    "alpha": (
        lambda f: Image.new("RGBA", (40, 32), (255, 255, 255, 9)).save(f / "masks/001.png"),
        r"masks/001.png .*transparen",
    ),
    "one stem twice": (
        lambda f: Image.new("RGB", (40, 32)).save(f / "images/001.jpg"),
        r"images/001.png and 001.jpg have the same name",
    ),
    "several": (
        lambda f: [(f / "images" / name).write_bytes(b"") for name in ("000.png", "002.png")],
        r"images/000.png can't .*\(2 of 3 pairs in .* can't be used\)",
    ),
    "no image files": (lambda f: [p.unlink() for p in (f / "images").iterdir()], r"images holds no images"),
    "no mask folder": (
        lambda f: (f / "masks").rename(f / "annotations"),
        r"no sub-folder 'masks' \(sub-folders: annotations, images\); name one with --mask_column",
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders_raise_one_line_that_names_the_file(tmp_path, case):
    damage, expected = BAD_FOLDERS[case]
    damage(write_raw_folder(tmp_path, random_pairs(3)))
    with pytest.raises(InputError) as caught:
        load_pairs(str(tmp_path))
    message = str(caught.value)
    assert re.search(expected, message), message
    assert "\n" not in message


def test_every_file_of_a_raw_folder_is_decoded_when_it_is_loaded(tmp_path):
    write_raw_folder(tmp_path, random_pairs(3))
    truncate(tmp_path / "masks" / "002.png")
    with pytest.raises(InputError, match="002.png"):
        load_raw_folder(tmp_path, list_source(tmp_path, Reading())["train"])


def metadata(folder, *lines):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "metadata.jsonl").write_text(text)


def test_metadata_gives_the_pairs_and_more_columns(tmp_path):
    rows = random_pairs(3)
    write_raw_folder(tmp_path, rows)
    files = [{"file_name": f"images/{i:03d}.png", "mask_file_name": f"masks/{i:03d}.png"} for i in (2, 0)]
    metadata(tmp_path, {**files[0], "field": "north"}, "", {**files[1], "field": "south", "day": 12})
    pairs = load_pairs(str(tmp_path))
    assert same_pairs(pairs, [rows[2], rows[0]])
    assert pairs.column_names == ["image", "mask", "field", "day"]
    assert pairs["field"][:] == ["north", "south"]
    assert pairs["day"][:] == [None, 12]


def test_columns_name_fields_of_metadata(tmp_path):
    rows = random_pairs(1)
    write_raw_folder(tmp_path, rows)
    metadata(tmp_path, {"rgb_file_name": "images/000.png", "crop_file_name": "masks/000.png"})
    assert same_pairs(load_pairs(str(tmp_path), image_column="rgb", mask_column="crop"), rows)


PAIR = {"file_name": "images/000.png", "mask_file_name": "masks/000.png"}
BAD_METADATA = {
    "not JSON": ([PAIR, "{'file_name': 1}"], r"metadata.jsonl line 2 is not JSON"),
    "not an object": (["[1]"], r"metadata.jsonl line 1 has no text field 'file_name'"),
    "no mask": ([{"file_name": "images/000.png"}], r"metadata.jsonl line 1 has no text field 'mask_file_name'"),
    "parent folder": ([{**PAIR, "file_name": "../000.png"}], r"line 1: 'file_name' is '../000.png', outside"),
    "absolute path": (
        [{**PAIR, "mask_file_name": "/etc/x.png"}],
        r"line 1: 'mask_file_name' is '/etc/x.png', outside",
    ),
    "no such file": ([{**PAIR, "mask_file_name": "masks/9.png"}], r"masks/9.png can't be read .*no such file"),
    "mixed types": ([{**PAIR, "day": 1}, {**PAIR, "day": "Monday"}], r"metadata.jsonl mixes types in one field"),
    "no lines": ([""], r"metadata.jsonl has no lines"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata_raises_one_line(tmp_path, case):
    lines, expected = BAD_METADATA[case]
    metadata(write_raw_folder(tmp_path, random_pairs(1)), *lines)
    with pytest.raises(InputError) as caught:
        load_pairs(str(tmp_path))
    message = str(caught.value)
    assert re.search(expected, message), message
    assert "\n" not in message


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def relative(folder, listing):
    """The pairs of a listing, as paths in `folder`."""
    names = [(record.name, *record.mask_names) for record in listing.records]
    return [tuple(str(Path(name).relative_to(folder)) for name in those) for those in names]


ONE = ["images/012.jpg", "masks/012.png"]
# files, what the user says, the pairs by split
LAYOUTS = {
    "sub-folders": (
        [*ONE, "images/a/1.jpg", "masks/a/1.png"],
        {},
        {"train": [ONE, ["images/a/1.jpg", "masks/a/1.png"]]},
    ),
    "splits in the sub-folders": (
        ["images/train/1.jpg", "masks/train/1.png", "images/Val/a/1.jpg", "masks/Val/a/1.png"],
        {},
        {
            "train": [["images/train/1.jpg", "masks/train/1.png"]],
            "validation": [["images/Val/a/1.jpg", "masks/Val/a/1.png"]],
        },
    ),
    "sub-folders of splits": (
        ["training/images/1.jpg", "training/masks/1.png", "valid/images/1.jpg", "valid/masks/1.png"],
        {},
        {
            "train": [["training/images/1.jpg", "training/masks/1.png"]],
            "validation": [["valid/images/1.jpg", "valid/masks/1.png"]],
        },
    ),
    "other suffixes of files": (
        ["images/1.HEIC", "masks/1.gif", "images/2.jp2", "masks/2.avif", "images/a.b.jfif", "masks/a.b.tga"],
        {},
        {
            "train": [
                ["images/1.HEIC", "masks/1.gif"],
                ["images/2.jp2", "masks/2.avif"],
                ["images/a.b.jfif", "masks/a.b.tga"],
            ]
        },
    ),
    "a test folder beside": (
        [*ONE, "test/images/1.jpg", "test/masks/1.png"],
        {},
        {"train": [ONE], "test": [["test/images/1.jpg", "test/masks/1.png"]]},
    ),
    "suffix of masks": (
        ["images/012.jpg", "masks/012_mask.png"],
        {"mask_suffix": "_mask"},
        {"train": [["images/012.jpg", "masks/012_mask.png"]]},
    ),
    "suffix with the file's": (
        ["images/1.jpg", "masks/1-label.tif", "masks/1-label.png"],
        {"mask_suffix": "-label.png"},
        {"train": [["images/1.jpg", "masks/1-label.png"]]},
    ),
    "suffix, one folder": (
        ["012.jpg", "012_mask.png", "a/1.jpg", "a/1_MASK.png"],
        {"mask_suffix": "_mask"},
        {"train": [["012.jpg", "012_mask.png"], ["a/1.jpg", "a/1_MASK.png"]]},
    ),
    "suffix, one folder by name": (
        ["rgb/1.jpg", "rgb/1_m.png"],
        {"mask_suffix": "_m", "image_column": "rgb", "mask_column": "rgb"},
        {"train": [["rgb/1.jpg", "rgb/1_m.png"]]},
    ),
    "suffix, masks beside their images": (
        ["images/1.jpg", "images/1_m.png"],
        {"mask_suffix": "_m"},
        {"train": [["images/1.jpg", "images/1_m.png"]]},
    ),
    "suffix, splits": (
        ["train/1.jpg", "train/1_m.png", "test/1.jpg", "test/1_m.png"],
        {"mask_suffix": "_m"},
        {"test": [["test/1.jpg", "test/1_m.png"]], "train": [["train/1.jpg", "train/1_m.png"]]},
    ),
    "patterns": (
        ["rgb/7_photo.jpg", "rgb/7_depth.jpg", "labels/7.png"],
        {"image_pattern": "rgb/{name}_photo.jpg", "mask_pattern": "labels\\{name}"},
        {"train": [["rgb/7_photo.jpg", "labels/7.png"]]},
    ),
    "patterns of Cityscapes": (
        [
            "leftImg8bit/train/aachen/a_0_leftImg8bit.png",
            "gtFine/train/aachen/a_0_gtFine_labelIds.png",
            "gtFine/train/aachen/a_0_gtFine_color.png",
            "leftImg8bit/val/ulm/u_leftImg8bit.png",
            "gtFine/val/ulm/u_gtFine_labelIds.png",
        ],
        {"image_pattern": "leftImg8bit/{name}_leftImg8bit.png", "mask_pattern": "gtFine/{name}_gtFine_labelIds.png"},
        {
            "train": [["leftImg8bit/train/aachen/a_0_leftImg8bit.png", "gtFine/train/aachen/a_0_gtFine_labelIds.png"]],
            "validation": [["leftImg8bit/val/ulm/u_leftImg8bit.png", "gtFine/val/ulm/u_gtFine_labelIds.png"]],
        },
    ),
    "a folder per image": (
        ["5f/images/5f.png", "5f/masks/b.png", "5f/masks/a.png", "60/images/60.png", "60/masks/c.png"],
        {"image_pattern": "{name}/images/{name}", "mask_pattern": "{name}/masks/*", "merge_masks": True},
        {"train": [["5f/images/5f.png", "5f/masks/a.png", "5f/masks/b.png"], ["60/images/60.png", "60/masks/c.png"]]},
    ),
    "a folder per class": (
        ["images/1.jpg", "images/1_2.jpg", "masks/wheat/1.png", "masks/weed/1.png", "masks/weed/1_2.png"],
        {"mask_pattern": "masks/*/{name}.png", "merge_masks": True},
        {
            "train": [
                ["images/1.jpg", "masks/weed/1.png", "masks/wheat/1.png"],
                ["images/1_2.jpg", "masks/weed/1_2.png"],
            ]
        },
    ),
    "the mask without an ending": (
        ["1_rgb.jpg", "1.png"],
        {"image_pattern": "{name}_rgb", "mask_pattern": "{name}"},
        {"train": [["1_rgb.jpg", "1.png"]]},
    ),
    "patterns in splits": (
        ["train/rgb/1.jpg", "train/m/1.png", "val/rgb/1.jpg", "val/m/1.png"],
        {"image_pattern": "rgb/{name}", "mask_pattern": "m/{name}"},
        {"train": [["train/rgb/1.jpg", "train/m/1.png"]], "validation": [["val/rgb/1.jpg", "val/m/1.png"]]},
    ),
    "two files of a mask": ([*ONE, "masks/012.tif"], {"merge_masks": True}, {"train": [[*ONE, "masks/012.tif"]]}),
    "no mask, no object": ([*ONE, "images/013.jpg"], {"missing_masks": "empty"}, {"train": [ONE, ["images/013.jpg"]]}),
    "no mask, left out": ([*ONE, "images/013.jpg"], {"missing_masks": "skip"}, {"train": [ONE]}),
    "masks in the alpha channel": (
        ["images/1.png"],
        {"mask_column": "images", "mask_channel": "alpha"},
        {"train": [["images/1.png", "images/1.png"]]},
    ),
    "capital folders": (["Images/1.jpg", "MASKS/1.png"], {}, {"train": [["Images/1.jpg", "MASKS/1.png"]]}),
    "nested folders": (
        ["a/rgb/1.jpg", "a/m/1.png"],
        {"image_column": "a/rgb", "mask_column": "a\\m\\"},
        {"train": [["a/rgb/1.jpg", "a/m/1.png"]]},
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_are_listed(tmp_path, case):
    files, reading, expected = LAYOUTS[case]
    splits = list_source(touch(tmp_path, *files), Reading(**reading))
    found = {split: [list(pair) for pair in relative(tmp_path, listing)] for split, listing in splits.items()}
    assert found == expected
    assert not any(listing.suspicious for listing in splits.values())


@pytest.mark.parametrize(
    "files, reading, skipped",
    [
        (["images/1.jpg", "masks/1_m.png", "masks/1_color.png"], {"mask_suffix": "_m"}, ["masks/1_color.png"]),
        (["1.jpg", "1_m.png", "x/a.txt"], {"mask_suffix": "_m"}, ["x/a.txt"]),
        ([*ONE, "images/013.jpg"], {"missing_masks": "skip"}, ["images/013.jpg"]),
        ([*ONE, "images/notes.txt"], {}, ["images/notes.txt"]),
    ],
)
def test_files_that_are_not_read_are_named(tmp_path, files, reading, skipped):
    listing = list_source(touch(tmp_path, *files), Reading(**reading))["train"]
    assert len(listing.records) == 1
    assert [name for names in listing.skipped.values() for name in names] == skipped


def test_splits_beside_other_sub_folders_are_suspicious(tmp_path):
    touch(tmp_path, *ONE, "images/val/1.jpg", "masks/val/1.png")
    listing = list_source(tmp_path, Reading())["train"]
    assert len(listing.records) == 2
    assert listing.suspicious == {"in a folder named after a split, beside others": ["val/1"]}


@pytest.mark.parametrize(
    "files",
    [["a.txt"], ["1.jpg", "1_mask.png"], ["data/train-00000.parquet"], ["north/images/1.jpg", "north/masks/1.png"]],
)
def test_other_folders_are_no_raw_folders(tmp_path, files):
    assert list_source(touch(tmp_path, *files), Reading()) is None


REFUSED = {
    "an ending that all masks have": (
        ["images/1.jpg", "images/2.jpg", "masks/1-mask.png", "masks/2-mask.png"],
        {"missing_masks": "error"},
        r"images/1.jpg has no mask in .*masks \(2 such files\).*ends in '-mask'; give prepare --mask_suffix=-mask",
    ),
    "nearest name": (
        [*ONE, "images/013.jpg", "masks/013-mask.png"],
        {},
        r"images/013.jpg has no mask .*empty or skip; did you mean masks/013-mask.png\? Rename .*suffix=-mask",
    ),
    "masks without a photo": (
        [*ONE, "images/field_13.jpg", "masks/feild_13.png"],
        {"missing_masks": "empty"},
        r"masks/feild_13.png has no image in .*images; .*nearest name is images/field_13.jpg",
    ),
    "two masks": ([*ONE, "masks/012.tif"], {}, r"masks/012.png and masks/012.tif are both masks of .*--merge"),
    "two masks by pattern": (
        ["images/1.jpg", "masks/1_a.png", "masks/1_b.png"],
        {"mask_pattern": "masks/{name}_*"},
        r"masks/1_a.png and masks/1_b.png are both masks of images/1.jpg",
    ),
    "a mask of two photos": (
        ["images/1.jpg", "images/10.jpg", "masks/10_a.png", "masks/1_a.png"],
        {"mask_pattern": "masks/{name}*"},
        r"masks/10_a.png may be the mask of images/1.jpg or of images/10.jpg",
    ),
    "two photos of a name": (["images/1.jpg", "images/1.png", "masks/1.png"], {}, r"same name; .*--image_pattern"),
    "train twice": (
        [*ONE, "train/images/1.jpg", "train/masks/1.png"],
        {},
        r"train and .* both hold the split 'train'",
    ),
    "val and valid": (
        [f"{split}/{kind}/1.png" for split in ("val", "valid") for kind in ("images", "masks")],
        {},
        r"valid and .*val both hold the split 'validation'",
    ),
    "pattern without a name": (ONE, {"image_pattern": "images/*.jpg"}, r"images/\*.jpg, without \{name\}"),
    "star in the pattern of images": (ONE, {"image_pattern": "*/{name}.jpg"}, r"--image_pattern is .*\* is for masks"),
    "pattern outside": (ONE, {"image_pattern": "../{name}"}, r"--image_pattern is ../\{name\}, outside"),
    "absolute pattern": (ONE, {"mask_pattern": "C:\\{name}"}, r"--mask_pattern is .*, outside"),
    "pattern of nothing": (ONE, {"image_pattern": "images/{name}.tif"}, r"no image that matches --image_pattern"),
    "pattern of no folder": (ONE, {"image_pattern": "photos/{name}"}, r"no image that matches --image_pattern"),
    "pattern of no folder of masks": (ONE, {"mask_pattern": "m/{name}"}, r"no folder m/, as --mask_pattern says"),
    "pattern of no masks": (ONE, {"mask_pattern": "masks/{name}_x"}, r"no mask that matches masks/\{name\}_x"),
    "equal patterns": (["1.jpg"], {"image_pattern": "{name}", "mask_pattern": "{name}"}, r"both \{name\}; name two"),
    "patterns of one file": (
        ["ab.jpg"],
        {"image_pattern": "a{name}", "mask_pattern": "{name}b"},
        r"ab.jpg matches a\{name\} and \{name\}b",
    ),
    "suffix and pattern": (ONE, {"mask_suffix": "_m", "mask_pattern": "{name}_m"}, r"both say what masks are called"),
    "one folder": (ONE, {"mask_column": "images"}, r"images and masks are both images/\{name\}"),
    "folder outside": (
        ["a/images/1.jpg", "m/1.png"],
        {"mask_column": "../masks", "image_column": "../images"},
        r"--image_column is ../images, outside",
    ),
    "missing folder": (ONE, {"mask_column": "labels"}, r"no sub-folder 'labels' \(sub-folders: images, masks\)"),
    "splits without masks": (["train/images/1.jpg"], {}, r"train has no sub-folder 'masks'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pairs_that_are_not_certain_are_refused(tmp_path, case):
    files, reading, expected = REFUSED[case]
    folder = touch(tmp_path / "set", *files)
    touch(tmp_path, "images/1.jpg")
    with pytest.raises(InputError) as caught:
        list_source(folder, Reading(**reading))
    message = str(caught.value)
    assert re.search(expected, message), message
    assert message.splitlines() == [message]


def test_loading_names_in_the_log_what_is_not_read_or_suspicious(tmp_path, caplog):
    rows = random_pairs(2)
    write_raw_folder(tmp_path, rows)
    (tmp_path / "images" / "001.png").rename(tmp_path / "images" / "001.PNG")
    (tmp_path / "images" / "000.png").rename(tmp_path / "images" / "A.png")
    (tmp_path / "masks" / "000.png").rename(tmp_path / "masks" / "a.png")
    touch(tmp_path, "masks/notes.txt", "masks/more.txt")
    with caplog.at_level("INFO", logger="synthset"):
        assert same_pairs(load_pairs(str(tmp_path)), [rows[1], rows[0]])
    assert [(record.levelname, record.message.removeprefix(f"{tmp_path}: ")) for record in caplog.records] == [
        ("WARNING", "names that differ in case: images/A.png and masks/a.png"),
        ("INFO", "files that are no images: masks/more.txt and 1 more"),
    ]


class NoDrawing:
    size, name = None, "1.json"

    def label_map(self, size, window=None):
        raise AssertionError("not drawn")


def test_only_one_mask_per_photo_is_loaded_without_prepare(tmp_path):
    photo = {"path": str(tmp_path / "1.jpg"), "bytes": None}
    masks = {"drawn": NoDrawing(), "several": (photo, photo), "none": ()}
    for records in ([Record(photo, mask, "1.jpg")] for mask in masks.values()):
        with pytest.raises(InputError, match="holds LabelMe; convert it first: synthset prepare --dataset"):
            load_raw_folder(tmp_path, Listing("LabelMe", records))
