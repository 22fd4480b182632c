"""The package as a user has it: installed from its wheel, in a folder that is no clone."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Environment variables under which `synthset` and `python` are those of a virtual environment with the wheel.

    Its dependencies are this environment's, by a path file: that makes the modules importable, but not an editable
    installation of the package itself.
    """
    root = tmp_path_factory.mktemp("installed")
    tracked = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in tracked.splitlines():  # a build in the clone would leave folders there, and ship what lies in old ones
        if (ROOT / name).is_file():
            (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, root / "source"]
    subprocess.run(build, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    (wheel,) = root.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(root / "venv"), "platbase": str(root / "venv")})
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    Path(packages, "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    found = subprocess.check_output(
        [python, "-c", "import synthset; print(synthset.__file__)"], env=environment, cwd=root
    )
    assert found.decode().startswith(str(root / "venv")), found
    return environment
