"""What a push may touch: SynthSet's own files, in SynthSet's own repositories, and one folder's in each."""

import json

import datasets
import pytest
from huggingface_hub import CommitOperationAdd, RepoCard, snapshot_download
from testing_utils.publishing import write_dataset, write_pipeline

from synthset.data.writer import export_imagefolder
from synthset.errors import InputError
from synthset.publishing.hub import check_push, push_folder

PHOTOS = {"data/test-00000-of-00001.parquet": b"PAR1", "photos/1.jpg": b"a photo", "images/7.png": b"a drawing"}


def put(client, repo_id, files, repo_type="dataset"):
    """The repository with these files, as somebody else makes it."""
    client.create_repo(repo_id, repo_type=repo_type, exist_ok=True)
    changes = [CommitOperationAdd(path, content) for path, content in files.items()]
    client.create_commit(repo_id, changes, commit_message="By hand", repo_type=repo_type)


def state(hub, repo_id, kind="datasets"):
    """Every file of the repository by its hash, as it stands."""
    return {path: file.oid for path, file in hub.repos[kind, repo_id].at("main").tree.items()}


@pytest.mark.parametrize(
    "card", [None, b"---\nlicense: mit\ntags:\n- photos\n---\n# Ours since 2019\n", b"---\na: [\n---\nNo YAML\n"]
)
def test_what_synthset_never_wrote_is_not_touched(client, hub, tmp_path, card):
    put(client, "alice/field", PHOTOS | ({"README.md": card} if card and b"[" not in card else {}))
    if card and b"[" in card:  # which the website's own check refuses, and git doesn't
        repo = hub.repos["datasets", "alice/field"]
        repo.add("main", {**repo.at("main").tree, "README.md": repo.store(card)}, "By git", "", "alice")
    before, folder, uploads = state(hub, "alice/field"), write_dataset(tmp_path / "field"), len(hub.uploads)
    listed = "data/test-00000-of-00001.parquet, images/7.png, photos/1.jpg"
    listed = f"README.md, {listed}" if card else listed
    for push in (
        lambda: check_push("alice/field", "dataset", False, "mit"),
        lambda: check_push(None, "dataset", False, "mit", folder),
        lambda: push_folder(folder, "alice/field"),
        lambda: push_folder(folder),
    ):
        with pytest.raises(InputError, match=f"alice/field is not SynthSet's: it holds {listed}") as raised:
            push()
        assert f"would replace {'README.md' if card else 'nothing'}" in str(raised.value)
        assert "name another repository" in str(raised.value) and "\n" not in str(raised.value)
    assert state(hub, "alice/field") == before and len(hub.uploads) == uploads


def test_it_says_what_would_be_replaced(client, hub, tmp_path):
    folder = write_dataset(tmp_path / "field")
    put(client, "alice/field", {"data/train-00001-of-00002.parquet": b"PAR1", "preview.png": b"a drawing"})
    with pytest.raises(InputError, match="would replace data/train-00001-of-00002.parquet, preview.png; name another"):
        push_folder(folder, "alice/field")


def test_the_tag_hands_a_repository_over(client, hub, tmp_path):
    put(client, "alice/field", {**PHOTOS, "README.md": b"---\ntags:\n- synthset\n---\n# Photos\n"})
    push_folder(write_dataset(tmp_path / "field"), "alice/field")
    assert state(hub, "alice/field").keys() >= PHOTOS.keys()


def test_the_card_that_the_website_makes_is_no_obstacle(client, hub, tmp_path):
    put(client, "alice/field", {"README.md": b"---\nlicense: mit\n---\n"})
    check_push(None, "dataset", False, "mit", tmp_path / "field")
    push_folder(write_dataset(tmp_path / "field"))
    assert "data/train-00001-of-00002.parquet" in state(hub, "alice/field")


def test_splits_that_are_not_pushed_stay_and_load(client, hub, tmp_path):
    push_folder(write_dataset(tmp_path / "real", 2, split="test"), "alice/field")
    put(client, "alice/field", {"photos/1.jpg": b"a photo", "data/notes.parquet": b"PAR1"})
    before = state(hub, "alice/field")
    push_folder(write_dataset(tmp_path / "three", 3, seed=1), "alice/field")
    push_folder(write_dataset(tmp_path / "one", 1, seed=2), "alice/field")
    after = state(hub, "alice/field")
    stays = [path for path in before if path not in ("README.md", "preview.png")]
    assert {path: after[path] for path in stays} == {path: before[path] for path in stays}
    assert after.keys() - before.keys() == {"data/train-00000-of-00001.parquet"}
    client.delete_file("data/notes.parquet", "alice/field", repo_type="dataset")
    copy = snapshot_download("alice/field", repo_type="dataset", local_dir=tmp_path / "copy")
    loaded = datasets.load_dataset(copy, cache_dir=str(tmp_path / "cache"))  # compares numbers with the card's
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "test": 6}
    header = RepoCard.load(tmp_path / "copy" / "README.md").data.to_dict()
    assert {split["name"]: split["num_examples"] for split in header["dataset_info"]["splits"]} == {
        split: len(rows) for split, rows in loaded.items()
    }


