"""Files that come with the package: commands, recipes, accelerate configurations, card templates and a model.

They lie in `scripts/`, `model_cards/` and `accelerate_configs/`: beside this file in an installed wheel, at the top of
the repository in a clone. The starter model lies beside this file in both.
"""

from pathlib import Path

from .errors import InputError

PACKAGE = Path(__file__).parent
ROOT = PACKAGE if (PACKAGE / "scripts").is_dir() else PACKAGE.parents[1]
SCRIPTS = ROOT / "scripts"
RECIPES = SCRIPTS / "recipes"
CONFIGURATIONS = ROOT / "accelerate_configs"
MODELS = {"starter": PACKAGE / "starter"}  # by the names that `from_pretrained` knows them


def find_recipe(name: str, flag: str = "--config") -> Path:
    """The recipe with that name (`fast`, `paper/two_encoder`) or path; paths also start at `ROOT`.

    Raises:
        InputError: there is none; lists those that come with the package.
    """
    return _find(name, flag, RECIPES, "recipes")


def find_configuration(name: str, flag: str = "--launch") -> Path:
    """The accelerate configuration with that name (`multi_gpu`) or path; paths also start at `ROOT`.

    Raises:
        InputError: there is none; lists those that come with the package.
    """
    return _find(name, flag, CONFIGURATIONS, "configurations")


def _find(name: str, flag: str, folder: Path, kind: str) -> Path:
    for file in (Path(name), folder / f"{name}.yaml", ROOT / name):
        if file.is_file():
            return file
    names = sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    raise InputError(f"{flag} {name}: no such file; {kind} that come with SynthSet: {', '.join(names)}")
