"""`train_segmentation.py` as users run it: what it writes and how it continues, what it refuses."""

import json
import os
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.torch import load_file
from testing_utils.pairs import random_pairs, write_orthomosaic, write_raw_folder
from testing_utils.runs import LAUNCH, ROOT

from synthset.data import load_pairs
from synthset.segmentation import Segmenter

SCRIPT = ROOT / "scripts" / "train_segmentation.py"
TINY = {
    "encoder_name": "mobilenet_v2",
    "resolution": 32,
    "crop_size": 32,
    "batch_size": 4,
    "max_train_steps": 2,
    "mixed_precision": "no",
}


def squares(count, seed, size=(40, 32)):
    """Noise with a bright square, which is the object; the last image has none."""
    rows = random_pairs(count, size, seed)
    rng = np.random.default_rng(seed)
    for row in rows:
        pixels, mask = np.array(row["image"]) // 2, np.zeros(size[::-1], np.uint8)
        top, left = rng.integers(0, 16, 2)
        mask[top : top + 14, left : left + 14] = row is not rows[-1]
        pixels[mask > 0] = pixels[mask > 0] // 2 + 150
        row |= {"image": Image.fromarray(pixels), "mask": Image.fromarray(mask)}
    return rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folders of pairs."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, count) in enumerate({"generated": 9, "field": 5, "farm": 3, "test": 3}.items()):
        write_raw_folder(folder / name, squares(count, seed))
    return folder


def flags_of(data, output_dir, **changes):
    values = {"dataset": data / "generated", "test_dataset": data / "test", "output_dir": output_dir, **TINY, **changes}
    values = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return [f"--{name}={value}" for name, given in values.items() for value in given]


@pytest.fixture(scope="module")
def train(data):
    """Runs the script in this process; returns its results."""
    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def run(output_dir, **changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(SCRIPT), *flags_of(data, output_dir, **changes)])
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return json.loads((output_dir / "results.json").read_text())

    yield run
    torch.use_deterministic_algorithms(was[0], warn_only=was[1])


STAGES = {
    "finetune": ["FIELD", "FARM"],
    "finetune_num_train_epochs": "[2,4]",
    "finetune_learning_rate": 0.001,
    "seeds": [1, 0],
}


@pytest.fixture(scope="module")
def finished(data, train, tmp_path_factory):
    """A run of three stages and two seeds."""
    output_dir = tmp_path_factory.mktemp("runs") / "stages"
    changes = {**STAGES, "finetune": [data / "field", data / "farm"]}
    return output_dir, train(output_dir, **changes), changes


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_stages_are_trained_in_order_each_with_its_budget(data, finished):
    output_dir, results, _ = finished
    for run in results["seeds"]:
        assert [(stage["stage"], stage["steps"], stage["learning_rate"]) for stage in run["stages"]] == [
            (f"--dataset {data / 'generated'}", 2, 0.01),
            (f"--finetune {data / 'field'}", 2, 0.001),  # 2 passes over 5 pairs, in fours
            (f"--finetune {data / 'farm'}", 3, 0.001),
        ]
        assert all(run[name] == run["stages"][-1][name] for name in ("dice", "iou", "boundary_f1", "n_images"))
    files = {"config.json", "model.safetensors", "segmenter.json", "results.json", "predictions.png", "README.md"}
    assert {path.name for path in output_dir.iterdir()} == {"seed-0", "seed-1", "results.json", "settings.json"}
    assert {path.name for path in (output_dir / "seed-1").iterdir()} == files
    # 4 tiles with an object, with real and predicted mask each: 8 tiles of 96 px and 2 px between them
    assert Image.open(output_dir / "seed-1" / "predictions.png").width == 8 * 98 + 2
    card = (output_dir / "seed-1" / "README.md").read_text()
    assert f"{results['seeds'][0]['dice']:.4f}" in card and "mobilenet_v2" in card
    assert f"Dice over photos is {results['seeds'][0]['dice_se']:.4f}" in card and "3 photos, 1 of them" in card


def test_results_are_mean_and_spread_over_seeds(finished):
    results = finished[1]
    assert [run["seed"] for run in results["seeds"]] == [1, 0]
    for name in ("dice", "iou", "dice_per_image", "iou_per_image", "boundary_f1"):
        first, second = (run[name] for run in results["seeds"])
        assert 0 <= first <= 1 and results[name] == pytest.approx((first + second) / 2)
        assert results[f"{name}_std"] == pytest.approx(abs(first - second) / 2**0.5)
        errors = [run[f"{name}_se"] for run in results["seeds"]]
        assert min(errors) >= 0 and results[f"{name}_se"] == pytest.approx(np.mean(errors))
    # three photos, the last without an object
    assert (results["n_images"], results["n_empty"]) == (3, 1)


