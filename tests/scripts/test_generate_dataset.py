"""`generate_dataset.py` as users run it: in processes of its own, killed, continued, shared out and out of disk."""

import hashlib
import json
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from synthset import (
    InputError,
    PairedUNet2DModel,
    SynthSetPipeline,
    SynthSetSRPipeline,
    keyed_generator,
    make_scheduler,
)
from synthset.data import load_pairs
from synthset.devices import resolve_mixed_precision

pytestmark = pytest.mark.slow  # most of it is real runs

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate_dataset.py"
CONFIG = SCRIPT.parents[1] / "accelerate_configs" / "multi_cpu.yaml"  # two processes
LAUNCH = ("-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file", str(CONFIG))
SETTINGS = {
    "num_samples": 11,
    "scheduler": "ddpm",
    "num_inference_steps": 4,
    "batch_size": 2,
    "samples_per_shard": 3,
    "seed": 7,
    "mixed_precision": "no",
}
SR_SETTINGS = {
    "sr_scheduler": "ddim",
    "sr_num_inference_steps": 4,
    "sr_noise_level": 10,
    "keep_low_res": True,
    "consistency": True,
    "min_consistency_psnr": 10.0,  # about what the untrained model reaches, so that both answers occur
    "min_consistency_dice": 0.45,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    # wide enough for oneDNN to order its sums by the number of threads
    unet = PairedUNet2DModel(sample_size=16, block_out_channels=[16, 64], layers_per_block=1, attention_head_dim=8)
    directory = tmp_path_factory.mktemp("model")
    SynthSetPipeline(unet, DDPMScheduler(prediction_type="v_prediction"), crop_size=24).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def sr_model(tmp_path_factory):
    torch.manual_seed(1)
    unet = PairedUNet2DModel(
        sample_size=32,
        variant="concat",
        block_out_channels=[16, 64],
        layers_per_block=1,
        attention_head_dim=8,
        condition_channels=4,
        condition_noise=True,
    )
    directory = tmp_path_factory.mktemp("sr_model")
    pipeline = SynthSetSRPipeline(unet, DDPMScheduler(prediction_type="v_prediction"), 2, max_noise_level=50)
    pipeline.save_pretrained(directory)
    return directory


def flags(model, output_dir, **changes):
    values = {"model": model, "output_dir": output_dir, **SETTINGS, **changes}
    return [f"--{name}={value}" for name, value in values.items()]


def command(*arguments, **changes):
    return [sys.executable, str(SCRIPT), *flags(*arguments, **changes)]


def generate(*arguments, launch=(), threads=1, **changes):
    """Runs the script in a process of its own, or in those that `launch` starts."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"}
    arguments = [sys.executable, *launch, str(SCRIPT), *flags(*arguments, **changes)]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment)


HIDDEN = ".unfinished/data/*.parquet"


def refused(capsys, monkeypatch, *arguments, **changes):
    """Runs the script in this process, where it must end with an error; returns the line."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags(*arguments, **changes)])
    with pytest.raises(SystemExit) as error:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert error.value.code in (1, 2)
    return capsys.readouterr().err.strip().splitlines()[-1]


def digests(folder, pattern="data/*.parquet"):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)}


def parts(folder):
    """[`digests`] of what an unfinished dataset has; no loader finds it."""
    with pytest.raises(InputError, match="is not finished; rerun the command that writes it|holds no pairs"):
        load_pairs(str(folder))
    return digests(folder, HIDDEN)


@pytest.fixture(scope="module")
def dataset(model, tmp_path_factory):
    """What an uninterrupted single process writes."""
    directory = tmp_path_factory.mktemp("generated") / "wheat"
    result = generate(model, directory)
    assert result.returncode == 0, result.stderr
    assert "Wrote 11 pairs" in result.stdout and "pair/s" not in result.stderr  # no bar without a terminal
    return directory


