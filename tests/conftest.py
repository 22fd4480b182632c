"""No test touches the user's Hugging Face cache or the network. Set before anything imports the libraries."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hub_server import HubServer

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

cache = tempfile.TemporaryDirectory(prefix="synthset-tests-")
os.environ["HF_HOME"] = cache.name
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def accelerator_state():
    """Accelerate's state lasts as long as a process: every test begins without that of the one before."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture
def hub(tmp_path):
    """A local Hub with two users. Clients run in subprocesses with `hub.environment(token)`."""
    with HubServer(tmp_path / "hub", tokens={"hf_alice": "alice", "hf_bob": "bob"}) as server:
        yield server


@pytest.fixture
def client(hub, monkeypatch):
    """The client of this process talks to the local Hub, as alice."""
    import huggingface_hub.constants

    constants = {"ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    constants["HUGGINGFACE_CO_URL_TEMPLATE"] = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in constants.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    return huggingface_hub.HfApi()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this source tree."""
    root = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in tracked.splitlines():  # a build in the clone would leave folders there, and ship what lies in old ones
        if (ROOT / name).is_file():
            (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, root / "source"]
    subprocess.run(build, check=True)
    (wheel,) = root.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Environment variables under which `synthset` and `python` are those of a virtual environment with the wheel.

    Its dependencies are this environment's, by a path file: that makes the modules importable, but not an editable
    installation of the package itself.
    """
    root = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
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


def pytest_collection_modifyitems(config, items):
    """Leaves tests marked `fuzz` out unless `-m` names them, and puts files with the most slow tests first, so that
    processes end together."""
    if "fuzz" not in config.option.markexpr:
        chosen = [item for item in items if not item.get_closest_marker("fuzz")]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
