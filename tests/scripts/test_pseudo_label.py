"""`pseudo_label.py` as users run it: pairs with confidence from a folder or a video."""

import runpy
import shutil
import sys

import av
import numpy as np
import pytest
import rasterio
import torch
from datasets import load_dataset
from PIL import Image
from testing_utils.pairs import random_pairs, write_orthomosaic
from testing_utils.runs import ROOT

from synthset import InputError
from synthset.data import load_pairs
from synthset.data.growing import HIDDEN
from synthset.segmentation import Segmenter, build_segmenter, confidence

SCRIPT = ROOT / "scripts" / "pseudo_label.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A segmenter with random weights, whose threshold is in the middle of its probabilities."""
    torch.manual_seed(0)
    segmenter = build_segmenter("unet", "mobilenet_v2", None, resolution=32, crop_size=24)
    segmenter.threshold = float(np.median(segmenter.predict(random_pairs(1)[0]["image"])))
    folder = tmp_path_factory.mktemp("runs") / "seed-0"
    folder.mkdir()
    segmenter.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven images of three sizes, one of them gray, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for i, size in enumerate([(40, 32), (24, 24), (50, 30), (40, 32), (24, 60), (40, 32), (20, 20)]):
        image = random_pairs(1, size, seed=i)[0]["image"]
        (image.convert("L") if i == 3 else image).save(folder / f"photo-{i}.png")
    (folder / "notes.txt").write_text("sunny")
    return folder


def run(model, images, output_dir, **changes):
    values = {"model": model, "images": images, "output_dir": output_dir, "samples_per_shard": 3, **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *(f"--{name}={value}" for name, value in values.items())])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return load_dataset(str(output_dir), split="train") if (output_dir / "data").exists() else None


@pytest.fixture(scope="module")
def labeled(model, photos, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("labeled")
    return output_dir, run(model, photos, output_dir)


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_masks_and_confidences_are_the_models(labeled, model, photos):
    output_dir, pairs = labeled
    assert pairs["source"][:] == [f"photo-{i}.png" for i in range(7)]
    segmenter = Segmenter.from_pretrained(model)
    for row in pairs:
        image = Image.open(photos / row["source"]).convert("RGB")
        probability = segmenter.predict(image)
        mask = probability > segmenter.threshold
        assert np.array_equal(row["image"], image) and np.array_equal(row["mask"], mask * np.uint8(255))
        assert row["confidence"] == pytest.approx(confidence(probability, mask))
        assert row["coverage"] == pytest.approx(mask.mean()) and 0 < mask.mean() < 1
    assert len(load_pairs(str(output_dir))) == 7  # with masks as the project wants them
    card = (output_dir / "README.md").read_text()
    assert "7 of 7 images" in card and "expected Dice of the mask" in card
    assert Image.open(output_dir / "preview.png").width == 7 * 194 + 2


def test_a_killed_run_continues(labeled, model, photos, tmp_path):
    output_dir, _ = labeled
    expected = shards(output_dir)
    assert list(expected) == [f"train-0000{i}.parquet" for i in range(3)]
    run(model, photos, tmp_path / "again")
    (tmp_path / "again" / "data" / "train-00001.parquet").unlink()
    (tmp_path / "again" / "README.md").unlink()
    kept = (tmp_path / "again" / "data" / "train-00002.parquet").stat().st_mtime_ns
    run(model, photos, tmp_path / "again")
    assert shards(tmp_path / "again") == expected
    assert (tmp_path / "again" / "data" / "train-00002.parquet").stat().st_mtime_ns == kept
    assert (tmp_path / "again" / "README.md").exists()


def test_what_is_not_finished_is_not_found(labeled, model, photos, tmp_path):
    """Stopped in the second of three files, by a photo that can't be read."""
    mine, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, mine)
    (mine / "photo-4.png").write_bytes(b"half a photo")
    with pytest.raises(SystemExit):
        run(model, mine, out)
    with pytest.raises(InputError, match="is not finished; rerun the command that writes it"):
        load_pairs(str(out))
    assert len(list((out / HIDDEN / "data").glob("*.parquet"))) == 1
    shutil.copy(photos / "photo-4.png", mine)
    run(model, mine, out)
    assert shards(out) == shards(labeled[0]) and not (out / HIDDEN).exists()


def test_pairs_below_the_minimum_are_left_out(labeled, model, photos, tmp_path, capsys):
    everything = labeled[1].select_columns(["source", "confidence"])
    minimum = sorted(everything["confidence"])[3]
    kept = run(model, photos, tmp_path / "sure", min_confidence=minimum - 1e-6)
    assert kept["source"][:] == [row["source"] for row in everything if row["confidence"] >= minimum]
    assert len(kept) == 4
    with pytest.raises(SystemExit):
        run(model, photos, tmp_path / "surer", min_confidence=1)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: --min_confidence is 1.0, which none of 7 images reaches")


