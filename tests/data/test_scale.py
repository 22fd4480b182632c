"""Sizes of images and the crop size."""

import io
import runpy
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.data import load_pairs, load_train_validation, resolve_crop_size, smallest_side
from synthset.data.scale import image_sizes
from synthset.errors import InputError


def parquet_folder(folder, images):
    """A dataset of undecoded images, with masks that are not looked at."""
    rows = [{"image": {"bytes": image, "path": None}, "mask": {"bytes": b"", "path": None}} for image in images]
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    (folder / "data").mkdir(parents=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(
        str(folder / "data" / "train-00000-of-00001.parquet")
    )
    return str(folder)


def encoded(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def test_crop_size_fits_all_images(tmp_path, caplog):
    small = load_pairs(str(write_raw_folder(tmp_path / "small", random_pairs(2, size=(40, 32)))))
    large = load_pairs(str(write_raw_folder(tmp_path / "large", random_pairs(1, size=(600, 520)))))
    assert smallest_side(small) == 32
    assert resolve_crop_size(None, large) == 512 and not caplog.records
    assert resolve_crop_size(None, large, small) == 32
    assert "crop_size is 32" in caplog.text
    assert resolve_crop_size(24, small) == 24
    with pytest.raises(InputError, match="--crop_size 33 is larger than the smallest image side, 32") as caught:
        resolve_crop_size(33, large, small)
    assert f"{tmp_path}/small/images/000.png (2 of 3 images are below 33)" in str(caught.value)
    assert f"512, of {tmp_path}" not in caplog.text
    assert f"32, of {tmp_path}/small/images/000.png (2 of 3 images are below 512)" in caplog.text


def test_a_few_small_images_do_not_decide_the_crop_of_all(tmp_path, caplog):
    rows = random_pairs(4, size=(100, 90)) + random_pairs(1, size=(40, 44))
    source = str(write_raw_folder(tmp_path, rows))
    expected = r"side is 40, of .*images/004\.png \(1 of 5 images are below 90\); remove .*--crop_size 40"
    with pytest.raises(InputError, match=expected):
        resolve_crop_size(None, load_pairs(source))
    train, validation = load_train_validation(source, None, None, validation_fraction=0.2, seed=0)
    with pytest.raises(InputError, match=expected):
        resolve_crop_size(None, train, validation)
    assert resolve_crop_size(40, train, validation) == 40
    rows[4]["image"].resize((46, 45)).save(tmp_path / "images" / "004.png")
    rows[4]["mask"].resize((46, 45)).save(tmp_path / "masks" / "004.png")
    assert resolve_crop_size(None, load_pairs(source)) == 45 and "(5 of 5 images are below 512)" in caplog.text
    stored = parquet_folder(tmp_path / "stored", [encoded(row["image"]) for row in rows])
    with pytest.raises(InputError, match=r"side is 40, of the image of row 4 of .*/stored \(1 of 5"):
        resolve_crop_size(None, load_pairs(stored))


def rotated():
    """EXIF of a photo that is turned clockwise by 90 degrees when shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def test_sizes_are_of_upright_pictures_and_read_without_decoding(tmp_path):
    photo = Image.new("RGB", (40, 24))
    late = encoded(photo, exif=rotated())
    place = late.index(b"eXIf") - 4
    chunk, end = late[place : place + int.from_bytes(late[place : place + 4], "big") + 12], late.index(b"IEND") - 4
    late = late.replace(chunk, b"")
    late = late[: end - len(chunk)] + chunk + late[end - len(chunk) :]  # EXIF after the pixels, as PNG allows
    turned = [encoded(photo, form, exif=rotated()) for form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")] + [late]
    source = parquet_folder(tmp_path, [encoded(random_pairs(1)[0]["image"])[:200], encoded(photo), *turned])
    pairs = load_pairs(source)
    assert image_sizes(pairs) == [(40, 32), (40, 24)] + [(24, 40)] * 6
    assert smallest_side(pairs) == 24
    with pytest.raises(InputError, match="the image of row 0 of .* can't be read"):
        pairs[0]


def test_a_row_without_the_header_of_an_image_is_named(tmp_path):
    good = encoded(Image.new("RGB", (40, 24)))
    pairs = load_pairs(parquet_folder(tmp_path, [good, good, b"hello"]))
    for read in (image_sizes, smallest_side, lambda pairs: resolve_crop_size(None, pairs)):
        with pytest.raises(
            InputError, match="^the image of row 2 of .* can't be read as an image: 5 bytes in no image"
        ):
            read(pairs)


def test_crops_of_a_report_cover_upright_photos(tmp_path):
    """Phone photos whose masks are upright: squares of stored sizes would leave them, and be black."""
    folder = write_raw_folder(tmp_path, random_pairs(1, size=(32, 64)))
    upright = Image.new("RGB", (32, 64), (250, 240, 230))
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "images" / "000.png", exif=rotated())
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "report.py"))
    images, masks, photos, complete = script["cut"](load_pairs(str(folder)), 32, 32, num_samples=9, seed=0)
    assert images.shape == (2, 32, 32, 3) and complete and photos.tolist() == [0, 0]
    assert images.reshape(-1, 3).min(axis=0).tolist() == [250, 240, 230]
    mask = np.asarray(Image.open(folder / "masks" / "000.png")) > 0
    assert np.array_equal(masks, np.stack([mask[:32], mask[32:]]))
