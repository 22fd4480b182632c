"""The parts of tables, filled by a script that needs no time."""

import json
import shutil
from pathlib import Path

import pytest
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.errors import InputError
from synthset.research.tables import Part, Table, TableArguments, cell, markdown

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(tmp_path):
    """Writes a line into its output folder every time; fails, before it has made the folder, when told to."""
    path = tmp_path / "fill.py"
    path.write_text(
        "import pathlib, sys\n"
        "if '--fail' in sys.argv: sys.exit('no')\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--output_dir') + 1])\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "with open(folder / 'calls', 'a') as file: file.write(' '.join(sys.argv[1:3]) + '\\n')\n"
    )
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Pairs to train and to test on, and a table that has nothing but its split of them."""
    folder = tmp_path_factory.mktemp("prepared")
    for name, count in (("train", 5), ("test", 2)):
        write_raw_folder(folder / name, random_pairs(count, seed=count))
    args = TableArguments(
        dataset=str(folder / "train"), test_dataset=str(folder / "test"), output_dir=str(folder / "table")
    )
    list(Table(args, SCRIPTS).fill({}))
    return folder


@pytest.fixture
def arguments(prepared, tmp_path):
    """Flags of that table."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    values = {"dataset": tmp_path / "train", "test_dataset": tmp_path / "test", "output_dir": tmp_path / "table"}
    values = {name: str(path) for name, path in values.items()}
    return lambda **changes: TableArguments(**values | changes)


def calls(part):
    return (part.folder / "calls").read_text().splitlines()


def test_a_part_is_made_once(script, tmp_path):
    part = Part(tmp_path / "row" / "model", script, ["--size", 3], {"steps": 2})
    for _ in range(2):
        part.make()
    assert calls(part) == ["--size 3"]
    record = json.loads((tmp_path / "row" / "model.json").read_text())
    assert record == {"settings": {"steps": 2}, "finished": True}


def test_an_unfinished_part_is_continued(script, tmp_path):
    part = Part(tmp_path / "model", script, ["--size", 3], {})
    part.make()
    part.write_record(finished=False)  # as a kill leaves it
    part.make()
    assert calls(part) == ["--size 3", "--size 3"]


def test_flags_that_a_script_refused_may_change(script, tmp_path):
    with pytest.raises(InputError, match="exit code 1"):
        Part(tmp_path / "model", script, ["--fail"], {"training": "--fail"}).make()
    part = Part(tmp_path / "model", script, ["--size", 3], {"training": ""})
    assert not part.differing()
    part.make()
    assert calls(part) == ["--size 3"]


def test_other_settings_are_refused_before_anything_is_made(script, tmp_path, arguments):
    made = Part(tmp_path / "table" / "concat" / "model", script, ["--size", 2], {"steps": 2, "num_samples": 8})
    first = Part(tmp_path / "table" / "real" / "model", script, ["--size", 1], {})
    list(Table(arguments(), SCRIPTS).fill({"concat": [made]}))
    changed = Part(made.folder, script, ["--size", 3], {"steps": 3, "num_samples": 8})
    rows = {"real": [first], "concat": [changed]}
    expected = f"{made.folder} was made with other settings: --steps 2 -> 3; .*--output_dir.*--remake"
    with pytest.raises(InputError, match=expected):
        list(Table(arguments(), SCRIPTS).fill(rows))
    assert calls(made) == ["--size 2"] and not first.folder.exists()

    # what was asked for is made anew, once: a killed command is given again with the same flag
    for _ in range(2):
        list(Table(arguments(remake=True), SCRIPTS).fill(rows))
        assert calls(changed) == ["--size 3"] and calls(first) == ["--size 1"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"training": "--config scripts/recipes/paper/concat.yaml"}, ["training"]),
        ({"training": "--max_train_steps 2"}, ["training"]),
        ({"launch": "accelerate_configs/multi_cpu.yaml"}, ["launch"]),
        ({"launch": "accelerate_configs/cpu.yaml"}, []),  # computes what no configuration does
        ({"sr_training": ""}, ["sr_training"]),
        ({"scale_factor": 4}, ["scale_factor"]),
        ({"num_samples": 7}, ["num_samples"]),
        ({"generation": ""}, ["generation"]),
        ({"sr_generation": "--sr_noise_level 1"}, ["sr_generation"]),
        ({"segmentation": "--arch fpn"}, ["segmentation"]),
        ({"seeds": [4, 5]}, []),  # a segmenter keeps those that it has
    ],
)
def test_what_decides_a_part_is_a_setting_of_it(changes, names, arguments, tmp_path, monkeypatch):
    """Recipes and accelerate configurations are found from another folder."""
    monkeypatch.chdir(tmp_path)

    def settings(**changes):
        table = Table(arguments(**changes), SCRIPTS)
        pairs = table.generated(tmp_path / "pairs", table.model(tmp_path, []), table.sr_model())
        return table.segmenter(tmp_path / "segmenter", [], {}, True, pairs).settings

    old, new = settings(), settings(**changes)
    assert [name for name in new if new[name] != old[name]] == names and old.keys() == new.keys()


def test_a_recipe_counts_by_its_content(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Path("recipe.yaml")
    recipe.write_text("max_train_steps: 2\n")
    settings = [Table(arguments(training="--config recipe.yaml"), SCRIPTS).model(tmp_path, []).settings]
    for text, flag in (
        ("# a comment\nmax_train_steps: 2\n", "--config=" + str(tmp_path)),
        ("max_train_steps: 3\n", "--config ."),
    ):
        recipe.write_text(text)
        settings.append(Table(arguments(training=f"{flag}/recipe.yaml"), SCRIPTS).model(tmp_path, []).settings)
    assert settings[0] == settings[1] != settings[2]


def test_other_photos_make_another_table(arguments, tmp_path):
    random_pairs(1, seed=7)[0]["image"].save(tmp_path / "train" / "images" / "000.png")
    with pytest.raises(InputError, match="settings: dataset "):
        list(Table(arguments(), SCRIPTS).fill({}))


def test_test_photos_among_those_trained_on(arguments, tmp_path):
    with pytest.raises(
        InputError, match=f"--test_dataset {tmp_path / 'train'}: 5 of 5 test images are also in --dataset"
    ):
        list(Table(arguments(test_dataset=str(tmp_path / "train"), output_dir=str(tmp_path / "new")), SCRIPTS).fill({}))
    assert not (tmp_path / "new").exists()


def test_missing_recipe(arguments):
    with pytest.raises(InputError, match="--training has --config quick.yaml: no such file; .*paper/two_encoder"):
        Table(arguments(training="--config quick.yaml"), SCRIPTS).model(Path("concat"), [])


def test_cells_and_lines():
    assert cell([{"dice": 0.25, "other": 1.0}], "dice") == "0.250"
    assert cell([{"dice": 0.25}, {"dice": 0.75}], "dice") == "0.500 ± 0.354"  # sqrt(2 * 0.25 ** 2 / 1)
    lines = markdown("data", {"a": "first", "b": "second"}, {"row": {"b dice": "0.5", "a iou": "0.1"}})
    assert lines[0] == "| data | first, Dice | first, IoU | second, Dice | second, IoU |"
    assert lines[2] == "| row |  | 0.1 | 0.5 |  |"