def test_frames_of_a_video(model, tmp_path):
    with av.open(str(tmp_path / "field.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in range(0, 200, 20):
            frame = np.full((32, 48, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    pairs = run(model, tmp_path / "field.mp4", tmp_path / "labeled", video_every=4)
    assert pairs["source"][:] == ["field.mp4#0", "field.mp4#4", "field.mp4#8"]
    assert np.allclose([np.mean(image) for image in pairs["image"]], [0, 80, 160], atol=4)


@pytest.fixture(scope="module")
def orthomosaic(tmp_path_factory):
    """150 x 100 pixels, without data in a corner."""
    bands = np.moveaxis(np.asarray(random_pairs(1, (150, 100))[0]["image"]), 2, 0).clip(1)
    bands[:, :40, :50] = 0
    path = tmp_path_factory.mktemp("maps") / "field.tif"
    return write_orthomosaic(path, bands, nodata=0, photometric="RGB"), bands


def expected_mask(model, bands):
    segmenter = Segmenter.from_pretrained(model)
    return segmenter.predict(Image.fromarray(np.moveaxis(bands, 0, 2))) > segmenter.threshold


def test_an_orthomosaic_gets_a_mask_of_its_size_and_place(model, orthomosaic, tmp_path, capsys):
    path, bands = orthomosaic
    assert run(model, path, tmp_path) is None
    assert {file.name for file in tmp_path.iterdir()} == {"pseudo_label.json", "field_mask.tif"}
    assert f"Wrote 1 masks of orthomosaics to {tmp_path}: field_mask.tif" in capsys.readouterr().out
    with rasterio.open(tmp_path / "field_mask.tif") as mask, rasterio.open(path) as photo:
        assert (mask.crs, mask.transform, mask.shape) == (photo.crs, photo.transform, photo.shape)
        assert (mask.crs.to_epsg(), mask.count, mask.dtypes) == (32632, 1, ("uint8",))
        assert mask.compression.name == "deflate" and mask.block_shapes == [(512, 512)]
        found = mask.read(1)
    expected = expected_mask(model, bands)
    assert 0 < expected[:40, :50].mean() and 0 < expected.mean() < 1
    expected[:40, :50] = False  # no data
    assert np.array_equal(found, expected * np.uint8(255))
    kept = (tmp_path / "field_mask.tif").stat().st_mtime_ns
    run(model, path, tmp_path)
    assert (tmp_path / "field_mask.tif").stat().st_mtime_ns == kept


def test_photos_beside_orthomosaics_are_pairs(model, photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(photos / "photo-0.png", images)
    bands = np.moveaxis(np.asarray(random_pairs(1, (40, 40), seed=5)[0]["image"]), 2, 0)
    write_orthomosaic(images / "five.tif", np.concatenate([bands[:2] // 2, bands]))
    pairs = run(model, images, tmp_path / "out", bands="[3,4,5]")
    assert pairs["source"][:] == ["photo-0.png"]
    with rasterio.open(tmp_path / "out" / "five_mask.tif") as mask:
        assert np.array_equal(mask.read(1), expected_mask(model, bands) * np.uint8(255))


def test_bad_input_is_one_line(model, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"not an image")
    for name in ("maps/a.tif", "same/a.tif", "same/a.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_orthomosaic(tmp_path / name, np.zeros((5, 9, 9), np.uint8))
    cases = [
        ({"images": tmp_path / "empty"}, "empty holds no images"),
        ({"images": tmp_path / "missing.mp4"}, "missing.mp4 can't be read as a video"),
        ({"images": tmp_path / "broken"}, "a.png can't be read as an image: 12 bytes"),
        ({"model": tmp_path}, "can't be loaded"),
        ({"min_confidence": 2}, "--min_confidence is 2.0; give 0 to 1"),
        ({"video_every": 0}, "--video_every is 0; give 1 or more"),
        (
            {"images": tmp_path / "maps"},
            "maps/a.tif has 5 bands (gray, undefined, undefined, undefined, undefined); say",
        ),
        (
            {"images": tmp_path / "maps", "bands": "[1,2,6]"},
            "maps/a.tif has 5 bands, --bands is [1, 2, 6]; give 1 to 5",
        ),
        ({"images": tmp_path / "same"}, "a.tif and a.tiff would both have the mask a_mask.tif; rename one of them"),
        ({"bands": "[1,2]"}, "--bands is [1, 2]; give one band, or those of red, green and blue"),
        ({"bit_depth": 8}, "--bit_depth is 8; give 9 to 16"),
        ({"num_draws": 5}, "is a segmenter, which draws nothing; leave --num_draws out"),
        ({"model": "starter"}, "--model is starter, which was trained to draw pairs alone"),
    ]
    for changes, words in cases:
        with pytest.raises(SystemExit):
            run(**{"model": model, "images": photos, "output_dir": tmp_path / "out", **changes})
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ") and words in line, line
    assert not list((tmp_path / "out").rglob("*.parquet")) and not list((tmp_path / "out").rglob("*.tif*"))
