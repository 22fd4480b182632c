"""How a run encodes its pairs."""

import numpy as np
import pytest
import torch
from PIL import Image
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.arguments import TrainingArguments
from synthset.data import Augmentation
from synthset.image_processor import PROCESSOR_KEYS
from synthset.training.components import build_model, build_streams, load_training_pairs

SMALL = {
    "resolution": 16,
    "crop_size": 16,
    "report_to": "none",
    "block_out_channels": [8],
    "max_train_steps": 4,
    "lr_warmup_steps": 0,
    "variant": "concat",
}


@pytest.fixture
def field(tmp_path):
    """A raw folder of six dark pairs."""
    rows = random_pairs(6, size=(20, 18))
    for row in rows:
        row["image"] = row["image"].point(lambda value: value // 4)
    return str(write_raw_folder(tmp_path / "field", rows))


def streams_of(field, checkpoint=None, **flags):
    args = TrainingArguments(dataset=field, output_dir="run", **SMALL, **flags)
    train, validation = load_training_pairs(args, 1)
    return args, *build_streams(args, train, validation, checkpoint=checkpoint)


def test_colors_get_the_standard_deviation_that_is_asked_for(field):
    args, stream, items = streams_of(field, image_std=0.5, mask_scale=0.25)
    for each in (stream, items):
        sample = torch.stack([each[i]["sample"] for i in range(200)])
        assert sample[:, :3].mean((0, 2, 3)).abs().max() < 0.05
        assert sample[:, :3].std((0, 2, 3)).tolist() == pytest.approx([0.5] * 3, abs=0.03)
        assert sample[:, 3].unique().tolist() == [-0.25, 0.25]
    config = build_model(args, stream.processor).config
    assert [config[key] for key in PROCESSOR_KEYS] == [stream.processor.config[key] for key in PROCESSOR_KEYS]


@pytest.mark.parametrize("crop_size", [16, 24, 64])
def test_augmented_crops_are_as_large_as_others(tmp_path, crop_size):
    """Also where photos are decoded smaller, to twice the resolution: from edge to edge, a crop shows as many columns
    of the photo as it is wide."""
    columns = Image.fromarray(np.tile(np.arange(0, 200, dtype=np.uint8), (160, 1)))
    rows = [{"image": Image.merge("RGB", [columns] * 3), "mask": columns.point(lambda x: x > 99)} for _ in range(4)]
    args = TrainingArguments(
        dataset=str(write_raw_folder(tmp_path / "ramp", rows)),
        output_dir="run",
        **(SMALL | {"crop_size": crop_size, "image_std": None}),
    )
    pairs = load_training_pairs(args, 1)
    stream, _ = build_streams(args, *pairs, augmentation=lambda side: Augmentation(16, side, 1.0, []))
    for position in range(5):
        shades = (stream[position]["sample"][0, 0] + 1) * 127.5
        assert (shades[-1] - shades[0]).abs().item() == pytest.approx(crop_size * 15 / 16, abs=2.5)


def test_without_the_flag_nothing_is_standardized(field):
    args, stream, _ = streams_of(field, image_std=None)
    assert stream.processor.config.sample_mean is None and stream.processor.config.sample_std is None
    assert build_model(args, stream.processor).config.sample_std is None


def test_a_run_goes_on_with_the_statistics_of_its_checkpoint(field, tmp_path):
    """Those of other pairs, which a new leg may bring, would move what the network has learned."""
    args, stream, _ = streams_of(field, image_std=0.5)
    build_model(args, stream.processor).save_pretrained(tmp_path / "checkpoint-1" / "unet")
    rows = random_pairs(6, size=(20, 18))
    bright = str(write_raw_folder(tmp_path / "bright", rows))
    _, again, items = streams_of(bright, tmp_path / "checkpoint-1", image_std=0.5)
    kept, going_on, validating = ([s.processor.config[key] for key in PROCESSOR_KEYS] for s in (stream, again, items))
    assert kept == going_on == validating
    _, anew, _ = streams_of(bright, image_std=0.5)
    assert anew.processor.config.sample_std[0] > 2 * stream.processor.config.sample_std[0]
