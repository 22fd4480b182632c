"""`compare_sr.py` as users run it: what is in its tables and figures, how it continues, what it refuses."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from skimage.metrics import structural_similarity
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetSRPipeline, make_scheduler
from synthset.data import PairTensors, ResizePair, eval_transform, load_pairs
from synthset.random import keyed_generator

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_sr.py"
METHODS = ["bilinear + nearest", "bicubic + nearest", "ddim-4", "ddpm-3", "ddim-2"]


def network(**config):
    torch.manual_seed(0)
    small = {"block_out_channels": (8, 16), "layers_per_block": 1, "attention_head_dim": 8}
    return PairedUNet2DModel(32, variant="concat", **small, **config)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    pipeline = SynthSetSRPipeline(network(condition_channels=4), DDIMScheduler(timestep_spacing="trailing"))
    pipeline.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Three pairs of 40 x 48 pixels."""
    return write_raw_folder(tmp_path_factory.mktemp("pairs"), random_pairs(3, size=(40, 48)))


def compare(model, pairs, output_dir, **changes):
    values = {"model": model, "dataset": pairs, "output_dir": output_dir, "split": "train", "batch_size": 2, "seed": 5}
    values |= {"samplers": "[ddim-4,ddpm-3,ddim-2]", **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *(f"--{name}={value}" for name, value in values.items())])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return json.loads((output_dir / "table.json").read_text())


def refused(capsys, *arguments, **changes):
    """The one line with which the script ends."""
    with pytest.raises(SystemExit) as error:
        compare(*arguments, **changes)
    assert error.value.code in (1, 2)
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def comparison(model, pairs, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("comparison")
    return output_dir, compare(model, pairs, output_dir)


def test_the_crop_is_the_one_that_the_model_was_trained_on(model, pairs, tmp_path, capsys):
    pipeline = SynthSetSRPipeline.from_pretrained(model)
    pipeline.register_to_config(crop_size=36)
    pipeline.save_pretrained(tmp_path / "model")
    line = refused(capsys, tmp_path / "model", pairs, tmp_path / "refused", crop_size=40)
    assert "--crop_size is 40, but --model was trained on crops of 36" in line and not (tmp_path / "refused").exists()
    compare(tmp_path / "model", pairs, tmp_path / "out", samplers="[ddim-1]")
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["crop_size"] == 36


def row_of(comparison, method):
    return next(row for row in comparison[1] if row["method"] == method)


def targets_and_small(pairs):
    """The real pairs, 40 px crops of 32 px, and what is enlarged: lists of uint8 image and mask tensors."""
    targets = [eval_transform(32, 40)(*pair) for pair in PairTensors(load_pairs(str(pairs)))]
    return targets, [ResizePair(16)(*pair) for pair in targets]


def scores(images, masks, targets):
    """Mean PSNR, SSIM and Dice of (H, W, 3) images and (H, W) masks, 8 bits."""
    values = []
    for image, mask, (real, real_mask) in zip(images, masks, targets, strict=True):
        real, real_mask = real.permute(1, 2, 0).numpy(), real_mask[0].numpy()
        psnr = 20 * np.log10(255) - 10 * np.log10(((image.astype(float) - real) ** 2).mean())
        gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        ssim = structural_similarity(image, real, channel_axis=-1, data_range=255, **gaussian)
        values.append((psnr, ssim, 2 * (mask * real_mask).sum() / (mask.sum() + real_mask.sum())))
    return np.mean(values, axis=0)


def test_rows_and_header(comparison):
    output_dir, table = comparison
    assert [row["method"] for row in table] == METHODS
    assert [row.get("steps") for row in table] == [None, None, 4, 3, 2]
    assert all(row["seconds"] > 0 for row in table[2:])
    for row in table:
        assert 0 <= row["boundary_f1_0px"] <= row["boundary_f1_1px"] <= 1
    settings = json.loads((output_dir / "settings.json").read_text())
    lines = (output_dir / "table.md").read_text().splitlines()
    assert lines[0].startswith("3 pairs of ") and "16 to 32 px" in lines[0] and settings["device"] in lines[0]
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:9]] == METHODS
    assert lines[6].split(" | ")[1] == "4"


