"""The local Hub, driven by the real `huggingface_hub` and `datasets` in processes of their own."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
PRELUDE = """
import json
from pathlib import Path
from huggingface_hub import HfApi, HfFileSystem, snapshot_download
api = HfApi()

def caught(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except Exception as error:
        return type(error).__name__

def write(folder, **files):
    for name, content in files.items():
        Path(folder, name.replace("_", ".")).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name.replace("_", ".")).write_bytes(content)
"""


@pytest.fixture
def client(hub, tmp_path):
    """Runs code in a new process with an empty cache; returns what the code put in `result`, as JSON gives it back."""

    def run(code, token="hf_alice", server=hub):
        code = f"{PRELUDE}\nWEIGHTS = bytes(range(256)) * 4096\n{code}\nprint('result', json.dumps(result))"
        environment = server.environment(token)
        process = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.split("result ")[-1])

    return run


def calls(hub, method, part=""):
    """Statuses of the calls with that method and that part in their path."""
    return [status for used, path, status in hub.requests if used == method and part in path]


UPLOAD = """
api.create_repo("org/leaves", exist_ok=True)
write("run", config_json=b"{}", model_safetensors=WEIGHTS, README_md=b"---\\nlicense: mit\\n---\\nLeaves.\\n")
"""


def test_two_commits_and_every_revision_again(hub, client):
    result = client(
        UPLOAD
        + """
