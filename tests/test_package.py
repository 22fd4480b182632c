"""The wheel: what is in it, and that its command works where no clone is."""

import ast
import configparser
import re
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions

import pytest
from setuptools import find_packages
from testing_utils.runs import ROOT

TINY = (
    "--resolution 16 --crop_size 24 --block_out_channels 8 16 --layers_per_block 1 --batch_size 4 --max_train_steps 2 "
    "--lr_warmup_steps 0 --num_validation_images 2 --num_divergence_images 0 --validation_num_inference_steps 2 "
    "--report_to none --mixed_precision no"
)


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser["options"]


def test_every_room_is_packaged():
    shipped = ["synthset.scripts", "synthset.model_cards", "synthset.accelerate_configs"]
    assert sorted(settings()["packages"].split()) == sorted(find_packages(str(ROOT / "src")) + shipped)


def test_every_import_is_declared():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = [lines for extra, lines in config["options.extras_require"].items() if extra not in ("docs", "test")]
    lines = "\n".join([config["options"]["install_requires"], *extras]).split("\n")
    declared = {re.split(r"[\[<>=]", line)[0].lower().replace("_", "-") for line in lines if line}
    distributions, missing = packages_distributions(), {}
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in (name.partition(".")[0] for name in names):
                if name in sys.stdlib_module_names or name == "synthset":
                    continue
                if not {dist.lower().replace("_", "-") for dist in distributions.get(name, [name])} & declared:
                    missing[name] = str(file)
    assert not missing


@pytest.mark.slow
def test_the_wheel_holds_everything_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    tracked = {
        *((ROOT / "src").rglob("*.py")),
        *((ROOT / "scripts").glob("*.py")),
        *((ROOT / "scripts" / "recipes").rglob("*.yaml")),
        *((ROOT / "model_cards").glob("*.md")),
        *(path for path in (ROOT / "src" / "synthset" / "starter").rglob("*") if path.is_file()),
        *((ROOT / "accelerate_configs").glob("*.yaml")),
        ROOT / "src" / "synthset" / "py.typed",
    }
    inside = {path.relative_to(ROOT).as_posix() for path in tracked}
    assert set(names) == {name[4:] if name.startswith("src/") else f"synthset/{name}" for name in inside}


@pytest.mark.slow
def test_the_command_works_without_a_clone(installed, tmp_path):
    environment = {name: value for name, value in installed.items() if name != "OMP_NUM_THREADS"}

    def run(*flags, code=0):
        command = ["synthset", *" ".join(flags).split()]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert result.returncode == code, result.stderr
        return result.stdout + result.stderr

    assert "train-sr" in run("--help")
    assert "paper/two_encoder" in run("train --config paper/no_such --dataset data --output_dir run", code=2)
    run("prepare --dataset demo --output_dir data")
    run("train --config fast --dataset data --output_dir run", TINY)
    assert (tmp_path / "run" / "model_index.json").is_file()
    printed = run("train --launch multi_cpu --config fast --dataset data --output_dir two", TINY)
    assert (
        (tmp_path / "two" / "model_index.json").is_file() and "2 x cpu" in printed and "OMP_NUM_THREADS" not in printed
    )
    card = (tmp_path / "two" / "README.md").read_text()
    assert "data" in card and str(ROOT) not in card
