import json
import re

import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import load_pairs
from synthset.errors import InputError
from synthset.sources.folder import list_source, load_raw_folder
from synthset.sources.reading import Reading

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
        (Image.new("RGBA", (4, 3), (10, 20, 30, 5)), (10, 20, 30)),
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
        r"images/001.png has mode 'I;16'.*8-bit",
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
        r"masks/001.png is a mask of mode 'RGB' with color",
    ),
    "alpha": (
        lambda f: Image.new("RGBA", (40, 32), "white").save(f / "masks/001.png"),
        r"masks/001.png is a mask of mode 'RGBA' with color or transparency",
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