first = api.upload_folder(repo_id="org/leaves", folder_path="run").oid
write("run", config_json=b'{"steps": 2}')
second = api.upload_folder(repo_id="org/leaves", folder_path="run", parent_commit=first).oid
api.create_repo("org/leaves", exist_ok=True)
api.create_tag("org/leaves", tag="v1", revision=first)
api.create_branch("org/leaves", branch="ablation/a", revision="v1")
stale = caught(api.upload_file, repo_id="org/leaves", path_or_fileobj=b"a", path_in_repo="a", parent_commit=first)
api.delete_file("config.json", "org/leaves", revision="ablation/a")
info = api.model_info("org/leaves", files_metadata=True)
tree = api.list_repo_tree("org/leaves", recursive=True, expand=True)
read = {}
for revision in (first, "v1", "main", "ablation/a"):
    folder = Path(snapshot_download("org/leaves", revision=revision))
    read[revision] = {p.name: p.read_text() for p in folder.iterdir() if p.suffix == ".json"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
result = {
    "commits": [commit.commit_id for commit in api.list_repo_commits("org/leaves")],
    "titles": {entry.path: entry.last_commit.oid for entry in tree},
    "branches": [ref.name for ref in api.list_repo_refs("org/leaves").branches],
    "first": first, "second": second, "stale": stale, "read": list(read.values()), "sha": info.sha, "tags": info.tags,
    "lfs": {s.rfilename: s.lfs and [s.lfs.sha256, s.lfs.size] for s in info.siblings},
    "missing": [caught(snapshot_download, "org/leaves", revision="v2"),
                caught(api.hf_hub_download, "org/leaves", "gone.json")],
    "paths": [entry.path for entry in api.get_paths_info("org/leaves", ["config.json", "gone.json"])],
    "deleted": [api.delete_repo("org/leaves"), caught(api.model_info, "org/leaves")],
}
"""
    )
    first, second = result["first"], result["second"]
    assert result["commits"][:2] == [second, first] and len(result["commits"]) == 3  # the first makes .gitattributes
    assert result["stale"] == "HfHubHTTPError"  # 412: `main` has moved on
    assert result["read"] == [{"config.json": text} for text in ("{}", "{}", '{"steps": 2}')] + [{}]
    assert result["sha"] == second and result["tags"] == ["license:mit"]
    assert result["titles"]["config.json"] == second and result["titles"]["model.safetensors"] == first
    assert result["branches"] == ["main", "ablation/a"]
    assert result["lfs"]["model.safetensors"] == [hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)]
    assert result["lfs"]["config.json"] is None
    assert result["missing"] == ["RevisionNotFoundError", "RemoteEntryNotFoundError"]
    assert result["paths"] == ["config.json"]
    assert result["deleted"] == [None, "RepositoryNotFoundError"]
    assert [upload.received for upload in hub.uploads] == [len(WEIGHTS)]  # unchanged weights are not sent again


def test_range_of_a_large_file(hub, client):
    result = client(
        UPLOAD
        + """
api.upload_folder(repo_id="org/leaves", folder_path="run")
with HfFileSystem().open("org/leaves/model.safetensors", block_size=1000) as file:
    file.seek(-256, 2)
    result = list(file.read(3))
"""
    )
    assert result == [0, 1, 2]
    assert calls(hub, "GET", "/lfs/") == [206]


def test_large_files_in_parts(tmp_path, client):
    with HubServer(tmp_path / "parts", {"hf_alice": "alice"}, part_size=400_000) as hub:
        assert client(
            UPLOAD
            + """
api.upload_folder(repo_id="org/leaves", folder_path="run")
result = Path(api.hf_hub_download("org/leaves", "model.safetensors")).read_bytes() == WEIGHTS
""",
            server=hub,
        )
    assert [upload.received for upload in hub.uploads] == [400_000, 400_000, len(WEIGHTS) - 800_000]
    assert list((tmp_path / "parts" / "incoming").iterdir()) == []


def test_dataset_of_pairs_whole_and_streamed(hub, client):
    result = client(
        """
import numpy as np
from datasets import Dataset, load_dataset
from PIL import Image

def row(i):
    return {"image": Image.fromarray(np.full((8, 6, 3), i, np.uint8)), "mask": Image.fromarray(np.eye(8, 6, i) > 0)}

pairs = Dataset.from_generator(lambda: map(row, range(7)))
pairs.push_to_hub("org/pairs", num_shards=3)
whole = load_dataset("org/pairs", split="train")
streamed = load_dataset("org/pairs", split="train", streaming=True)
for i, (a, b) in enumerate(zip(whole, streamed, strict=True)):
    for key, value in row(i).items():
        assert a[key].mode == b[key].mode == value.mode
        assert a[key].tobytes() == b[key].tobytes() == value.tobytes(), (i, key)
result = [i + 1, streamed.num_shards, caught(load_dataset, "org/missing")]
"""
    )
    assert result == [7, 3, "DatasetNotFoundError"]
    assert len(hub.uploads) == 3
    assert set(calls(hub, "GET", "/lfs/")) == {200, 206}  # whole files, then ranges of them


def test_tokens_and_private_repositories(tmp_path, client):
    users = {"hf_alice": "alice", "hf_bob": "bob"}
    with HubServer(tmp_path / "rights", users, read_tokens={"hf_read": "alice"}) as hub:
        result = client(
            """
api.create_repo("alice/secret", private=True)
api.create_repo("alice/open")
api.upload_file(repo_id="alice/secret", path_or_fileobj=b"hidden", path_in_repo="a.bin")
result = {}
for token in ("hf_alice", "hf_read", "hf_bob", "hf_wrong", False):
    api = HfApi(token=token)
    read = {"repo_id": "alice/secret", "filename": "a.bin", "cache_dir": f"cache-{token}"}
    write = {"repo_id": "alice/open", "path_in_repo": "x.txt", "path_or_fileobj": b"x"}
    result[str(token)] = [
        caught(lambda: api.whoami()["name"]),
        caught(lambda: Path(api.hf_hub_download(**read)).read_text()),
        caught(lambda: api.model_info("alice/secret").private),
        caught(lambda: str(api.create_repo("alice/mine"))[-10:]),
        caught(lambda: bool(api.upload_file(**write).oid)),
    ]
""",
            server=hub,
        )
    hidden, refused = "RepositoryNotFoundError", "HfHubHTTPError"
    assert result == {
        "hf_alice": ["alice", "hidden", True, "alice/mine", True],
        "hf_read": ["alice", "hidden", True, refused, refused],
        "hf_bob": ["bob", hidden, hidden, refused, refused],
        "hf_wrong": [refused] * 5,
        "False": ["ValueError", hidden, hidden, refused, hidden],
    }


def test_card_that_the_hub_refuses(hub, client):
    cards = {
        "license: mit\nsize_categories: n<1K\nmodel-index:\n- name: a\n  results:\n  - task: {type: t}\n"
        "    dataset: {name: d, type: d}\n    metrics:\n    - {type: miou, value: 0.5}": None,
        "license: none of them": '"license" must be one of [afl-3.0, ',
        "license: mit\ntags: [1]": '"tags" must be an array of strings',
        "model-index: not correct": '"model-index[0].name" is required',
        "model-index:\n- name: a\n  results:\n  - task: {type: t}": '"model-index[0].results[0].metrics" is required',
        "license: [mit": "invalid YAML",
    }
    result = client(
        f"""
api.create_repo("org/leaves")
result = []
for card in {list(cards)!r}:
    try:
        result.append(bool(api.upload_file(
            repo_id="org/leaves", path_or_fileobj=f"---\\n{{card}}\\n---\\n# A\\n".encode(), path_in_repo="README.md"
        )))
    except ValueError as error:
        result.append(str(error))
"""
    )
    assert result[0] is True
    for message, expected in zip(result[1:], list(cards.values())[1:], strict=True):
        assert message.startswith("Invalid metadata in README.md.") and expected in message
    assert calls(hub, "POST", "/commit/") == [200]


def test_the_client_waits_and_tries_again(hub, client):
    hub.fail("POST", "/preupload/", status=429, headers={"Retry-After": "1"})
    hub.fail("PUT", "/lfs/", status=500)
    hub.fail("PUT", "/lfs/", cut_after=300_000)
    hub.fail("GET", "/lfs/.*model.safetensors", cut_after=300_000)
    hub.fail("GET", "/tree/", status=503)
    hub.fail("GET", "/whoami", delay=0.7)
    equal, seconds = client(
        UPLOAD
        + """
import time
api.upload_folder(repo_id="org/leaves", folder_path="run")
result = [Path(snapshot_download("org/leaves"), "model.safetensors").read_bytes() == WEIGHTS]
start = time.monotonic()
api.whoami()
result.append(time.monotonic() - start)
"""
    )
    assert equal and seconds >= 0.7
    assert calls(hub, "POST", "/preupload/") == [429, 200]
    assert calls(hub, "PUT") == [500, 0, 200]
    assert [(upload.received, upload.stored) for upload in hub.uploads] == [(300_000, False), (len(WEIGHTS), True)]
    assert len(calls(hub, "GET", "/lfs/")) == 2
    assert calls(hub, "GET", "/tree/") == [503, 200]


def test_push_again_sends_what_is_missing(hub, client):
    hub.fail("PUT", hashlib.sha256(b"b" * 200_000).hexdigest(), status=403)
    hub.fail("POST", "/commit/", status=429)
    hub.fail("POST", "/commit/", lose_reply=True)
    result = client(
        """
api.create_repo("org/leaves")
write("run", a_bin=b"a" * 100_000, b_bin=b"b" * 200_000, c_txt=b"c")
result = [caught(lambda: bool(api.upload_folder(repo_id="org/leaves", folder_path="run").oid)) for _ in range(4)]
"""
    )
    assert result == ["RuntimeError", "HfHubHTTPError", "RemoteProtocolError", True]  # a commit is not tried again
    assert sorted((upload.received, upload.stored) for upload in hub.uploads) == [
        (100_000, True),
        (200_000, True),
    ]
    assert calls(hub, "POST", "/commit/") == [429, 0]  # the lost one counted: nothing was left to commit
    assert len(hub.repos["models", "org/leaves"].history) == 2


def test_down_and_back(hub, client):
    code = UPLOAD + 'result = caught(lambda: bool(api.upload_folder(repo_id="org/leaves", folder_path="run").oid))'
    hub.stop()
    assert client("result = caught(api.create_repo, 'org/leaves')") == "ConnectError"
    hub.start()
    assert client(code) is True


def test_process_for_a_demonstration(tmp_path, client):
    script = Path(__file__).with_name("hub_server.py")
    command = [sys.executable, str(script), "--folder", str(tmp_path / "demo"), "--token", "hf_x=carol"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            endpoint = process.stdout.readline().strip()
            code = f"result = [HfApi(endpoint={endpoint!r}).whoami()['name'], caught(api.whoami)]"
            assert client(code, token="hf_x") == ["carol", "HfHubHTTPError"]
        finally:
            process.kill()
