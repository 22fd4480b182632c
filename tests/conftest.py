"""No test touches the user's Hugging Face cache or the network. Set before anything imports the libraries."""

import os
import tempfile

import pytest
from hub_server import HubServer

cache = tempfile.TemporaryDirectory(prefix="synthset-tests-")
os.environ["HF_HOME"] = cache.name
os.environ["HF_HUB_OFFLINE"] = "1"


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
