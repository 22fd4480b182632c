"""Pushing folders with the real client to a local Hub. tests/scripts/test_push_to_hub.py runs the scripts."""

import re

import huggingface_hub
import pytest
from diffusers import DDPMScheduler
from huggingface_hub.hf_api import RepoFile
from testing_utils.publishing import write_dataset

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.errors import InputError
from synthset.pipelines.safety import require_safe
from synthset.publishing.hub import BackgroundPush, check_push, find_content, push_folder, verify


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "pairs")


def commits(client, repo_id, repo_type="dataset"):
    return [commit.title for commit in client.list_repo_commits(repo_id, repo_type=repo_type)]


def test_a_dataset_arrives_with_its_card_and_nothing_else(client, hub, dataset):
    assert push_folder(dataset, "alice/wheat") == f"{hub.endpoint}/datasets/alice/wheat"
    files = set(client.list_repo_files("alice/wheat", repo_type="dataset"))
    shards = {f"data/train-0000{i}-of-00002.parquet" for i in range(2)}
    assert files - {".gitattributes"} == {"README.md", "preview.png", *shards}
    assert not client.dataset_info("alice/wheat").private


def test_pushed_twice_it_is_one_repository_with_two_commits(client, dataset):
    push_folder(dataset, "alice/wheat")
    push_folder(dataset, "alice/wheat")  # nothing has changed, so nothing is committed
    assert commits(client, "alice/wheat").count("Upload with SynthSet") == 1
    write_dataset(dataset, seed=1)
    push_folder(dataset, "alice/wheat", message="New seeds")
    assert commits(client, "alice/wheat")[:2] == ["New seeds", "Upload with SynthSet"]


def test_shards_of_an_earlier_push_go(client, tmp_path):
    push_folder(write_dataset(tmp_path / "three", 3), "alice/wheat")
    client.upload_file(path_or_fileobj=b"kept", path_in_repo="notes.txt", repo_id="alice/wheat", repo_type="dataset")
    push_folder(write_dataset(tmp_path / "one", 1), "alice/wheat")
    files = client.list_repo_files("alice/wheat", repo_type="dataset")
    assert [file for file in files if file.startswith("data/")] == ["data/train-00000-of-00001.parquet"]
    assert "notes.txt" in files  # what others put there stays


def test_an_interrupted_push_goes_on_where_it_was(client, hub, dataset, monkeypatch):
    monkeypatch.setattr("synthset.publishing.hub.FILES_AT_ONCE", 1)
    hub.fail("POST", "/commit/", status=403, times=1)
    with pytest.raises(InputError, match="is finished and safe, but was not pushed to alice/wheat: the token may not"):
        push_folder(dataset, "alice/wheat")
    sent = {upload.oid for upload in hub.uploads}
    assert len(sent) == 3 and commits(client, "alice/wheat") == ["initial commit"]
    push_folder(dataset, "alice/wheat")
    assert len(hub.uploads) == 3, "what had arrived was sent again"
    assert commits(client, "alice/wheat")[0] == "Upload with SynthSet"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 500},
    ],
)
def test_a_busy_hub_is_asked_again(client, hub, dataset, fault):
    hub.fail("POST", "/api/repos/create", times=1, **fault)
    hub.fail("POST", "/commit/", times=1, **fault)
    push_folder(dataset, "alice/wheat")
    statuses = [status for _, path, status in hub.requests if re.search("repos/create|/commit/", path)]
    assert statuses == [fault["status"], 200, fault["status"], 200]


def test_a_hub_that_is_down(client, hub, dataset):
    hub.stop()
    try:
        with pytest.raises(InputError, match="the Hub can't be reached.*To try again: synthset push") as raised:
            push_folder(dataset, "alice/wheat", private=True, data_license="mit")
        assert f"--folder {dataset} --repo_id alice/wheat --hub_private_repo --data_license mit" in str(raised.value)
        check_push("alice/wheat", "dataset", False, "mit")  # only warns: it may be back at the end
    finally:
        hub.start()


@pytest.mark.parametrize(
    "token, repo_id, words",
    [
        ("hf_wrong", "alice/wheat", "401.*hf auth login"),
        ("hf_bob", "alice/wheat", "403.*write permission"),
        ("hf_alice", "alice/wheat/2", "give NAMESPACE/NAME"),
    ],
)
def test_what_the_hub_refuses_is_known_before_the_work(client, dataset, monkeypatch, token, repo_id, words):
    monkeypatch.setenv("HF_TOKEN", token)
    for push in (lambda: check_push(repo_id, "dataset", False, "mit"), lambda: push_folder(dataset, repo_id)):
        with pytest.raises(InputError, match=words) as raised:
            push()
        assert token not in str(raised.value)


