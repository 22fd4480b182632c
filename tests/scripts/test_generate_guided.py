"""`generate_dataset.py --guidance_model` and `--mask_filter`, in this process."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import ImageFilter
from testing_utils import runs

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.cli import parse_arguments
from synthset.data import load_pairs
from synthset.errors import InputError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model, a smaller one to guide it, and one with another target."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, widths, target) in enumerate(
        (("good", [8, 8], "epsilon"), ("worse", [8], "epsilon"), ("other", [8], "sample"))
    ):
        torch.manual_seed(seed)
        unet = PairedUNet2DModel(8, block_out_channels=widths, layers_per_block=1, attention_head_dim=8)
        SynthSetPipeline(unet, DDPMScheduler(prediction_type=target), 24).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def generate(models):
    script = runs.load_script("generate_dataset.py")

    def run(output_dir, **changes):
        settings = {"num_samples": 3, "num_inference_steps": 3, "scheduler": "ddim", "batch_size": 2, "seed": 7}
        flags = {"model": models / "good", "output_dir": output_dir, **settings, **changes}
        words = [f"--{name}={value}" for name, value in flags.items() if not isinstance(value, list)]
        lists = [f"--{name} {' '.join(map(str, value))}" for name, value in flags.items() if isinstance(value, list)]
        script.main(parse_arguments(script.GenerateArguments, [*words, *" ".join(lists).split()]))
        settings = json.loads((output_dir / "generation.json").read_text())
        return [np.asarray(row["image"]) for row in load_pairs(str(output_dir))], settings

    return run


def test_a_guided_dataset_has_its_guide_in_its_identity(generate, models, tmp_path):
    plain, settings = generate(tmp_path / "plain")
    assert not [name for name in settings if "guidance" in name or "filter" in name]
    guide = {"guidance_model": models / "worse", "guidance_scale": 3.0}
    guided, settings = generate(tmp_path / "guided", **guide)
    assert np.abs(np.stack(guided).astype(int) - np.stack(plain)).max() > 20
    assert settings["guidance_scale"] == 3 and len(settings["guidance_model_sha256"]) == 64
    assert "guided by `worse`" in (tmp_path / "guided" / "README.md").read_text()

    shutil.copytree(models / "worse", tmp_path / "moved")  # the same weights elsewhere go on, others do not
    more, _ = generate(tmp_path / "guided", **guide | {"guidance_model": tmp_path / "moved", "num_samples": 4})
    assert all((a == b).all() for a, b in zip(more[:2], guided, strict=False))
    for changes, found in (
        ({"guidance_scale": 2.0}, "guidance_scale 3.0 -> 2.0"),
        ({"guidance_interval": [0.5, 5]}, r"guidance_interval None -> \[0.5, 5.0\]"),
        ({"guidance_model": models / "worse", "mask_filter": "majority"}, "mask_filter None -> majority"),
    ):
        with pytest.raises(InputError, match=found):
            generate(tmp_path / "guided", **guide | changes)

    for changes in ({"guidance_scale": 1.0}, {"guidance_interval": [1e6, 1e7]}):
        found, _ = generate(tmp_path / f"off-{len(changes)}-{next(iter(changes))}", **guide | changes)
        np.testing.assert_array_equal(found, plain)


def test_masks_that_are_smoothed(generate, tmp_path):
    images, _ = generate(tmp_path / "raw")
    smoothed, settings = generate(tmp_path / "smoothed", mask_filter="majority")
    np.testing.assert_array_equal(smoothed, images)
    assert settings["mask_filter"] == "majority"
    raw, smooth = ([row["mask"] for row in load_pairs(str(tmp_path / name))] for name in ("raw", "smoothed"))
    for before, after in zip(raw, smooth, strict=True):
        np.testing.assert_array_equal(after, before.filter(ImageFilter.ModeFilter(3)))
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(raw, smooth, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_model": "other"}, r"trained with prediction_type sample \(--model: epsilon\); give an earlier"),
        ({"guidance_model": "good"}, "--guidance_model is the model of --model, which can't guide itself; give an ear"),
        ({"guidance_model": "nowhere"}, "--guidance_model is .*nowhere, which can't be loaded"),
    ],
)
def test_guides_that_do_not_fit(generate, models, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "out", guidance_model=models / changes["guidance_model"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_scale": 3}, "--guidance_scale is 3.0, which means nothing without --guidance_model"),
        ({"guidance_interval": [0, 5]}, "--guidance_interval is [0.0, 5.0], which means nothing without"),
        ({"guidance_model": "worse", "guidance_scale": 0.5}, "--guidance_scale is 0.5; give 1 or more"),
        ({"guidance_model": "worse", "guidance_scale": "nan"}, "--guidance_scale is nan; give 1 or more"),
        ({"guidance_model": "worse", "guidance_scale": "inf"}, "--guidance_scale is inf; give a number such as 2"),
        ({"guidance_model": "worse", "guidance_interval": [5]}, "--guidance_interval is [5.0]; give the lowest and"),
        ({"guidance_model": "worse", "guidance_interval": [5, 1]}, "--guidance_interval is [5.0, 1.0]; give the"),
        ({"mask_filter": "median"}, "--mask_filter is median; choose"),
    ],
)
def test_bad_flags(generate, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit):
        generate(tmp_path / "out", **changes)
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()
