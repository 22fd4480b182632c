"""`train_paired.py` as users run it: in processes of its own, killed, continued, shared out and out of disk."""

import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from functools import partial

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from testing_utils import runs
from testing_utils.runs import LAUNCH, refused, same, weights

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetSRPipeline
from synthset.errors import InputError
from synthset.pipelines.loading import load_pipeline
from synthset.publishing.hub import push_folder

command, train = partial(runs.command, "train_paired.py"), partial(runs.train, "train_paired.py")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An uninterrupted run of 12 steps of 4 pairs, more than two passes over the five pairs per checkpoint."""
    output_dir = tmp_path_factory.mktemp("runs") / "straight"
    result = train(data, output_dir, launch=LAUNCH + "cpu.yaml", validation_steps=6, report_to="tensorboard")
    assert result.returncode == 0, result.stderr
    return output_dir


def test_a_run_leaves_what_it_promises(finished):
    assert {path.name for path in finished.iterdir()} == {
        *(f"checkpoint-{step}" for step in (3, 6, 9, 12)),
        *("model_index.json", "unet", "scheduler", "best-loss", "best-divergence", "previews", "logs"),
        *("README.md", "arguments.yaml", "metrics.jsonl", "run.json"),
    }
    events = EventAccumulator(str(finished / "logs" / "straight")).Reload()
    assert [event.step for event in events.Images("preview")] == [6, 12]
    assert Image.open(finished / "previews" / "step-000012.png").size == (2 * 98 + 2, 3 * 98 + 4)
    losses = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in losses if "validation_loss" in entry] == [6, 12]
    assert all(0 < entry["divergence"] < 1 for entry in losses if "validation_loss" in entry)
    assert [entry["step"] for entry in losses if "images_per_second" in entry] == [10, 12]
    pipelines = [SynthSetPipeline.from_pretrained(finished / part) for part in ("best-loss", "")]
    assert [pipeline.config.crop_size for pipeline in pipelines] == [24, 24]
    pair = pipelines[1](num_inference_steps=2)
    assert (pair.images[0].size, pair.masks[0].mode) == ((16, 16), "L")
    assert "12" in (finished / "README.md").read_text()


def draw(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    pair = pipeline(num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="pt")
    return pair.images


def test_a_checkpoint_opens_as_the_pipeline_that_the_run_would_end_with(finished, caplog):
    ended, last, earlier, best = (
        load_pipeline(SynthSetPipeline, str(finished / name))
        for name in ("", "checkpoint-12/", "checkpoint-3", "best-loss")
    )
    assert last[1] == ended[1] and last[0].scheduler.to_json_string() == ended[0].scheduler.to_json_string()
    assert not last[0].unet.training and torch.equal(draw(last[0]), draw(ended[0]))
    assert earlier[1] not in (ended[1], best[1]) and not torch.equal(draw(earlier[0]), draw(ended[0]))
    assert same(earlier[0].unet.state_dict(), weights(finished / "checkpoint-3", "unet_ema"))
    assert not caplog.text


def test_a_run_that_goes_on_opens_at_its_newest_whole_checkpoint(finished, tmp_path, caplog):
    run = tmp_path / "run"
    kept = shutil.ignore_patterns("model_index.json", "scheduler", "best-*", "checkpoint-3", "logs")
    shutil.copytree(finished, run, ignore=kept)
    digests = [load_pipeline(SynthSetPipeline, str(finished / f"checkpoint-{step}"))[1] for step in (12, 9)]
    assert load_pipeline(SynthSetPipeline, str(run))[1] == digests[0]
    assert (
        f"taking its newest whole checkpoint, checkpoint-12. To get the same again later, give --model {run}"
        in caplog.text
    )
    file = run / "checkpoint-12" / "unet_ema" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert load_pipeline(SynthSetPipeline, str(run))[1] == digests[1]
    assert "checkpoint-12 is not whole (" in caplog.text and "newest whole checkpoint, checkpoint-9" in caplog.text
    with pytest.raises(InputError, match="checkpoint-12, which can't be loaded"):
        load_pipeline(SynthSetPipeline, str(run / "checkpoint-12"))
    with pytest.raises(
        InputError, match="--sr_model is .*run, which holds a SynthSetPipeline; give .* synthset train-sr"
    ):
        load_pipeline(SynthSetSRPipeline, str(run), "--sr_model")
    for folder in (run, run / "checkpoint-9"):
        with pytest.raises(InputError, match="is of a training run that has not ended, and has no card to push"):
            push_folder(folder, "alice/run", data_license="mit")
    shutil.move(run / "checkpoint-9", tmp_path / "checkpoint-9")
    with pytest.raises(InputError, match="has no arguments.yaml, which says how a checkpoint was trained; leave it in"):
        load_pipeline(SynthSetPipeline, str(tmp_path / "checkpoint-9"))


def test_a_checkpoint_is_refused_as_what_it_is(finished):
    with pytest.raises(InputError, match="checkpoint-3 is a training checkpoint, .*; it opens with --model") as raised:
        SynthSetPipeline.from_pretrained(finished / "checkpoint-3")
    remedy = re.search(r"in Python with (synthset[\w.]*)\.(\w+)\(SynthSetPipeline, '(.*)'\)", str(raised.value))
    opened = getattr(importlib.import_module(remedy[1]), remedy[2])(SynthSetPipeline, remedy[3])[0]
    assert isinstance(opened, SynthSetPipeline)


def test_the_average_is_exported_and_differs_from_start_and_end(finished):
    start = PairedUNet2DModel.from_config(PairedUNet2DModel.load_config(finished, subfolder="unet")).state_dict()
    last, average = (weights(finished / "checkpoint-12", part) for part in ("unet", "unet_ema"))
    assert same(weights(finished), average)
    for name in ("conv_in.0.weight", "conv_out.0.2.weight"):
        assert not torch.equal(average[name], last[name]) and not torch.equal(average[name], start[name])
    # the average stays near the weights of the last steps
    distance = sum((average[n] - last[n]).square().sum() for n in last)
    assert distance < 0.01 * sum(last[n].square().sum() for n in last)


@pytest.mark.slow
def test_killed_twice_and_resumed_ends_in_the_same_bits(data, finished, tmp_path):
    output_dir = tmp_path / "killed"
    for step in (3, 9):
        process = subprocess.Popen(
            command(data, output_dir, validation_steps=6),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        while not (output_dir / f"checkpoint-{step}").exists():
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (output_dir / "model_index.json").exists()
    result = train(data, output_dir, validation_steps=6)
    assert result.returncode == 0, result.stderr
    assert "steps 9 to 12" in result.stderr
    for part in ("checkpoint-12/unet", "checkpoint-12/unet_ema", "unet", "best-loss/unet"):
        assert same(weights(output_dir, part), weights(finished, part))
    moments = [
        torch.load(run / "checkpoint-12" / "optimizer.bin", weights_only=True)["state"]
        for run in (output_dir, finished)
    ]
    assert all(same(moments[0][i], moments[1][i]) for i in moments[1])
    validations = [
        [line for line in (run / "metrics.jsonl").read_text().splitlines() if "validation_loss" in line]
        for run in (output_dir, finished)
    ]
    assert validations[0] == validations[1] and len(validations[0]) == 2
    assert not list(output_dir.glob("tmp-*"))


@pytest.mark.slow
def test_two_runs_of_n_steps_are_one_of_2n_and_old_checkpoints_go(data, finished, tmp_path):
    for steps in (6, 12):
        result = train(data, tmp_path / "run", max_train_steps=steps, checkpoints_total_limit=2)
        assert result.returncode == 0, result.stderr
    assert same(weights(tmp_path / "run"), weights(finished))
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-9"]


def test_a_checkpoint_of_another_configuration_is_refused(data, finished):
    before = (finished / "metrics.jsonl").read_bytes()
    result = train(data, finished, max_train_steps=24, layers_per_block=2, learning_rate=5e-4)
    assert refused(result, "checkpoint-12", "layers_per_block 1 (now 2)", "learning_rate 0.001 (now 0.0005)")
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_before_the_step(data, tmp_path):
    result = train(data, tmp_path / "run", learning_rate=1e30, checkpointing_steps=1, checkpoints_total_limit=2)
    assert refused(result, "the loss is", "step 2", "--resume_from_checkpoint checkpoint-1", "--max_grad_norm")
    kept = weights(tmp_path / "run" / "checkpoint-1", "unet_ema")
    assert all(tensor.isfinite().all() for tensor in kept.values())


@pytest.mark.slow
def test_a_full_disk_costs_no_checkpoint(data, finished, tmp_path):
    """The limit on a file's size lets 12 kB through: the flags are written, a checkpoint's weights are not."""
    output_dir = tmp_path / "run"
    result = train(data, output_dir, max_train_steps=3)
    assert result.returncode == 0, result.stderr
    before = weights(output_dir, "checkpoint-3/unet")
    limit = 12 * 1024
    result = train(data, output_dir, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert refused(result, "cannot write", "checkpoint-6", "--output_dir")
    assert [path.name for path in output_dir.glob("*checkpoint-*")] == ["checkpoint-3"]
    result = train(data, output_dir)
    assert result.returncode == 0 and "steps 3 to 12" in result.stderr, result.stderr
    assert same(weights(output_dir, "checkpoint-3/unet"), before) and same(weights(output_dir), weights(finished))


def test_crop_larger_than_the_images_is_refused(data, tmp_path):
    assert refused(train(data, tmp_path / "run", crop_size=33), "--crop_size", "33", "32")
    assert not (tmp_path / "run").exists()


def test_dry_run_touches_nothing(data, tmp_path):
    result = train(data, tmp_path / "run", dry_run="true")
    assert result.returncode == 0, result.stderr
    widths = {"block_out_channels": (8, 16), "layers_per_block": 1, "attention_head_dim": 8}
    model = PairedUNet2DModel(16, variant="concat", patch_size=2, input_skip=True, **widths)
    assert f"parameters: {sum(p.numel() for p in model.parameters()):,}" in result.stdout
    assert "resolution: 16" in result.stdout and "GFLOPs" in result.stdout and "MiB" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_overfit_learns_two_pairs(data, tmp_path):
    """Without augmentation, two pairs are soon denoised far better than by predicting their mean."""
    result = train(
        data,
        tmp_path / "run",
        overfit=2,
        max_train_steps=300,
        checkpointing_steps=300,
        validation_steps=150,
        batch_size=8,
        learning_rate=3e-3,
    )
    assert result.returncode == 0, result.stderr
    assert "on 2 pairs" in result.stderr
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    validation = [entry["validation_loss"] for entry in losses if "validation_loss" in entry]
    assert validation[1] < validation[0] < 0.9


@pytest.mark.slow
def test_a_compiled_run_continues_uncompiled(data, finished, tmp_path):
    compiled = train(
        data,
        tmp_path / "run",
        launch=f"{LAUNCH}cpu.yaml --dynamo_backend eager",
        max_train_steps=6,
        validation_steps=6,
    )
    assert compiled.returncode == 0, compiled.stderr
    for folder in ("unet", "checkpoint-6/unet", "checkpoint-6/unet_ema"):
        assert not any("_orig_mod" in name for name in weights(tmp_path / "run", folder))
    result = train(data, tmp_path / "run", validation_steps=6)
    assert result.returncode == 0, result.stderr
    assert same(weights(tmp_path / "run"), weights(finished))