def assert_scores_are_those_of(model, test, scores, per_image=True):
    """Of whole photos, where tiles overlap by the mean of both predictions."""
    segmenter = Segmenter.from_pretrained(model)
    both, areas, per_photo = 0, 0, []
    for row in load_pairs(str(test)):
        found = segmenter.predict(row["image"]) > segmenter.threshold
        real = np.asarray(row["mask"]) > 0
        both, areas = both + (found & real).sum(), areas + found.sum() + real.sum()
        per_photo.append(2 * (found & real).sum() / max(found.sum() + real.sum(), 1) if (found | real).any() else 1)
    assert scores["dice"] == pytest.approx(2 * both / areas)
    assert not per_image or scores["dice_per_image"] == pytest.approx(np.mean(per_photo))


def test_a_run_begins_with_the_weights_of_another(finished, data, train, tmp_path, capsys):
    """With a learning rate that changes nothing, it scores as the model."""
    model = finished[0] / "seed-1"
    flags = {"init_from": model, "learning_rate": 1e-12, "max_train_steps": 1}
    results = train(tmp_path / "run", **flags)
    mine, theirs = weights(tmp_path / "run" / "seed-0"), weights(model)
    norms = {name for name in theirs if "running" in name or "num_batches" in name}  # which see the pairs of a step
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-7) for name in theirs.keys() - norms)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert len(settings["init_from_sha256"][0]) == 64 and results["n_images"] == 3
    for changes, words in (
        ({"encoder_name": "resnet18"}, "is a u-mobilenet_v2, and --arch and --encoder_name make a u-resnet18; give"),
        ({"init_from": data / "field"}, "--init_from is "),
        ({"encoder_weights": "imagenet"}, "and both are weights of the encoder"),
    ):
        with pytest.raises(SystemExit):
            train(tmp_path / "none", **{**flags, **changes})
        assert words in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_scores_are_those_of_the_saved_model(data, finished):
    output_dir, results, _ = finished
    assert_scores_are_those_of(output_dir / "seed-1", data / "test", results["seeds"][0])


def test_a_run_repeats_bit_for_bit_and_continues_after_the_last_finished_seed(finished, train, tmp_path):
    output_dir, results, changes = finished
    train(tmp_path / "run", **{**changes, "seeds": 0})
    kept = (tmp_path / "run" / "seed-0" / "model.safetensors").stat().st_mtime_ns
    again = train(tmp_path / "run", **changes)
    assert (tmp_path / "run" / "seed-0" / "model.safetensors").stat().st_mtime_ns == kept
    assert again == results
    for seed in (0, 1):
        expected, found = (weights(folder / f"seed-{seed}") for folder in (output_dir, tmp_path / "run"))
        assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_seeds_of_any_size(train, tmp_path):
    course = {"optimizer": "adamw", "lr_scheduler": "one_cycle", "max_train_steps": 1}
    results = train(tmp_path / "run", seeds=f"[{2**32 + 1},{2**70}]", **course)
    assert results["seeds"][0]["stages"][0]["learning_rate"] == 0.001
    assert [run["seed"] for run in results["seeds"]] == [2**32 + 1, 2**70]


@pytest.mark.slow
def test_pasted_pairs_of_another_scale_are_refused(data, train, tmp_path, capsys):
    """Pasted on pieces of 24 px, which --crop_size 32 would take for pieces of 32."""
    flags = {"dataset": data / "field", "output_dir": tmp_path / "pasted", "num_samples": 2, "min_area": 1}
    flags |= {"resolution": 32, "crop_size": 24}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_copy_paste.py", *(f"--{name}={value}" for name, value in flags.items())])
        runpy.run_path(str(ROOT / "scripts" / "make_copy_paste.py"), run_name="__main__")
    with pytest.raises(SystemExit):
        train(tmp_path / "run", dataset=tmp_path / "pasted")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: --dataset") and "give --crop_size 24" in line


def test_cosine_halves_the_second_of_two_steps(train, tmp_path):
    """The first step is at the full rate either way, so the second's gradient is the same."""
    ends = {}
    for name, scheduler, steps in (("one", "constant", 1), ("two", "constant", 2), ("cosine", "cosine", 2)):
        train(tmp_path / name, lr_scheduler=scheduler, max_train_steps=steps, learning_rate=0.1)
        ends[name] = load_file(tmp_path / name / "seed-0" / "model.safetensors")
    parts = [name for name in ends["one"] if name.endswith(".weight")]
    step = torch.cat([(ends["two"][name] - ends["one"][name]).flatten() for name in parts])
    half = torch.cat([(ends["cosine"][name] - ends["one"][name]).flatten() for name in parts])
    assert step.norm() > 0
    torch.testing.assert_close(half, step / 2, rtol=1e-3, atol=1e-6)