def test_dataset_opens(dataset, tmp_path):
    assert sorted(digests(dataset)) == [f"train-{k:05d}-of-00004.parquet" for k in range(4)]
    rows = datasets.load_dataset(str(dataset), split="train", cache_dir=str(tmp_path))
    assert rows.column_names == ["image", "mask", "number", "coverage"]
    assert rows["number"][:] == list(range(11))
    for row in rows:
        assert (row["image"].mode, row["image"].size, row["image"].format) == ("RGB", (16, 16), "PNG")
        assert (row["mask"].mode, row["mask"].size, row["mask"].format) == ("L", (16, 16), "PNG")
        mask = np.asarray(row["mask"])
        assert set(np.unique(mask)) <= {0, 255}
        assert row["coverage"] == pytest.approx((mask == 255).mean(), abs=1e-6)
    assert set(np.unique(load_pairs(str(dataset))[0]["mask"])) <= {0, 1}
    assert json.loads((dataset / "generation.json").read_text())["crop_size"] == 24
    assert "| crop_size | `24` |" in (dataset / "README.md").read_text()


def test_card_and_preview(dataset):
    card = (dataset / "README.md").read_text()
    assert "dtype: image" in card and "# wheat" in card and "| num_inference_steps | `4` |" in card
    assert (dataset / "preview.png").stat().st_size > 0
    settings = json.loads((dataset / "generation.json").read_text())
    assert {name: settings[name] for name in SETTINGS if name != "num_samples"} | {"num_samples": 11} == SETTINGS
    assert not list(dataset.rglob(".*"))


def test_number_draws_the_pair_again(dataset, model):
    row = load_pairs(str(dataset))[8]  # the last of a shard of 3, a batch of one
    pipeline = SynthSetPipeline.from_pretrained(model)
    pipeline.scheduler = make_scheduler("ddpm", pipeline.scheduler.config, 4)
    pair = pipeline(generator=keyed_generator(SETTINGS["seed"], row["number"]), num_inference_steps=4)
    difference = np.asarray(pair.images[0], dtype=int) - np.asarray(row["image"], dtype=int)
    assert np.abs(difference).max() <= 1


def test_two_processes_write_the_same_bytes(dataset, model, tmp_path):
    result = generate(model, tmp_path / "out", launch=LAUNCH)
    assert result.returncode == 0, result.stderr
    assert (result.stdout + result.stderr).count("Wrote 11 pairs") == 1  # by the main process alone
    assert digests(tmp_path / "out") == digests(dataset)


