"""Every call to the Hub, failing in every way: what is on disk and what others put there stays, one line says what
happened, and the same call works once the fault has gone."""

import re
import time
import types
from functools import partial

import datasets
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd
from testing_utils.publishing import write_dataset, write_pipeline

from synthset import SynthSetPipeline
from synthset.data import stream_train_validation
from synthset.errors import InputError
from synthset.pipelines.loading import load_pipeline
from synthset.publishing.hub import BackgroundPush, check_push, push_folder

FAULTS = {
    "401": {"status": 401},
    "403": {"status": 403},
    "429": {"status": 429, "headers": {"Retry-After": "1"}},
    "500": {"status": 500},
    "cut": {"cut_after": 10},
    "lost": {"lose_reply": True},
    "slow": {"delay": 0.6},
}
PUSH = {
    "create": ("POST", "/api/repos/create"),
    "look": ("GET", "/api/(datasets|models)/alice/leaves($|[?])"),
    "card": ("GET|HEAD", "/resolve/.*/README.md"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "storage": ("PUT", "/lfs/"),
    "commit": ("POST", "/commit/"),
    "tree": ("GET", "/tree/"),
}
LOAD = {
    "list": ("GET", "/api/models/alice/leaves"),
    "head": ("HEAD", "/resolve/"),
    "config": ("GET", "/resolve/.*json"),
    "weights": ("GET", "/lfs/"),
}
OTHERS = {"notes.txt": b"kept", "photos/1.txt": b"a photo"}


@pytest.fixture
def brisk(client, hub, monkeypatch):
    """Nobody waits long: neither for a reply nor between two attempts."""
    quick = types.SimpleNamespace(sleep=lambda seconds: None, time=__import__("time").time)
    monkeypatch.setattr("huggingface_hub.utils._http.time", quick)
    monkeypatch.setattr("synthset.publishing.hub.time", quick)
    monkeypatch.setattr("synthset.publishing.repository.SILENCE", 0.3)
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(huggingface_hub.constants, name, 0.3)
    yield client
    huggingface_hub.get_session().timeout = None


def snapshot(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def fails_in_one_line(call):
    """Whether `call` raised; then with one line that has no token."""
    try:
        call()
    except InputError as error:
        assert "\n" not in str(error) and "hf_alice" not in str(error), str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", PUSH)
def test_push(brisk, hub, tmp_path, call, fault):
    repo = "alice/leaves"
    brisk.create_repo(repo, repo_type="dataset")
    card = b"---\nlicense: mit\ntags:\n- synthset\n---\n# Of an earlier push\n"
    files = {**OTHERS, "README.md": card, "data/train-00007-of-00008.parquet": b"stale"}
    changes = [CommitOperationAdd(path, content) for path, content in files.items()]
    brisk.create_commit(repo, changes, commit_message="Earlier", repo_type="dataset")
    tree = lambda: {path: file.oid for path, file in hub.repos["datasets", repo].at("main").tree.items()}  # noqa: E731
    before, folder = tree(), write_dataset(tmp_path / "leaves")
    on_disk, push = snapshot(folder), partial(push_folder, folder, repo)

    hub.fail(*PUSH[call], times=None, **FAULTS[fault])
    message = fails_in_one_line(push)
    until = time.monotonic() + 5  # the Hub notes a slow answer when it has given it
    while not any(re.search(PUSH[call][1], path) for _, path, _ in hub.requests[-40:]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not message or ("is finished and safe" in message and "To try again: synthset push" in message)
    assert {name: content for name, content in snapshot(folder).items() if name.name != ".synthset-hub"} == on_disk
    arrived = "data/train-00001-of-00002.parquet" in tree()
    assert {name: oid for name, oid in tree().items() if arrived is False or name in OTHERS} == {
        name: oid for name, oid in before.items() if arrived is False or name in OTHERS
    }, "half of it is there"

    hub.faults.clear()
    push()
    assert tree().keys() == {".gitattributes", "README.md", "preview.png", *OTHERS} | {
        f"data/train-0000{i}-of-00002.parquet" for i in range(2)
    }
    assert all(tree()[name] == before[name] for name in OTHERS)


@pytest.mark.parametrize("fault", FAULTS)
def test_push_at_a_checkpoint(brisk, hub, tmp_path, caplog, fault):
    run, pushes = tmp_path / "leaves", BackgroundPush()
    push = partial(push_folder, write_pipeline(run / ".hub"), home=run, message="Step 3")
    for call in ("create", "commit"):
        hub.fail(*PUSH[call], times=None, **FAULTS[fault])
        pushes.start(push)
        pushes.wait()
        hub.faults.clear()
    assert caplog.text.count("training goes on: ") == 2
    assert push_folder(write_pipeline(run)) == f"{hub.endpoint}/alice/leaves"


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_before_the_work(brisk, hub, tmp_path, caplog, fault):
    hub.fail(*PUSH["create"], times=None, **FAULTS[fault])
    message = fails_in_one_line(lambda: check_push("alice/leaves", "model", False, "mit"))
    assert (message != "") == (fault in ("401", "403"))
    assert message or "continuing, the push to alice/leaves is tried at the end" in caplog.text
    hub.faults.clear()
    check_push("alice/leaves", "model", False, "mit")


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("pipeline") / "leaves")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", LOAD)
def test_load(brisk, hub, tmp_path, monkeypatch, pipeline_folder, call, fault):
    push_folder(pipeline_folder, "alice/leaves")
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    before = hub.repos["models", "alice/leaves"].at("main").sha
    load = partial(load_pipeline, SynthSetPipeline, "alice/leaves")
    hub.fail(*LOAD[call], times=None, **FAULTS[fault])
    message = fails_in_one_line(load)
    assert not message or message.startswith("--model is alice/leaves, which can't be loaded (")
    hub.faults.clear()
    digest = load()[1]
    assert digest == load_pipeline(SynthSetPipeline, str(pipeline_folder))[1]
    assert hub.repos["models", "alice/leaves"].at("main").sha == before


STREAM = {"open": ("GET", "/api/datasets/alice/leaves"), "read": ("GET", "/lfs/datasets/")}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", STREAM)
def test_stream(brisk, hub, tmp_path, monkeypatch, call, fault):
    push_folder(write_dataset(tmp_path / "leaves", 2), "alice/leaves")
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": False, "STREAMING_READ_MAX_RETRIES": 2}
    for name in ("RETRY", "SERVER_UNAVAILABLE_RETRY", "RATE_LIMIT_RETRY"):
        settings[f"STREAMING_READ_{name}_INTERVAL"] = 0.01
    for name, value in settings.items():
        monkeypatch.setattr(datasets.config, name, value)

    def stream():
        huggingface_hub.HfFileSystem.clear_instance_cache()
        splits = stream_train_validation("alice/leaves", None, None, 0.2, seed=0)
        return [image.sum().item() for image, _ in (*splits.validation, *(splits.train[i] for i in range(4)))]

    hub.fail(*STREAM[call], times=None, **FAULTS[fault])
    message = fails_in_one_line(stream)
    assert message.startswith("alice/leaves: ") or message.startswith("reading alice/leaves failed")
    hub.faults.clear()
    assert len(stream()) == 6