def test_the_weights_with_the_best_validation_dice_are_kept(data, train, tmp_path):
    """They are those of a run that ends at this step, which validation does not disturb."""
    changes = {"optimizer": "adamw", "augment": "overhead", "learning_rate": 0.01}
    validation = {"validation_dataset": data / "farm", "validation_steps": 2}
    (stage,) = train(tmp_path / "run", max_train_steps=5, **validation, **changes)["seeds"][0]["stages"]
    assert stage["steps"] == 5 and stage["kept_step"] < 5
    scores = {**stage, "dice": stage["validation_dice"]}
    assert_scores_are_those_of(tmp_path / "run" / "seed-0", data / "farm", scores, per_image=False)
    (short,) = train(tmp_path / "short", max_train_steps=stage["kept_step"], **changes)["seeds"][0]["stages"]
    assert short["kept_step"] == stage["kept_step"] and "validation_dice" not in short
    kept, expected = (weights(tmp_path / run / "seed-0") for run in ("run", "short"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items())
    assert stage["dice"] == short["dice"]


@pytest.mark.slow
def test_it_learns(data, train, tmp_path):
    """Bright squares on noise are easy; the real pairs' share is mixed in."""
    mixed = [data / "field", data / "generated"]
    results = train(tmp_path / "run", dataset=mixed, mix=0.5, max_train_steps=60, batch_size=8, learning_rate=0.05)
    assert results["dice"] > 0.8 and results["dice_std"] is None and 0 < results["dice_se"] < 0.2
    assert results["iou"] == pytest.approx(results["dice"] / (2 - results["dice"]))  # the same pixels counted


@pytest.mark.slow
def test_two_processes_share_the_work(data, tmp_path):
    """Three photos on two processes: each is predicted by one of them, with the running means of the saved model."""
    write_raw_folder(tmp_path / "test", [*squares(3, 9, (40, 32))[:2], *squares(2, 10, (32, 32))[:1]])
    command = [sys.executable, *f"{LAUNCH}multi_cpu.yaml".split(), str(SCRIPT)]
    changes = {"max_train_steps": 12, "learning_rate": 0.05}
    flags = flags_of(data, tmp_path / "run", test_dataset=tmp_path / "test", **changes)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, *flags], capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["n_images"], results["n_empty"]) == (3, 0)
    assert_scores_are_those_of(tmp_path / "run" / "seed-0", tmp_path / "test", results)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["processes"] == 2


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"finetune": "TEST"}, "--test_dataset TEST: 3 of 3 test images are also in --finetune TEST"),
        ({"finetune": "SOIL"}, "--finetune SOIL: none of the 2 masks has an object"),
        ({"test_dataset": "SOIL"}, "--test_dataset SOIL: none of the 2 masks has an object"),
        ({"dataset": ["FIELD", "CLASSES"]}, "000.png is a mask with values 0, 7, 9"),
        ({"test_dataset": "NOTHING"}, "NOTHING/images holds no images"),
        ({"crop_size": 33}, "--crop_size 33 is larger than the smallest image side, 32"),
        ({"mix": 0.5}, "--mix is 0.5 with 1 --dataset"),
        ({"mix": 1.5, "dataset": ["FIELD", "FARM"]}, "--mix is 1.5"),
        (
            {"finetune": ["FIELD", "FARM"], "finetune_num_train_epochs": "[1,2,3]"},
            "--finetune_num_train_epochs is [1, 2, 3], but there are 2",
        ),
        ({"finetune": "FIELD", "finetune_learning_rate": 0}, "--finetune_learning_rate is [0.0]; give numbers above 0"),
        (
            {"validation_dataset": "FIELD", "dataset": "FIELD"},
            "--validation_dataset FIELD: 5 of 5 test images are also",
        ),
        (
            {"validation_dataset": "TEST"},
            "--test_dataset TEST: 3 of 3 test images are also in --validation_dataset TEST",
        ),
        ({"validation_dataset": "SOIL"}, "--validation_dataset SOIL: none of the 2 masks has an object"),
        ({"validation_dataset": "FIELD", "validation_steps": 0}, "--validation_steps is 0; give 1 or more"),
        ({"validation_steps": 3}, "--validation_steps is 3, which means nothing without --validation_dataset"),
        ({"max_train_samples": "[5,2]"}, "--max_train_samples is [5, 2], but there are 1 --dataset; give one number"),
        ({"max_train_samples": 10}, "--dataset GENERATED holds 9 pairs, but --max_train_samples is 10 for it"),
        ({"encoder_weights": "nowhere.pth"}, "--encoder_weights nowhere.pth is no file of weights"),
        ({"seeds": "[1,1]"}, "--seeds is [1, 1]"),
        ({"threshold": 1}, "--threshold is 1.0"),
        ({"encoder_name": "eye"}, "--encoder_name eye"),
        ({"batch_size": 1}, "--batch_size is 1, but --arch unet with --encoder_name mobilenet_v2 at --resolution 32"),
        ({"dataset": ["FIELD", "CROPS"]}, "--dataset CROPS was made with --crop_size 64, but --crop_size is 32"),
        ({"finetune": "CROPS"}, "--finetune CROPS was made with --crop_size 64, but --crop_size is 32"),
        ({"images": "NOTHING"}, "--images NOTHING holds no images"),
        ({"images": "MAP"}, "MAP has 5 bands"),
        ({"bands": 1}, "--bands is [1], which means nothing without --images"),
        ({"learning_rate": 1e30}, "the loss is nan; lower its learning rate"),
    ],
)
def test_bad_input_is_one_line(changes, words, data, train, tmp_path, capsys):
    names = {name.upper(): data / name for name in ("field", "farm", "test", "generated")}
    names |= {name: tmp_path / name.lower() for name in ("SOIL", "CLASSES", "NOTHING", "CROPS")}
    write_raw_folder(names["CROPS"], squares(2, 23, (32, 32)))
    (names["CROPS"] / "generation.json").write_text(json.dumps({"crop_size": 64}))
    write_raw_folder(names["SOIL"], [squares(1, seed)[-1] for seed in (20, 21)])
    write_raw_folder(names["CLASSES"], squares(2, 22))
    mask = np.zeros((32, 40), np.uint8)
    mask[0, :2] = 7, 9
    Image.fromarray(mask).save(names["CLASSES"] / "masks" / "000.png")
    names["MAP"] = write_orthomosaic(tmp_path / "map.tif", np.zeros((5, 9, 9), np.uint8))
    for place in ("images", "masks"):
        (names["NOTHING"] / place).mkdir(parents=True)
    for name, path in names.items():
        words = words.replace(name, str(path))
    given = {k: [names.get(x, x) for x in v] if isinstance(v, list) else names.get(v, v) for k, v in changes.items()}
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "run", **given)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code in (1, 2) and words in lines[-1] and lines[-1].startswith("error: ")
    # what is refused leaves nothing behind; a run that fails, what it was
    assert [path.name for path in (tmp_path / "run").glob("*")] == ["settings.json"] * ("learning_rate" in changes)


