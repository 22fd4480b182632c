"""A training run and its folder on a rough day: stopped, damaged, lengthened, on changed data, in two places."""

import json
import os
import shutil
import signal
import subprocess
import time
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from PIL import Image
from testing_utils import runs
from testing_utils.runs import refused, same, weights

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.errors import InputError
from synthset.output_dir import lock_output_dir
from synthset.training import objectives
from synthset.training.export import save_pipeline

pytestmark = pytest.mark.slow  # most of it is real runs

TINY = {"variant": "concat", "checkpointing_steps": 4, "max_train_steps": 8, "num_divergence_images": 0}
command = partial(runs.command, "train_paired.py", **TINY)
train = partial(runs.train, "train_paired.py")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An undisturbed run of 8 steps."""
    output_dir = tmp_path_factory.mktemp("runs") / "straight"
    result = train(data, output_dir, **TINY)
    assert result.returncode == 0, result.stderr
    return output_dir


def rates(output_dir):
    entries = map(json.loads, (output_dir / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry["learning_rate"] for entry in entries if "learning_rate" in entry}


def test_asked_to_stop_it_saves_its_step_and_ends_in_the_same_bits(data, finished, tmp_path):
    output_dir = tmp_path / "run"
    process = subprocess.Popen(
        command(data, output_dir),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (output_dir / "checkpoint-4").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.send_signal(signal.SIGUSR1)
    said = process.communicate()[1]
    assert process.returncode == 75 and "Traceback" not in said, said
    assert said.endswith("stopped by SIGUSR1; the same command continues\n")
    assert not (output_dir / "model_index.json").exists() and not list(output_dir.glob("tmp-*"))
    result = train(data, output_dir, **TINY)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in output_dir.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    for part in ("checkpoint-8/unet", "checkpoint-8/unet_ema", "unet"):
        assert same(weights(output_dir, part), weights(finished, part))


def test_a_damaged_checkpoint_is_passed_over(data, finished, tmp_path):
    output_dir = shutil.copytree(finished, tmp_path / "run")
    file = output_dir / "checkpoint-8" / "optimizer.bin"
    file.write_bytes(file.read_bytes()[:-100])
    result = train(data, output_dir, **TINY)
    assert result.returncode == 0, result.stderr
    assert "checkpoint-8 is passed over: is damaged: optimizer.bin" in result.stderr
    assert "steps 4 to 8" in result.stderr
    assert same(weights(output_dir, "checkpoint-8/unet"), weights(finished, "checkpoint-8/unet"))


def test_changed_photos_are_noticed_and_a_moved_folder_is_not(data, finished, tmp_path):
    copy, output_dir = shutil.copytree(data, tmp_path / "copy"), shutil.copytree(finished, tmp_path / "run")
    result = train(copy, output_dir, **TINY)
    assert result.returncode == 0 and "steps 8 to 8" in result.stderr, result.stderr
    rng = np.random.default_rng(9)
    for photo in (copy / "images").iterdir():
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(photo)
    assert refused(train(copy, output_dir, **TINY), "training pairs 5, sha256", "(now 5, sha256", "--new_leg")


def test_a_longer_run_is_a_new_leg_with_a_schedule_of_its_own(data, tmp_path):
    flags = {**TINY, "lr_scheduler": "cosine", "max_train_steps": 4, "logging_steps": 1}
    first = train(data, tmp_path / "run", **flags)
    assert first.returncode == 0, first.stderr
    flags["max_train_steps"] = 8
    assert refused(train(data, tmp_path / "run", **flags), "max_train_steps 4 (now 8)", "--new_leg")
    result = train(data, tmp_path / "run", **flags, new_leg=True, learning_rate=4e-4)
    assert result.returncode == 0, result.stderr
    assert "a new leg begins at step 4: " in result.stderr and "learning_rate 0.001 (now 0.0004)" in result.stderr
    found = rates(tmp_path / "run")
    # step n of 4 follows half a cosine: (1 + cos(pi n / 4)) / 2
    shape = [(1 + torch.cos(torch.tensor(torch.pi * n / 4)).item()) / 2 for n in range(1, 5)]
    expected = [rate * part for rate in (1e-3, 4e-4) for part in shape]
    assert [found[step] for step in range(1, 9)] == pytest.approx(expected, abs=1e-9)
    assert "Another leg began after 4 steps, with changed " in (tmp_path / "run" / "README.md").read_text()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(data, tmp_path, monkeypatch):
    """At step 3, which has a checkpoint of its own, the loss is finite and its gradient infinite, as a square root's at
    0 is. What went wrong once does not go wrong again: then the same command goes on."""
    script = runs.load_script("train_paired.py")
    flags = {**runs.TINY, **TINY, "max_train_steps": 4, "checkpointing_steps": 1, "crop_size": 24, "report_to": []}
    args = script.PairedArguments(dataset=str(data), output_dir=str(tmp_path / "run"), **flags)
    diffusion_loss, calls = objectives.diffusion_loss, []

    def spoiled(prediction, *rest, **options):
        calls.append(prediction)
        root = (prediction - prediction.detach()).abs().sum().sqrt() if len(calls) == 3 else 0
        return diffusion_loss(prediction, *rest, **options) + root

    monkeypatch.setattr(objectives, "diffusion_loss", spoiled)
    with pytest.raises(
        InputError, match="the gradient's norm is (nan|inf) at step 3 on the pairs .* checkpoint-2 --new"
    ):
        script.main(args)
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    for part in ("unet", "unet_ema"):
        assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run" / "checkpoint-2", part).values())
    script.main(args)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())
    (tmp_path / "run" / "README.md").write_text("# Notes of the user's own\n")
    with pytest.raises(InputError, match="README.md is not a card of SynthSet, .*; move it away"):
        script.main(args)


def test_a_folder_in_use_is_left_alone(data, tmp_path):
    lock_output_dir(tmp_path / "run")
    assert refused(train(data, tmp_path / "run", **TINY), "--output_dir", "another process")
    assert list((tmp_path / "run").iterdir()) == []


def test_what_others_put_beside_a_pipelines_files_stays(tmp_path):
    model = PairedUNet2DModel(sample_size=16, block_out_channels=(8,), layers_per_block=1, norm_num_groups=8)
    scheduler = DDPMScheduler()
    for name in ("unet", "scheduler"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text(name)
    for _ in range(2):
        save_pipeline(SynthSetPipeline(model, scheduler), tmp_path, Accelerator(cpu=True))
    assert [(tmp_path / name / "notes.txt").read_text() for name in ("unet", "scheduler")] == ["unet", "scheduler"]
    assert not (tmp_path / "pipeline").exists()
    assert same(SynthSetPipeline.from_pretrained(tmp_path).unet.state_dict(), model.state_dict())