def test_killed_and_continued(dataset, model, tmp_path, capsys, monkeypatch):
    """Killed while a shard is drawn; other settings are then refused, the same ones continue, with more threads."""
    output_dir = tmp_path / "out"
    process = subprocess.Popen(command(model, output_dir), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(digests(output_dir, HIDDEN)) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = parts(output_dir)
    assert 2 <= len(finished) < 4
    assert finished.items() <= digests(dataset).items()
    times = {name: (output_dir / ".unfinished" / "data" / name).stat().st_mtime_ns for name in finished}

    assert refused(capsys, monkeypatch, model, output_dir, seed=8, batch_size=3) == (
        f"error: --output_dir {output_dir} was made with other settings: batch_size 2 -> 3, seed 7 -> 8; "
        "give the old values to continue, or choose another folder"
    )
    assert parts(output_dir) == finished

    assert generate(model, output_dir, threads=3).returncode == 0
    assert digests(output_dir) == digests(dataset)
    assert times == {name: (output_dir / "data" / name).stat().st_mtime_ns for name in finished}
    assert not list(output_dir.rglob(".*"))


def test_imagefolder(dataset, model, tmp_path):
    """Killed while it unpacks, then continued: the same pixels as the parquet files, and no parquet left."""
    output_dir = tmp_path / "out"
    process = subprocess.Popen(
        command(model, output_dir, format="imagefolder"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not (output_dir / ".unfinished" / "masks" / "000000.png").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(2):  # the second run finds everything done
        result = generate(model, output_dir, format="imagefolder")
        assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in output_dir.iterdir()) == [
        "README.md",
        "generation.json",
        "images",
        "masks",
        "metadata.jsonl",
        "preview.png",
    ]
    rows = datasets.load_dataset(str(output_dir), split="train", cache_dir=str(tmp_path / "cache"))
    for found, expected in zip(rows, datasets.load_dataset(str(dataset), split="train"), strict=True):
        np.testing.assert_array_equal(found["image"], expected["image"])
        np.testing.assert_array_equal(found["mask"], expected["mask"])
        assert (found["number"], found["coverage"]) == (expected["number"], pytest.approx(expected["coverage"]))
    assert len(load_pairs(str(output_dir))) == 11


def test_full_disk(dataset, model, tmp_path):
    """No file may grow beyond 1 kB, as when the disk fills up while the last shard is written."""
    output_dir = tmp_path / "out"
    shutil.copytree(dataset, output_dir)
    last = output_dir / "data" / "train-00003-of-00004.parquet"
    last.unlink()
    result = subprocess.run(
        command(model, output_dir),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    there = output_dir / ".unfinished" / "data"
    assert line.startswith(f"error: cannot write {there / last.name}: ") and "File too large" in line
    assert {**parts(output_dir), last.name: digests(dataset)[last.name]} == digests(dataset)
    assert not list(there.glob(".*"))


LIMITED = """
import json, resource, runpy, sys
import torch
script, runs = sys.argv[1], json.loads(sys.argv[2])
torch.backends.mkldnn.enabled = False  # whose errors do not say that memory is short
for sys.argv in runs:
    runpy.run_path(script, run_name="__main__")  # the first one starts the threads and loads the libraries
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    limit = int(status["VmData"].split()[0]) * 1024 + (200 << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
"""


def test_networks_are_compiled_as_accelerate_is_configured(dataset, model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")  # what `accelerate launch --dynamo_backend` sets
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags(model, tmp_path / dataset.name)])
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert digests(tmp_path / dataset.name) == digests(dataset)


def test_the_number_format_is_that_of_the_processor_unless_given(model, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for mixed_precision in ("auto", "no"):
        arguments = flags(model, tmp_path / mixed_precision, mixed_precision=mixed_precision)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    used = {
        path.parent.name: json.loads(path.read_text())["mixed_precision"] for path in tmp_path.glob("*/gener*.json")
    }
    assert used == {"auto": resolve_mixed_precision("auto"), "no": "no"}
    same = digests(tmp_path / "auto") == digests(tmp_path / "no")
    assert same == (used["auto"] == "no")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_pairs_that_do_not_fit_into_memory_are_drawn_in_smaller_batches(model, tmp_path):
    """A process that may have 200 MiB more than it takes for two pairs. A file has 400."""
    settings = {"scheduler": "ddim", "num_inference_steps": 1, "samples_per_shard": 400}
    runs = [
        [str(SCRIPT), *flags(model, tmp_path / "few", **settings, num_samples=2, batch_size=2)],
        [str(SCRIPT), *flags(model, tmp_path / "many", **settings, num_samples=400, batch_size=1000)],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    limited = [sys.executable, "-c", LIMITED, str(SCRIPT), json.dumps(runs)]
    result = subprocess.run(limited, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "400 pairs at once do not fit into memory: now 200" in result.stderr
    assert "Traceback" not in result.stderr and "1000" not in result.stderr
    images = load_pairs(str(tmp_path / "many"))["image"][:]
    assert len({image.tobytes() for image in images}) == 400


@pytest.mark.parametrize("format", ["parquet", "imagefolder"])
def test_more_pairs_later(dataset, model, tmp_path, capsys, monkeypatch, format):
    """From 4 pairs to 11, in this process: what a straight run writes, and the first part is not drawn again."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # bars are for terminals
    output_dir = tmp_path / dataset.name
    for num_samples in (4, 11):
        monkeypatch.setattr(
            sys, "argv", [str(SCRIPT), *flags(model, output_dir, num_samples=num_samples, format=format)]
        )
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert f"/{min(num_samples, 8)} [" in capsys.readouterr().err  # the pairs to draw: 4, then 8 beside the first 3
        assert len(load_pairs(str(output_dir))) == num_samples
    if format == "parquet":
        found, expected = (
            {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in (output_dir, dataset)
        )
        assert found == expected
    for row, expected in zip(load_pairs(str(output_dir)), load_pairs(str(dataset)), strict=True):
        assert row["image"].tobytes() == expected["image"].tobytes()
        assert row["mask"].tobytes() == expected["mask"].tobytes()
    line = refused(capsys, monkeypatch, model, output_dir, num_samples=10, format=format)
    assert line == (
        f"error: --num_samples is 10, but {output_dir} has pairs up to 11 already; give 11 or more, or choose another "
        "--output_dir"
    )


def test_time_left_from_the_first_step(capsys, monkeypatch, model, tmp_path):
    """All pairs are one batch: the bar moves while it is drawn, as the share of the steps that are done."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    settings = {"num_samples": 2, "num_inference_steps": 250}
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags(model, tmp_path / "out", **settings)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    shares = [float(share) for share in re.findall(r"pairs: ([\d.]+)%", capsys.readouterr().err)]
    assert len(shares) > 4 and shares == sorted(shares) and 0 < shares[1] < 60 and shares[-1] == 100


def test_steps_that_are_not_given(capsys, monkeypatch, model, tmp_path):
    """The paper's, or as many as the model was trained with."""
    pipeline = SynthSetPipeline.from_pretrained(model)
    pipeline.scheduler = DDPMScheduler(num_train_timesteps=5)
    pipeline.save_pretrained(tmp_path / "short")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), f"--model={tmp_path / 'short'}", f"--output_dir={tmp_path / 'out'}"])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--num_samples=1"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert json.loads((tmp_path / "out" / "generation.json").read_text())["num_inference_steps"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "--num_samples is 0; give 1 or more"),
        ({"batch_size": 0}, "--batch_size is 0; give 1 or more"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"scheduler": "euler"}, "scheduler"),
        ({"num_inference_steps": 1001}, "num_inference_steps is 1001; use 1 to 1000"),
    ],
)
def test_bad_arguments(capsys, monkeypatch, model, tmp_path, changes, message):
    assert message in refused(capsys, monkeypatch, model, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_bad_models(capsys, monkeypatch, model, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    output_dir = tmp_path / "out"
    damaged = tmp_path / "damaged"
    shutil.copytree(model, damaged)
    weights = damaged / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (damaged, empty, tmp_path / "missing"):
        line = refused(capsys, monkeypatch, path, output_dir)
        assert line.startswith(f"error: --model is {path}, which can't be loaded (")
        assert line.endswith("give a folder that synthset train ended with, or a model id on the Hub")
    assert not output_dir.exists()


def test_folder_with_something_else(capsys, monkeypatch, model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    line = refused(capsys, monkeypatch, model, tmp_path)
    assert line.startswith(f"error: --output_dir {tmp_path} is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def enlarged(model, sr_model, tmp_path_factory):
    """What an uninterrupted single process writes in two stages."""
    directory = tmp_path_factory.mktemp("generated") / "large"
    result = generate(model, directory, sr_model=sr_model, **SR_SETTINGS)
    assert result.returncode == 0, result.stderr
    drifted = datasets.load_dataset(str(directory), split="train")["consistent"][:].count(False)
    assert f"{drifted} of 11 pairs drifted" in result.stdout
    assert f"{drifted} of 11 pairs drifted" in (directory / "README.md").read_text()
    return directory


def test_enlarged_pairs_come_with_what_a_run_of_one_stage_draws(dataset, enlarged, model, sr_model):
    small, rows = (datasets.load_dataset(str(folder), split="train") for folder in (dataset, enlarged))
    assert rows.column_names == [
        *("image", "mask", "number", "coverage", "low_res_image", "low_res_mask"),
        *("consistency_psnr", "consistency_dice", "consistent"),
    ]
    for row, before in zip(rows, small, strict=True):
        assert (row["image"].mode, row["image"].size, row["image"].format) == ("RGB", (32, 32), "PNG")
        assert (row["mask"].mode, row["mask"].size, row["mask"].format) == ("L", (32, 32), "PNG")
        assert set(np.unique(row["mask"])) <= {0, 255}
        assert row["coverage"] == pytest.approx((np.asarray(row["mask"]) == 255).mean(), abs=1e-6)
        np.testing.assert_array_equal(row["low_res_image"], before["image"])
        np.testing.assert_array_equal(row["low_res_mask"], before["mask"])
        assert row["number"] == before["number"]
    settings = json.loads((enlarged / "generation.json").read_text())
    assert {name: settings.get(name) for name in SR_SETTINGS} == SR_SETTINGS
    assert not [name for name in json.loads((dataset / "generation.json").read_text()) if name.startswith("sr_")]
    card = (enlarged / "README.md").read_text()
    assert f"`{model.name}` and enlarged by the super-resolution model `{sr_model.name}`" in card
    assert "| `low_res_mask` | mask before super-resolution" in card and "| `consistent` |" in card


def test_stored_columns_enlarge_the_pair_again(enlarged, sr_model):
    row = datasets.load_dataset(str(enlarged), split="train")[8]  # the last of a shard of 3, a batch of one
    pipeline = SynthSetSRPipeline.from_pretrained(sr_model)
    pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler.config, 4)
    generator = keyed_generator(SETTINGS["seed"], row["number"], 1)
    pair = pipeline(
        row["low_res_image"], row["low_res_mask"], generator=generator, num_inference_steps=4, noise_level=10
    )
    difference = np.asarray(pair.images[0], dtype=int) - np.asarray(row["image"], dtype=int)
    assert np.abs(difference).max() <= 1


def halve(image):
    """Bilinear with antialiasing, by hand: an output pixel is (1, 3, 3, 1) / 8 of the four around it, per direction;
    at the edge, where one of the four is missing, the others share its weight."""
    side = len(image) // 2
    weights = np.zeros((side, 2 * side))
    for i in range(side):
        for offset, weight in ((-1, 1), (0, 3), (1, 3), (2, 1)):
            if 0 <= 2 * i + offset < 2 * side:
                weights[i, 2 * i + offset] = weight
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ih,jw,hwc->ijc", weights, weights, image)


def test_consistency_is_that_of_the_pair_made_small_again(enlarged):
    rows = datasets.load_dataset(str(enlarged), split="train")
    for row in rows:
        error = halve(np.asarray(row["image"], dtype=float)) - np.asarray(row["low_res_image"], dtype=float)
        assert row["consistency_psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())), abs=0.05)
        # The center of an output pixel is the corner of four: nearest-exact takes the lower right one.
        found, expected = np.asarray(row["mask"])[1::2, 1::2] > 0, np.asarray(row["low_res_mask"]) > 0
        assert row["consistency_dice"] == pytest.approx(2 * (found & expected).sum() / (found.sum() + expected.sum()))
        assert row["consistent"] == (row["consistency_psnr"] >= 10 and row["consistency_dice"] >= 0.45)
    assert set(rows["consistent"]) == {True, False}


def test_two_stages_killed_and_continued_on_two_processes(enlarged, model, sr_model, tmp_path, capsys, monkeypatch):
    output_dir = tmp_path / "out"
    changes = {"sr_model": sr_model, **SR_SETTINGS}
    process = subprocess.Popen(
        command(model, output_dir, **changes), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not digests(output_dir, HIDDEN):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = parts(output_dir)
    assert 1 <= len(finished) < 4
    assert finished.items() <= digests(enlarged).items()

    line = refused(capsys, monkeypatch, model, output_dir, **{**changes, "sr_noise_level": 0})
    assert "was made with other settings: sr_noise_level 10 -> 0; " in line
    assert "keep_low_res True -> None" in refused(capsys, monkeypatch, model, output_dir)  # and so on: only one stage
    assert parts(output_dir) == finished

    result = generate(model, output_dir, launch=LAUNCH, **changes)
    assert result.returncode == 0, result.stderr
    assert digests(output_dir) == digests(enlarged)
    assert not list(output_dir.rglob(".*"))


def test_two_stages_as_imagefolder(enlarged, model, sr_model, tmp_path):
    output_dir = tmp_path / "out"
    result = generate(model, output_dir, sr_model=sr_model, format="imagefolder", **SR_SETTINGS)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in output_dir.iterdir() if path.is_dir()} == {
        *("images", "masks", "low_res_images", "low_res_masks")
    }
    rows = datasets.load_dataset(str(output_dir), split="train", cache_dir=str(tmp_path / "cache"))
    for found, expected in zip(rows, datasets.load_dataset(str(enlarged), split="train"), strict=True):
        for column in ("image", "mask", "low_res_image", "low_res_mask"):
            np.testing.assert_array_equal(found.pop(column), expected.pop(column))
        assert found == pytest.approx(expected)
    assert len(load_pairs(str(output_dir))) == 11
    assert load_pairs(str(output_dir), "train", "low_res_image", "low_res_mask")[0]["mask"].size == (16, 16)


def test_enlarged_pairs_alone(model, sr_model, tmp_path):
    """Without --keep_low_res and --consistency there is no column more; by another sampler, too."""
    result = generate(
        model, tmp_path / "out", num_samples=1, sr_model=sr_model, sr_scheduler="ddpm", sr_num_inference_steps=3
    )
    assert result.returncode == 0, result.stderr
    row = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))[0]
    assert list(row) == ["image", "mask", "number", "coverage"]
    assert row["image"].size == (32, 32)
    settings = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert settings["sr_scheduler"] == "ddpm" and "min_consistency_psnr" not in settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_low_res": True}, "means nothing without --sr_model; add that, or leave --keep_low_res out"),
        ({"consistency": True}, "--consistency is True, which means nothing without --sr_model"),
        ({"sr_noise_level": 5}, "--sr_noise_level is 5, which means nothing without --sr_model"),
        ({"sr_scheduler": "ddpm"}, "--sr_scheduler is ddpm, which means nothing without --sr_model"),
        (
            {"sr_model": "x", "min_consistency_dice": 0.5},
            "--min_consistency_dice is 0.5, which means nothing without --consistency",
        ),
        (
            {"sr_model": "x", "consistency": True, "min_consistency_dice": 80},
            "--min_consistency_dice is 80.0; give 0 to 1",
        ),
        ({"sr_model": "x", "sr_noise_level": -1}, "--sr_noise_level is -1; give 0 or more"),
        ({"sr_model": "x", "sr_num_inference_steps": 0}, "--sr_num_inference_steps is 0; give 1 or more"),
        ({"sr_model": True, "sr_num_inference_steps": 1001}, "--sr_num_inference_steps is 1001; use 1 to 1000"),
        (
            {"sr_model": True, "sr_noise_level": 51},
            "--sr_noise_level is 51, but --sr_model was trained with 0 to 50; give a value in this range",
        ),
    ],
)
def test_bad_arguments_of_the_second_stage(capsys, monkeypatch, model, sr_model, tmp_path, changes, message):
    if changes.get("sr_model") is True:
        changes = {**changes, "sr_model": sr_model}
    assert message in refused(capsys, monkeypatch, model, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_models_that_are_not_two_stages(capsys, monkeypatch, model, sr_model, tmp_path):
    output_dir, missing, small = tmp_path / "out", tmp_path / "missing", tmp_path / "small"
    pipeline = SynthSetPipeline.from_pretrained(model)
    pipeline.unet.register_to_config(sample_size=8)
    pipeline.save_pretrained(small)
    sr_remedy = "give a folder that synthset train-sr ended with, or a model id on the Hub"
    for models, message in (
        ((model, model), f"error: --sr_model is {model}, which holds a SynthSetPipeline; {sr_remedy}"),
        ((model, missing), f"error: --sr_model is {missing}, which can't be loaded ("),
        (
            (sr_model, sr_model),
            f"error: --model is {sr_model}, which holds a SynthSetSRPipeline; "
            "give a folder that synthset train ended with, or a model id on the Hub",
        ),
        (
            (small, sr_model),
            "error: --model generates 8 x 8 pixels, but --sr_model enlarges 16 x 16 to 32 x 32; give a --model trained "
            "with --resolution 16, or an --sr_model trained with --resolution 16",
        ),
    ):
        line = refused(capsys, monkeypatch, models[0], output_dir, sr_model=models[1])
        assert line == message or (message.endswith("(") and line.startswith(message) and line.endswith(sr_remedy))
    assert not output_dir.exists()
