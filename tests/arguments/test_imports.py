"""Flags and help without the libraries that take seconds to import; choices that repeat those libraries' names."""

import subprocess
import sys

import pytest
from accelerate.utils import LoggerType

from synthset.arguments import choices
from synthset.models.paired_unet_2d import VARIANTS
from synthset.models.skip_fusion import SKIP_FUSIONS
from synthset.pipelines import SCHEDULERS

SLOW = ["torch", "diffusers", "datasets", "accelerate", "numpy", "transformers", "matplotlib"]


@pytest.mark.parametrize(
    "code",
    [
        "import synthset",
        "import synthset.arguments, synthset.cli",
        "from synthset.cli import main; main(['--help'])",
        "from synthset.cli import main; main(['train', '--help'])",
        "from synthset.cli import main; main(['train', '--resoluton', '3'])",
        "from synthset.cli import main; main(['research', 'table1', '--config', 'nothing'])",
    ],
)
def test_nothing_slow_is_imported(code):
    script = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint([m for m in {SLOW} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stdout + result.stderr


def test_choices_are_the_libraries():
    assert set(choices.TRACKERS) == set(LoggerType.list())
    assert choices.SCHEDULERS == tuple(SCHEDULERS)
    assert choices.VARIANTS == tuple(VARIANTS)
    assert choices.SKIP_FUSIONS == tuple(SKIP_FUSIONS)


def test_what_the_package_exports_is_there():
    code = "import synthset as s; assert set(s.__all__) <= set(dir(s)); [getattr(s, x) for x in s.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True)