def test_interpolation(comparison, pairs):
    """Twofold bilinear enlargement is a mean of neighbors with weights 1/4 and 3/4."""
    targets, small = targets_and_small(pairs)
    images, masks = [], []
    for image, mask in small:
        x = image.permute(1, 2, 0).numpy() / 255
        for axis in (0, 1):
            padded = np.take(x, [0, *range(16), 15], axis)
            before, here, after = (np.take(padded, range(i, i + 16), axis) for i in range(3))
            x = np.stack([before / 4 + 3 * here / 4, 3 * here / 4 + after / 4], axis + 1)
            x = x.reshape([32 if i == axis else n for i, n in enumerate(here.shape)])
        images.append((x * 255).round().astype(np.uint8))
        masks.append(mask[0].numpy().repeat(2, 0).repeat(2, 1))
    row = row_of(comparison, "bilinear + nearest")
    expected = scores(images, masks, targets)
    np.testing.assert_allclose([row["psnr"], row["ssim"], row["dice"]], expected, atol=2e-3)
    assert row["input_dice"] == 1.0
    assert row["sharpness_ratio"] < row_of(comparison, "bicubic + nearest")["sharpness_ratio"] < 1
    assert row["dice"] == row_of(comparison, "bicubic + nearest")["dice"]


def test_model(comparison, model, pairs):
    """A pair's result is what the pipeline draws from the pair's own noise."""
    targets, small = targets_and_small(pairs)
    pipeline = SynthSetSRPipeline.from_pretrained(model)
    pipeline.scheduler = make_scheduler("ddpm", pipeline.scheduler.config, 3)
    images, masks = [], []
    for i, (image, mask) in enumerate(small):
        made = pipeline(image[None], mask[None], keyed_generator(5, i), 3, output_type="pil")
        images.append(np.asarray(made.images[0]))
        masks.append(np.asarray(made.masks[0]) // 255)
    row = row_of(comparison, "ddpm-3")
    expected = scores(images, masks, targets)
    np.testing.assert_allclose([row["psnr"], row["ssim"], row["dice"]], expected, atol=2e-3)


def test_figures(comparison):
    """Tiles of 96 px and 2 px between them, in bands of three rows under a strip of 12 px."""
    band = 12 + 3 * 98 + 2
    with Image.open(comparison[0] / "figure5.png") as figure:
        assert figure.size == (6 * 98 + 2, 2 * band + 2)  # three pairs of three columns
    with Image.open(comparison[0] / "figure6.png") as figure:
        assert figure.size == (4 * 98 + 2, 2 * (2 * band + 2))  # two schedulers of two pairs; DDIM has two step counts


def test_continues_with_what_is_missing(comparison, model, pairs, tmp_path, capsys):
    output_dir, table = shutil.copytree(comparison[0], tmp_path / "out"), comparison[1]
    times = {file: file.stat().st_mtime_ns for file in (output_dir / "samples").iterdir()}
    assert compare(model, pairs, output_dir) == table
    longer = compare(model, pairs, output_dir, samplers="[ddim-4,ddpm-3,ddim-2,dpmsolver++-2]")
    assert longer[:-1] == table and longer[-1]["method"] == "dpmsolver++-2"
    assert times.items() < {file: file.stat().st_mtime_ns for file in (output_dir / "samples").iterdir()}.items()
    line = refused(capsys, model, pairs, output_dir, seed=6)
    assert line.startswith(f"error: --output_dir {output_dir} was made with other settings: seed 5 -> 6; ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "--num_samples is 0; give 1 or more"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"samplers": "[ddim-4,euler-4]"}, "--samplers has 'euler-4'; give schedulers (ddpm, ddim, "),
        ({"samplers": "[ddim]"}, "--samplers has 'ddim'; give "),
        ({"samplers": "[ddim-0]"}, "--samplers has 'ddim-0'; give "),
        ({"samplers": "[]"}, "--samplers has ''; give "),
        ({"samplers": "[ddim-1001]"}, "--samplers holds 'ddim-1001', but the model was trained with 1000 steps"),
        ({"split": "test"}, "has no split 'test'"),
        ({"crop_size": 24}, "--crop_size is 24, but the model draws 32 pixels"),
        ({"crop_size": 41}, "--crop_size 41 is larger than the smallest image side, 40"),
    ],
)
def test_bad_arguments(capsys, model, pairs, tmp_path, changes, message):
    assert message in refused(capsys, model, pairs, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_bad_models(capsys, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = tmp_path / "base"
    SynthSetPipeline(network(), DDIMScheduler()).save_pretrained(base)
    for path, problem in ((base, "which holds a SynthSetPipeline"), (tmp_path / "missing", "which can't be loaded (")):
        line = refused(capsys, path, pairs, tmp_path / "out")
        assert line.startswith(f"error: --model is {path}, {problem}")
        assert line.endswith("give a folder that synthset train-sr ended with, or a model id on the Hub")
    assert not (tmp_path / "out").exists()