def test_every_model_predicts_the_images(finished, train, tmp_path):
    """Asked for when the models are there already."""
    output_dir, results, changes = finished
    shutil.copytree(output_dir, tmp_path / "run")
    images = tmp_path / "images"
    images.mkdir()
    photo = random_pairs(1, (50, 40))[0]["image"]
    photo.save(images / "photo.png")
    write_orthomosaic(images / "map.tif", np.moveaxis(np.asarray(photo), 2, 0))
    assert train(tmp_path / "run", images=images, **changes) == results
    for seed in (0, 1):
        segmenter = Segmenter.from_pretrained(output_dir / f"seed-{seed}")
        expected = (segmenter.predict(photo) > segmenter.threshold) * np.uint8(255)
        folder = tmp_path / "run" / f"seed-{seed}" / "predictions"
        assert {path.name for path in folder.iterdir()} == {"photo_mask.png", "map_mask.tif"}
        assert np.array_equal(Image.open(folder / "photo_mask.png"), expected)
        with rasterio.open(folder / "map_mask.tif") as mask, rasterio.open(images / "map.tif") as raster:
            assert np.array_equal(mask.read(1), expected)
            assert (mask.crs, mask.transform) == (raster.crs, raster.transform)


def test_another_command_line_in_the_same_folder_is_refused(finished, train, capsys):
    output_dir, _, changes = finished
    before = (output_dir / "results.json").read_bytes()
    with pytest.raises(SystemExit):
        train(output_dir, **{**changes, "learning_rate": 0.02})
    assert "learning_rate 0.01 -> 0.02" in capsys.readouterr().err.strip().splitlines()[-1]
    assert (output_dir / "results.json").read_bytes() == before
