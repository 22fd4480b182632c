"""`pseudo_label.py` with a generator in place of a segmenter, in this process."""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import load_dataset
from diffusers import DDPMScheduler
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_orthomosaic, write_raw_folder

from synthset import PairedUNet2DModel, SynthSetPipeline, keyed_generator, make_scheduler
from synthset.arguments import PseudoLabelArguments
from synthset.data.transforms import resize_image
from synthset.errors import InputError

SCRIPT = runs.load_script("pseudo_label.py")
DRAWS = {"num_draws": 3, "num_inference_steps": 2, "seed": 5, "scheduler": "ddim"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = {"block_out_channels": [8], "layers_per_block": 1, "attention_head_dim": 8, "mask_timestep": True}
    folder = tmp_path_factory.mktemp("model")
    SynthSetPipeline(PairedUNet2DModel(16, **config), DDPMScheduler(), 24).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_raw_folder(tmp_path_factory.mktemp("photos"), random_pairs(3, (45, 30)))


def label(model, images, output_dir, **changes):
    flags = {"model": str(model), "images": str(images), "output_dir": str(output_dir), **DRAWS, **changes}
    SCRIPT.main(PseudoLabelArguments(**flags))
    return load_dataset(str(output_dir), split="train")


def test_masks_are_votes_of_what_the_pipeline_draws(model, photos, tmp_path):
    labeled = label(model, photos / "images", tmp_path / "labeled")
    pipeline = SynthSetPipeline.from_pretrained(model)
    pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler.config, 2)
    for row in labeled:
        image = torch.from_numpy(np.array(row["image"])).movedim(-1, 0)
        votes = pipeline(
            images=resize_image(image, (20, 30))[None],  # 24 pixels become 16
            generator=[keyed_generator(5, k) for k in range(3)],
            num_draws=3,
            num_inference_steps=2,
            window_size=16,
        ).votes
        probability = np.asarray(Image.fromarray(votes.probability[0]).resize((45, 30), Image.Resampling.BILINEAR))
        assert np.array_equal(np.asarray(row["mask"]) > 0, probability > votes.threshold[0])
        assert row["confidence"] == pytest.approx(votes.confidence[0])
    assert "masks drawn by the generator" in (tmp_path / "labeled" / "README.md").read_text()
    settings = json.loads((tmp_path / "labeled" / "pseudo_label.json").read_text())
    assert settings["num_draws"] == 3 and "test_dataset" not in settings


def test_labels_are_scored_on_real_masks(model, photos, tmp_path):
    label(model, photos / "images", tmp_path / "labeled", test_dataset=str(photos))
    results = json.loads((tmp_path / "labeled" / "results.json").read_text())
    assert results["n_images"] == len(results["photos"]) == 3
    assert 0 < results["dice"] < 1 and 0 <= results["calibration"]["expected_calibration_error"] <= 1
    assert sum(row["pixels"] for row in results["calibration"]["bins"]) == 3 * 20 * 30
    assert np.mean([photo["dice"] for photo in results["photos"]]) == pytest.approx(results["dice_per_image"])


def test_refuses(model, photos, tmp_path):
    joint = tmp_path / "joint"
    SynthSetPipeline(PairedUNet2DModel(16, block_out_channels=[8]), DDPMScheduler(), 24).save_pretrained(joint)
    unscaled = tmp_path / "unscaled"
    shutil.copytree(model, unscaled)
    index = json.loads((unscaled / "model_index.json").read_text())
    (unscaled / "model_index.json").write_text(json.dumps(index | {"crop_size": None}))
    fields = tmp_path / "fields"
    fields.mkdir()
    write_orthomosaic(fields / "field.tif", np.zeros((3, 30, 30), np.uint8))
    small = write_raw_folder(tmp_path / "small", random_pairs(1, (20, 20)))
    for changes, message in (
        (
            {"model": str(joint)},
            "--model is .*joint, which was trained to draw pairs alone; train it with",
        ),
        ({"model": str(unscaled)}, "has no crop_size"),
        ({"images": str(fields)}, "--images has the orthomosaic field.tif, and --model is a generator"),
        ({"test_dataset": str(small)}, "has a photo of 20 x 20 pixels, below the 24 that the model sees"),
        ({"num_inference_steps": 2000}, "--num_inference_steps is 2000; use 1 to 1000"),
    ):
        with pytest.raises(InputError, match=message):
            label(**{"model": model, "images": photos / "images", "output_dir": tmp_path / "none", **changes})
        assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="--num_draws is 0; give 1 or more"):
        PseudoLabelArguments(model="", images="", output_dir="", num_draws=0)
