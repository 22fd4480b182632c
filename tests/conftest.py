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
