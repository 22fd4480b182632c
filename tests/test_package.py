"""The wheel: what is in it, and that its command works where no clone is."""

import ast
import configparser
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

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
    declared = {
        re.split(r"[\[<>=]", line)[0].lower().replace("_", "-")
        for line in settings()["install_requires"].strip().splitlines()
    }
    optional, distributions, missing = {"av", "xformers", "wandb", "trackio"}, packages_distributions(), {}
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in (name.partition(".")[0] for name in names):
                if name in sys.stdlib_module_names or name in {"synthset", *optional}:
                    continue
                if not {dist.lower().replace("_", "-") for dist in distributions.get(name, [name])} & declared:
                    missing[name] = str(file)
    assert not missing


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The command of the wheel, installed where everything else comes from this environment, and an empty folder."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder / "wheel", source], check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    target = sysconfig.get_path("purelib", vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    install = [*pip, "--python", python, "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True, env=environment)
    # a line that is a path adds a folder, but does not read the .pth files in it, which would lead to a clone
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    here += [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and "src" not in Path(path).parts
    ]
    (Path(target) / "environment.pth").write_text("\n".join(here))
    empty = folder / "empty"
    empty.mkdir()

    def run(*flags, code=0):
        command = [str(python.with_name("synthset")), *" ".join(flags).split()]
        result = subprocess.run(command, cwd=empty, capture_output=True, text=True, env=environment)
        assert result.returncode == code, result.stderr
        return result.stdout + result.stderr

    return run, wheel, empty


@pytest.mark.slow
def test_the_wheel_holds_everything_and_nothing_else(installed):
    _, wheel, _ = installed
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    tracked = {
        *((ROOT / "src").rglob("*.py")),
        *((ROOT / "scripts").glob("*.py")),
        *((ROOT / "scripts" / "recipes").rglob("*.yaml")),
        *((ROOT / "model_cards").glob("*.md")),
        *((ROOT / "accelerate_configs").glob("*.yaml")),
        ROOT / "src" / "synthset" / "py.typed",
    }
    inside = {path.relative_to(ROOT).as_posix() for path in tracked}
    assert set(names) == {name[4:] if name.startswith("src/") else f"synthset/{name}" for name in inside}


@pytest.mark.slow
def test_the_command_works_without_a_clone(installed):
    run, _, empty = installed
    assert "train-sr" in run("--help")
    assert "paper/two_encoder" in run("train --config paper/no_such --dataset data --output_dir run", code=2)
    run("prepare --dataset demo --output_dir data")
    run("train --config fast --dataset data --output_dir run", TINY)
    assert (empty / "run" / "model_index.json").is_file()
    printed = run("train --launch multi_cpu --config fast --dataset data --output_dir two", TINY)
    assert (empty / "two" / "model_index.json").is_file() and "2 x cpu" in printed and "OMP_NUM_THREADS" not in printed
    card = (empty / "two" / "README.md").read_text()
    assert "data" in card and str(ROOT) not in card
