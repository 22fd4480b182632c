"""Lists of pairs, as office programs, pandas and the Hub's datasets write them."""

import json
import os
import re
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import load_pairs
from synthset.errors import InputError
from synthset.sources.folder import list_source
from synthset.sources.lists import read_text, typed
from synthset.sources.reading import Reading


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("rgb/1.jpg", "rgb/2.jpg", "rgb/ähre.jpg", "m/1.png", "m/2.png", "m/ähre.png", "m/2_b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    return tmp_path / "set"


def pairs_of(folder: Path, listing) -> list[tuple[str, ...]]:
    return [
        tuple(os.path.relpath(name, folder) for name in (record.name, *record.mask_names)) for record in listing.records
    ]


def list_text(folder: Path, text: str | bytes, name: str = "list.csv", **reading):
    """Lists the folder by a file of `text` beside it."""
    path = folder.parent / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list_source(folder, Reading(pairs_list=str(path), **reading))


THREE = [("rgb/1.jpg", "m/1.png"), ("rgb/2.jpg", "m/2.png"), ("rgb/ähre.jpg", "m/ähre.png")]
ROWS = "rgb/1.jpg,m/1.png,007\nrgb/2.jpg,m/2.png,008\nrgb/ähre.jpg,m/ähre.png,009\n"
CSV = "file_name,mask_file_name,plot\n" + ROWS
TEXTS = {
    "plain": CSV,
    "no line end": CSV.rstrip(),
    "byte order mark": b"\xef\xbb\xbf" + CSV.encode(),
    "UTF-16 little": CSV.encode("utf-16"),
    "UTF-16 big": b"\xfe\xff" + CSV.encode("utf-16-be"),
    "CRLF": CSV.replace("\n", "\r\n"),
    "CR": CSV.replace("\n", "\r"),
    "semicolons": CSV.replace(",", ";"),
    "tabs": CSV.replace(",", "\t"),
    "sep=": "sep=;\r\n" + CSV.replace(",", ";").replace("\n", "\r\n"),
    "quotes": re.sub("([^,\n]+)", r'"\1"', CSV),
    "quotes and semicolons": re.sub("([^;\n]+)", r'"\1"', CSV.replace(",", ";")),
    "empty lines": "\n" + CSV.replace("\n", "\n\n") + ",,\n\n",
    "spaces": CSV.replace(",", " , "),
    "empty columns": "\n".join(line + ",," for line in CSV.splitlines()),
    "header in capitals": CSV.replace("file_name,mask_file_name", "File_Name,MASK_FILE_NAME"),
    "backslashes": CSV.replace("/", "\\"),
    "dots": CSV.replace("rgb/", "./rgb/"),
    "NFD": CSV.replace("ä", "a\u0308"),
    "image, mask": CSV.replace("file_name,mask_file_name", "image,mask"),
    "image, conditioning_image": CSV.replace("file_name,mask_file_name", "image,conditioning_image"),
    "image_path, mask_path": CSV.replace("file_name,mask_file_name", "image_path,mask_path"),
    "pandas index": ",file_name,mask_file_name,plot\n" + "".join(f"{i},{r}\n" for i, r in enumerate(ROWS.splitlines())),
}


@pytest.mark.parametrize("case", TEXTS)
def test_csv_of_any_program(folder, case):
    listing = list_text(folder, TEXTS[case])["train"]
    assert pairs_of(folder, listing) == THREE
    assert [record.columns for record in listing.records] == [{"plot": f"00{i}"} for i in (7, 8, 9)]
    assert listing.skipped == {"images that list.csv does not name": ["m/2_b.png"]}
    assert not listing.suspicious


PLOTS = {"file_name": [i for i, _ in THREE], "mask_file_name": [m for _, m in THREE], "plot": ["007", "008", "009"]}
WRITERS = {
    "pandas.csv": lambda frame, path: frame.to_csv(path, index=False),
    "index.csv": lambda frame, path: frame.to_csv(path),
    "semicolons.csv": lambda frame, path: frame.to_csv(path, sep=";", encoding="utf-8-sig", lineterminator="\r\n"),
    "tabs.tsv": lambda frame, path: frame.to_csv(path, sep="\t", encoding="utf-16"),
    "lines.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "unicode.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True, force_ascii=False),
    "table.parquet": lambda frame, path: frame.to_parquet(path),
    "index.parquet": lambda frame, path: frame.sort_values("plot").iloc[[0, 1, 2]].to_parquet(path, index=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_lists_that_pandas_writes(folder, name):
    WRITERS[name](pandas.DataFrame(PLOTS), folder.parent / name)
    listing = list_source(folder, Reading(pairs_list=str(folder.parent / name)))["train"]
    assert pairs_of(folder, listing) == THREE
    assert [record.columns for record in listing.records] == [{"plot": f"00{i}"} for i in (7, 8, 9)]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_of_datasets_gives_what_datasets_reads(tmp_path, name):
    rows = random_pairs(3)
    write_raw_folder(tmp_path, rows)
    numbers = [0, 1, 2]
    frame = pandas.DataFrame(
        {
            "file_name": [f"images/00{i}.png" for i in numbers],
            "mask_file_name": [f"masks/00{i}.png" for i in numbers],
            "day": [12, 13, 14],
            "height": [0.5, 1.25, 2.0],
        }
    )
    write = {"csv": frame.to_csv, "parquet": frame.to_parquet}.get(name.rpartition(".")[2])
    if write:
        write(tmp_path / name, index=False)
    else:
        frame.to_json(tmp_path / name, orient="records", lines=True)
    pairs = load_pairs(str(tmp_path))
    assert same_pairs(pairs, rows)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train")
    assert pairs.column_names == ["image", "mask", "day", "height"]
    assert [list(pairs[column]) for column in ("day", "height")] == [list(theirs[c]) for c in ("day", "height")]
    assert all(np.array_equal(ours["image"], other["image"]) for ours, other in zip(pairs, theirs, strict=True))


def test_columns_with_flags(folder):
    text = "photo,annotation,mask\nrgb/1.jpg,m/1.png,old\n"
    listing = list_text(folder, text, image_column="photo", mask_column="annotation")["train"]
    assert pairs_of(folder, listing) == THREE[:1]
    assert listing.records[0].columns == {}
    assert listing.suspicious == {"columns of this name that are not the pairs'": ["mask"]}


def test_a_column_split_gives_the_splits(folder):
    text = CSV.replace("plot", "Split").replace("007", "Train").replace("008", "val").replace("009", "test")
    splits = list_text(folder, text)
    assert {split: pairs_of(folder, listing) for split, listing in splits.items()} == {
        "train": THREE[:1],
        "validation": THREE[1:2],
        "test": THREE[2:],
    }
    assert [record.columns for listing in splits.values() for record in listing.records] == [{}] * 3
    assert [len(listing.skipped) for listing in splits.values()] == [1, 0, 0]


@pytest.mark.parametrize(
    "text, name",
    [
        ("image,mask,x\nrgb/2.jpg,m/2.png,a\nrgb/1.jpg,m/1.png,\nrgb/2.jpg,m/2_b.png,a\n", "list.csv"),
        (
            '{"file_name": "rgb/2.jpg", "mask_file_names": ["m/2.png", "m/2_b.png"], "x": "a"}\n'
            '{"file_name": "rgb/1.jpg", "mask_file_names": ["m/1.png"]}\n',
            "list.jsonl",
        ),
    ],
)
def test_several_masks_need_a_flag(folder, text, name):
    with pytest.raises(InputError, match=r"several masks of rgb/2.jpg: m/2.png .* m/2_b.png .*--merge_masks"):
        list_text(folder, text, name)
    listing = list_text(folder, text, name, merge_masks=True)["train"]
    assert pairs_of(folder, listing) == [("rgb/2.jpg", "m/2.png", "m/2_b.png"), ("rgb/1.jpg", "m/1.png")]
    assert [record.columns for record in listing.records] == [{"x": "a"}, {"x": None}]


def test_photos_without_a_mask_need_a_flag(folder):
    text = "image,mask\nrgb/1.jpg,m/1.png\nrgb/2.jpg,\nrgb/ähre.jpg\n"
    expected = r"line 3 has no text field 'mask' \(2 such rows\).*rgb/2.jpg.*--missing_masks"
    with pytest.raises(InputError, match=expected):
        list_text(folder, text)
    empty = list_text(folder, text, missing_masks="empty")["train"]
    assert pairs_of(folder, empty) == [("rgb/1.jpg", "m/1.png"), ("rgb/2.jpg",), ("rgb/ähre.jpg",)]
    skip = list_text(folder, text, missing_masks="skip")["train"]
    assert pairs_of(folder, skip) == THREE[:1]
    assert skip.skipped["photos without a mask"] == ["rgb/2.jpg", "rgb/ähre.jpg"]


def test_one_mask_of_two_photos_and_other_case_are_suspicious(folder):
    listing = list_text(folder, "image,mask\nRGB/1.JPG,m/1.png\nrgb/2.jpg,m/1.png\n")["train"]
    assert pairs_of(folder, listing) == [("rgb/1.jpg", "m/1.png"), ("rgb/2.jpg", "m/1.png")]
    assert listing.suspicious == {
        "names that differ in case": ["RGB/1.JPG and rgb/1.jpg"],
        "masks of several photos": ["m/1.png"],
    }


def line(**fields) -> str:
    return json.dumps({"file_name": "rgb/1.jpg", "mask_file_name": "m/1.png", **fields}) + "\n"


BAD_LISTS = {
    "cp1252": ("list.csv", CSV.encode("cp1252"), r"list.csv line 4 is not UTF-8 \(byte 0xe4\); save it as UTF-8"),
    "half of UTF-16": ("list.csv", CSV.encode("utf-16")[:-1], r"list.csv line \d+ is not UTF-16"),
    "no rows": ("list.csv", "image,mask\n", r"list.csv has no lines"),
    "empty file": ("list.csv", "", r"list.csv has no lines"),
    "zeros": ("list.csv", b"\0" * 50, r"list.csv"),
    "open quote": ("list.csv", 'image,mask\n"rgb/1.jpg,m/1.png\n', r"list.csv line 2 is not a line of a table"),
    "huge field": ("list.csv", "image,mask\n" + "a" * 200_000, r"list.csv line 2 is not a line of a table"),
    "columns twice": ("list.csv", "image,mask,mask\na,b,c\n", r"two columns named mask"),
    "values without a name": ("list.csv", "image,mask,\na,b,c\n", r"values in column 3 without a name"),
    "too many values": (
        "list.csv",
        "image,mask\nrgb/1.jpg,m/1.png,\nrgb,1.jpg,m/1.png\n",
        "3 has 3 values for 2",
    ),
    "no columns": ("list.csv", "a,b\n1,2\n", r"line 2 has no text field 'file_name' .*fields: a, b.*--image_column"),
    "no masks": ("list.csv", "image,b\nrgb/1.jpg,2\n", r"line 2 has no text field 'mask_file_name'.*--mask_column"),
    "two columns": (
        "list.csv",
        "image,mask,conditioning_image\na,b,c\n",
        "'mask' and 'conditioning_image'; say",
    ),
    "no image": ("list.csv", "image,mask\n,m/1.png\n", r"line 2 has no text field 'image'"),
    "a number": ("list.jsonl", line(mask_file_name=7), r"line 1 has no text field 'mask_file_name'"),
    "a dict": ("list.jsonl", line(file_name={"bytes": ""}), r"line 1 has no text field 'file_name'"),
    "list of numbers": ("list.jsonl", line(mask_file_name=[1]), r"line 1 has no text field 'mask_file_name'"),
    "deep JSON": ("list.jsonl", "[" * 100_000, r"line 1 is not JSON"),
    "long number": ("list.jsonl", '{"x": ' + "9" * 5000 + "}", r"line 1 is not JSON"),
    "large number": (
        "list.jsonl",
        line(x=2**70),
        "mixes types in one field or holds what can't be stored: x",
    ),
    "empty object": ("list.jsonl", line(x={}), r"holds what can't be stored: x"),
    "half a surrogate pair": ("list.jsonl", line(x="\ud800"), r"holds what can't be stored: x"),
    "surrogate in a name": ("list.jsonl", line(file_name="\ud800"), r"'\\ud800' has bytes that are not UTF-8"),
    "line end in a name": ("list.jsonl", line(file_name="a\nb"), r"'a\\nb' has a control character"),
    "Windows path": ("list.csv", "image,mask\nC:\\rgb\\1.jpg,m/1.png\n", r"'image' is 'C:\\\\rgb\\\\1.jpg', outside"),
    "share": ("list.csv", "image,mask\n\\\\host\\x\\1.jpg,m/1.png\n", r"outside"),
    "parent": ("list.csv", "image,mask\nrgb/..\\..\\1.jpg,m/1.png\n", r"outside"),
    "address": ("list.csv", "image,mask\nhttps://host/1.jpg,m/1.png\n", r"outside"),
    "bare name": ("list.csv", "image,mask\n1.jpg,m/1.png\n", r"1.jpg can't be read .*did you mean rgb/1.jpg\?"),
    "near name": ("list.csv", "image,mask\nrgb/1.jpg,m/2c.png\n", r"m/2c.png .*no such file; did you mean"),
    "folder": ("list.csv", "image,mask\nrgb/1.jpg,m\n", r"set/m can't be read .*a folder"),
    "long name": ("list.csv", "image,mask\nrgb/1.jpg," + "x" * 5000, r"no such file"),
    "itself": ("list.csv", "image,mask\nrgb/1.jpg,rgb/1.jpg\n", r"line 2 names rgb/1.jpg as image and as mask"),
    "twice": ("list.csv", "image,mask\nrgb/1.jpg,m/1.png\nrgb/1.jpg,m/1.png\n", r"line 3 repeats line 2"),
    "two splits": (
        "list.csv",
        "image,mask,split\nrgb/1.jpg,m/1.png,train\nrgb/1.jpg,m/2.png,val\n",
        r"rgb/1.jpg in the split train \(line 2\) and in validation \(line 3\)",
    ),
    "no split": ("list.csv", "image,mask,split\nrgb/1.jpg,m/1.png,\n", r"line 2 has None in its column 'split'"),
    "odd split": ("list.csv", "image,mask,split\nrgb/1.jpg,m/1.png,a/b\n", r"line 2 has a/b in its column 'split'"),
    "not Parquet": ("list.parquet", b"PAR1" + b"x" * 100 + b"PAR1", r"list.parquet can't be read as Parquet"),
    "workbook": ("list.xlsx", b"PK", r"list.xlsx is no list; save it as .csv, .tsv, .jsonl or .parquet"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists_raise_one_line_that_names_the_file(folder, case):
    name, text, expected = BAD_LISTS[case]
    with pytest.raises(InputError) as caught:
        list_text(folder, text, name)
    message = str(caught.value)
    assert re.search(expected, message), message
    assert message.splitlines() == [message]


@pytest.mark.parametrize("path", ["missing.csv", ".", "a\0b.csv", "~nobody/x.csv"])
def test_a_list_that_is_no_file(folder, path):
    with pytest.raises(InputError, match=r"--pairs_list|rename"):
        list_source(folder, Reading(pairs_list=path))


def test_damaged_parquet_raises_one_line(folder):
    path = folder / "metadata.parquet"
    pandas.DataFrame(PLOTS).to_parquet(path)
    whole = path.read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole[: rng.integers(len(whole))] if seed % 3 == 0 else whole)
        for position in rng.integers(0, len(damaged), 4) if damaged else []:
            damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            list_source(folder, Reading())
        except InputError as error:
            assert len(str(error).splitlines()) == 1


def test_two_lists_are_refused_and_other_tables_are_not_lists(folder):
    (folder / "metadata.csv").write_text(CSV)
    (folder / "metadata.jsonl").write_text('{"camera": "left"}\n')
    splits = list_source(folder, Reading())
    assert pairs_of(folder, splits["train"]) == THREE
    (folder / "metadata.jsonl").write_text(line())
    with pytest.raises(InputError, match="metadata.jsonl and metadata.csv both list pairs"):
        list_source(folder, Reading())


def test_a_table_without_files_leaves_matching_to_names(tmp_path):
    write_raw_folder(tmp_path, random_pairs(2))
    (tmp_path / "metadata.csv").write_text("camera,day\nleft,2\n")
    listing = list_source(tmp_path, Reading())["train"]
    assert len(listing.records) == 2
    assert listing.skipped == {"lists without columns of images and masks": ["metadata.csv"]}


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["1", "-20", ""], [1, -20, None]),
        (["1", "2.50"], [1.0, 2.5]),
        (["007", "8"], ["007", "8"]),
        (["1,5", "2"], ["1,5", "2"]),
        (["1e5", "2"], ["1e5", "2"]),
        (["9" * 19], ["9" * 19]),
        (["nan"], ["nan"]),
        (["", ""], [None, None]),
        (["2024-05-01"], ["2024-05-01"]),
    ],
)
def test_types_of_cells(cells, expected):
    values = typed(cells)
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]


def test_text_is_decoded_as_marked(tmp_path):
    for text, encoding in (("ä\u2028b", "utf-8"), ("ä", "utf-8-sig"), ("ä", "utf-16")):
        (tmp_path / "x").write_bytes(text.encode(encoding))
        assert read_text(tmp_path / "x") == text


def test_line_separators_in_json_do_not_end_lines(tmp_path):
    write_raw_folder(tmp_path, random_pairs(1))
    fields = {"file_name": "images/000.png", "mask_file_name": "masks/000.png", "note": "a\u2028b\x85c"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(fields, ensure_ascii=False) + "\n")
    assert load_pairs(str(tmp_path))["note"][:] == ["a\u2028b\x85c"]


def test_masks_in_the_alpha_channel_of_listed_photos(tmp_path):
    Image.new("RGBA", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "metadata.csv").write_text("image,mask\n1.png,1.png\n")
    listing = list_source(tmp_path, Reading(mask_channel="alpha"))["train"]
    assert pairs_of(tmp_path, listing) == [("1.png", "1.png")]