def test_nothing_is_pushed_without_a_license(client, hub, tmp_path):
    folder = write_dataset(tmp_path / "pairs", data_license=None)
    for push in (lambda: check_push("alice/a", "dataset", False, None), lambda: push_folder(folder, "alice/a")):
        with pytest.raises(InputError, match="name it with --data_license"):
            push()
    assert not hub.requests
    push_folder(folder, "alice/a", data_license="cc-by-4.0")
    assert client.dataset_info("alice/a").card_data.license == "cc-by-4.0"


def test_a_private_repository_is_its_owners(client, dataset, monkeypatch):
    push_folder(dataset, "alice/secret", private=True)
    assert client.dataset_info("alice/secret").private
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(huggingface_hub.errors.RepositoryNotFoundError):
        client.dataset_info("alice/secret")


def test_what_arrives_is_compared(client, hub, dataset):
    push_folder(dataset, "alice/wheat")
    tree = list(client.list_repo_tree("alice/wheat", recursive=True, repo_type="dataset"))
    remote = [entry for entry in tree if isinstance(entry, RepoFile)]
    additions = [
        huggingface_hub.CommitOperationAdd(path, dataset / path)
        for path in ("data/train-00000-of-00002.parquet", "preview.png")
    ]
    verify(additions, remote)
    with pytest.raises(OSError, match="preview.png did not arrive"):
        verify(additions, [file for file in remote if file.path != "preview.png"])
    (dataset / "data/train-00000-of-00002.parquet").write_bytes(b"changed")
    changed = huggingface_hub.CommitOperationAdd("data/train-00000-of-00002.parquet", additions[0].path_or_fileobj)
    with pytest.raises(OSError, match="train-00000-of-00002.parquet did not arrive"):
        verify([changed], remote)


def test_a_pipeline_without_its_run(client, tmp_path):
    unet = PairedUNet2DModel(16, block_out_channels=(8, 8), layers_per_block=1, attention_head_dim=8, norm_num_groups=4)
    scheduler = DDPMScheduler()
    SynthSetPipeline(unet, scheduler).save_pretrained(tmp_path)
    (tmp_path / "checkpoint-3").mkdir()
    for private in ("checkpoint-3/optimizer.bin", "arguments.yaml", "metrics.jsonl"):
        (tmp_path / private).write_text("{}")
    (tmp_path / "previews").mkdir()
    for step in (3, 6):
        (tmp_path / "previews" / f"step-{step:06d}.png").write_bytes(b"picture")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# a\n")
    push_folder(tmp_path, "leaves")  # in the token owner's namespace
    assert set(client.list_repo_files("alice/leaves")) - {".gitattributes"} == {
        *("README.md", "model_index.json", "metrics.jsonl", "previews/step-000006.png"),
        *("scheduler/scheduler_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"),
    }


def test_pickles_and_code_are_refused(client, tmp_path):
    for name, unsafe in (("unet/weights.bin", True), ("pipeline.py", True), ("unet/weights.safetensors", False)):
        repo = f"alice/odd{len(name)}"
        client.create_repo(repo)
        client.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=repo)
        client.upload_file(path_or_fileobj=b"{}", path_in_repo="model_index.json", repo_id=repo)
        if unsafe:
            with pytest.raises(InputError, match=f"{repo} holds {name}; weights are loaded from safetensors only"):
                SynthSetPipeline.from_pretrained(repo, cache_dir=tmp_path / "cache")
            assert not (tmp_path / "cache").exists(), "something was fetched"
        else:
            require_safe(repo, client.list_repo_files(repo))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(InputError, match="holds unet/diffusion_pytorch_model.bin"):
        SynthSetPipeline.from_pretrained(tmp_path)
    unet = PairedUNet2DModel(16, block_out_channels=(8, 8), layers_per_block=1, attention_head_dim=8, norm_num_groups=4)
    unet.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(OSError, match="safetensors"):
        PairedUNet2DModel.from_pretrained(tmp_path / "pickled")


def test_a_folder_with_nothing_to_push(tmp_path):
    with pytest.raises(InputError, match="holds nothing to push; give a folder that synthset train"):
        find_content(tmp_path)


@pytest.mark.parametrize("error", [InputError, OSError])
def test_training_goes_on_when_a_push_in_the_background_fails(caplog, error):
    pushes = BackgroundPush()

    def fail():
        raise error("not pushed")

    assert not pushes.busy
    pushes.start(fail)
    pushes.wait()
    assert "training goes on: not pushed" in caplog.text and not pushes.busy