def test_splits_of_other_columns_do_not_become_one_dataset(client, hub, tmp_path):
    push_folder(write_dataset(tmp_path / "real", split="test"), "alice/field")
    folder, before = write_dataset(tmp_path / "drawn"), state(hub, "alice/field")
    card = RepoCard.load(folder / "README.md")
    card.data["dataset_info"]["features"].append({"name": "seed", "dtype": "int64"})
    card.save(folder / "README.md")
    with pytest.raises(InputError, match="drawn is finished and safe.*has the split test of columns image, mask, but"):
        push_folder(folder, "alice/field")
    assert state(hub, "alice/field") == before


def test_two_folders_of_one_name_are_two_repositories(client, hub, tmp_path):
    real, drawn = write_dataset(tmp_path / "data" / "field"), write_dataset(tmp_path / "generated" / "field", seed=1)
    assert push_folder(real) == f"{hub.endpoint}/datasets/alice/field"
    write_dataset(real, seed=2)
    push_folder(real)  # its own, and changed
    before = state(hub, "alice/field")
    for push in (lambda: push_folder(drawn), lambda: check_push(None, "dataset", False, "mit", drawn)):
        with pytest.raises(InputError, match="alice/field was not pushed from this folder, which only has"):
            push()
    assert state(hub, "alice/field") == before
    push_folder(drawn, "alice/field")  # asked for
    push_folder(write_dataset(drawn, seed=3))
    check_push(None, "dataset", False, "mit", drawn)
    with pytest.raises(InputError, match="was not pushed from this folder"):
        push_folder(real)


def test_a_run_and_what_it_pushes_on_the_way_are_one(client, hub, tmp_path):
    run = tmp_path / "leaves"
    push_folder(write_pipeline(run / ".hub"), home=run, message="Step 3")
    check_push(None, "model", False, "mit", run)  # as the same command does after a kill
    assert push_folder(write_pipeline(run)) == f"{hub.endpoint}/alice/leaves"
    with pytest.raises(InputError, match="was not pushed from this folder"):
        push_folder(write_pipeline(tmp_path / "other" / "leaves"))


def test_pictures_of_an_earlier_push_go_and_no_others(client, hub, tmp_path):
    folders = [write_dataset(tmp_path / name, shards) for name, shards in (("two", 2), ("one", 1))]
    for folder in folders:
        export_imagefolder(sorted((folder / "data").iterdir()), folder)
        for shard in (folder / "data").iterdir():
            shard.unlink()
    push_folder(folders[0], "alice/field")
    put(client, "alice/field", PHOTOS)
    push_folder(folders[1], "alice/field")
    there = state(hub, "alice/field")
    rows = [json.loads(line) for line in (folders[1] / "metadata.jsonl").read_text().splitlines()]
    listed = {row[name] for row in rows for name in ("file_name", "mask_file_name")}
    assert {path for path in there if path.endswith(".png")} == {*listed, "images/7.png", "preview.png"}
    assert there.keys() >= PHOTOS.keys()


def test_files_of_an_earlier_model_go_and_no_others(client, hub, tmp_path):
    folder = write_pipeline(tmp_path / "leaves")
    (folder / "previews").mkdir()
    (folder / "previews" / "step-000003.png").write_bytes(b"a picture")
    push_folder(folder, "alice/leaves")
    shards = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    mine = ["unet/notes.md", "sub/model.safetensors", "config.json"]
    put(client, "alice/leaves", dict.fromkeys([*shards, *mine], b"{}"), "model")
    (folder / "previews" / "step-000003.png").rename(folder / "previews" / "step-000006.png")
    push_folder(folder, "alice/leaves")
    there = state(hub, "alice/leaves", "models").keys()
    assert there >= {*mine, "previews/step-000006.png", "unet/diffusion_pytorch_model.safetensors"}
    assert not there & {*shards, "previews/step-000003.png"}


def test_what_changed_meanwhile_is_looked_at_again(client, hub, tmp_path):
    """Somebody takes the repository while the files are on their way."""
    folder, patch = write_dataset(tmp_path / "field"), pytest.MonkeyPatch()
    upload = type(client).preupload_lfs_files

    def slow_upload(*args, **options):
        upload(*args, **options)
        patch.undo()
        put(client, "alice/field", PHOTOS)

    patch.setattr("synthset.publishing.hub.HfApi.preupload_lfs_files", slow_upload)
    with pytest.raises(InputError, match="field is finished and safe.*alice/field is not SynthSet's"):
        push_folder(folder, "alice/field")
    assert state(hub, "alice/field").keys() - {".gitattributes"} == PHOTOS.keys()
