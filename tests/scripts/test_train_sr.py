"""`train_sr.py` as users run it. What it shares with `train_paired.py` is tested there."""

import json
from functools import partial

import numpy as np
import pytest
from diffusers import DDIMScheduler
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import random_pairs
from testing_utils.runs import LAUNCH, refused, same, weights

from synthset import SynthSetSRPipeline
from synthset.pipelines.loading import load_pipeline

pytestmark = pytest.mark.slow  # most of it is real runs

train = partial(runs.train, "train_sr.py")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("runs") / "straight"
    result = train(data, output_dir, max_train_steps=6, max_noise_level=200)
    assert result.returncode == 0, result.stderr
    return output_dir


def test_a_run_leaves_a_pipeline_that_enlarges(finished):
    pipeline = SynthSetSRPipeline.from_pretrained(finished)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    assert (pipeline.config.scale_factor, pipeline.config.max_noise_level) == (2, 200)
    assert pipeline.unet.config.condition_channels == 4 and pipeline.unet.config.variant == "concat"
    small = random_pairs(1, size=(8, 6))[0]
    pair = pipeline(small["image"], small["mask"], num_inference_steps=2, noise_level=50)
    assert pair.images[0].size == pair.masks[0].size == (16, 12)
    assert set(np.unique(pair.masks[0])) <= {0, 255}
    # two held-out pairs in threes
    assert Image.open(finished / "previews" / "step-000006.png").size == (6 * 98 + 2, 3 * 98 + 4)
    assert "8 to 16 pixels" in (finished / "README.md").read_text()
    losses = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in losses if "validation_loss" in entry] == [6]


def test_a_checkpoint_opens_as_the_pipeline_that_the_run_would_end_with(finished):
    ended, last = (load_pipeline(SynthSetSRPipeline, str(finished / name)) for name in ("", "checkpoint-6"))
    assert last[1] == ended[1] and load_pipeline(SynthSetSRPipeline, str(finished / "checkpoint-3"))[1] != ended[1]
    assert last[0].scheduler.to_json_string() == ended[0].scheduler.to_json_string()
    for name in ("scale_factor", "max_noise_level"):
        assert last[0].config[name] == ended[0].config[name]


def test_resumed_ends_in_the_same_bits(data, finished, tmp_path):
    for steps in (3, 6):
        result = train(data, tmp_path / "run", max_train_steps=steps, max_noise_level=200)
        assert result.returncode == 0, result.stderr
    assert "steps 3 to 6" in result.stderr
    assert same(weights(tmp_path / "run"), weights(finished))


def test_two_processes_train_as_one_and_four_times_larger(data, tmp_path):
    # Adam divides a gradient by its own size: this epsilon keeps rounding in a gradient that should be zero small
    flags = {"max_train_steps": 2, "adam_epsilon": 1e-3, "scale_factor": 4, "variant": "two_encoder"}
    flags |= {"patch_size": 2, "input_skip": "true"}
    one = train(data, tmp_path / "one", **flags, max_noise_level=100)
    two = train(data, tmp_path / "two", LAUNCH + "multi_cpu.yaml", **flags, max_noise_level=100, batch_size=2)
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert "2 x cpu" in two.stderr
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=0, atol=1e-6)
    pipeline = SynthSetSRPipeline.from_pretrained(tmp_path / "two")
    assert (pipeline.unet.config.patch_size, pipeline.unet.config.input_skip) == (2, True)
    small = random_pairs(1, size=(4, 4))[0]
    assert pipeline(small["image"], small["mask"], num_inference_steps=1).images[0].size == (16, 16)


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"scale_factor": 3}, ("--scale_factor is 3", "--resolution 16")),
        ({"scale_factor": 1}, ("--scale_factor is 1", "2 or more")),
        ({"max_noise_level": 1001}, ("--max_noise_level is 1001", "0 to 1000")),
        ({"resolution": 15}, ("--resolution is 15", "multiple of 2")),
    ],
)
def test_bad_flags(data, tmp_path, flags, words):
    assert refused(train(data, tmp_path / "run", **flags), *words)
    assert not (tmp_path / "run").exists()


def test_dry_run_counts_the_condition(data, tmp_path):
    result = train(data, tmp_path / "run", dry_run="true")
    assert result.returncode == 0, result.stderr
    assert "scale_factor: 2" in result.stdout and "GFLOPs" in result.stdout
    assert not (tmp_path / "run").exists()
