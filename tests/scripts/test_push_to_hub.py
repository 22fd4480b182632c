"""The way of a dataset, as users go it: trained, generated and pushed, then used by a process that has nothing else.

Everything runs in processes of its own, with the real clients and a local Hub.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from hub_server import HubServer
from huggingface_hub import DatasetCard, HfApi, ModelCard
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_raw_folder
from testing_utils.runs import ROOT, refused, same, weights

pytestmark = pytest.mark.slow  # most of it is real runs

FROM_SEED = """
import sys, torch
from synthset import SynthSetPipeline, make_scheduler
pipeline = SynthSetPipeline.from_pretrained({model!r})
pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, 3)
torch.set_num_threads(1)
pair = pipeline(generator=torch.Generator().manual_seed(5), num_inference_steps=3, output_type="pt")
drawn = [float(x.double().sum()) for x in (pair.images, pair.masks)]
weights = [float(p.double().abs().sum()) for p in pipeline.unet.parameters()]
"""


class World:
    """A Hub, and what alice has pushed to it."""

    def __init__(self, folder):
        self.folder, self.hub = folder, HubServer(folder / "hub", {"hf_alice": "alice", "hf_bob": "bob"})
        self.data = write_raw_folder(folder / "field", random_pairs(7))

    def run(self, command, token="hf_alice"):
        environment = {**self.hub.environment(token), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)

    def script(self, name, token="hf_alice", **flags):
        flags = [f"--{flag}={value}" for flag, value in flags.items()]
        return self.run([sys.executable, f"scripts/{name}", *flags], token)

    def python(self, code, token="hf_alice"):
        """What a process with an empty cache puts into `result`."""
        done = self.run([sys.executable, "-c", f"{code}\nimport json\nprint('result', json.dumps(result))"], token)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.split("result ")[-1])

    def titles(self, repo_id, repo_type):
        api = HfApi(endpoint=self.hub.endpoint, token="hf_alice")
        return [commit.title for commit in api.list_repo_commits(repo_id, repo_type=repo_type)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    os.environ.pop("HF_HUB_OFFLINE")  # for `titles`; nothing else here uses the client of this process
    constants = pytest.MonkeyPatch()
    constants.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with world.hub:
        yield world
    constants.undo()
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="module")
def trained(world):
    """A run pushed to a private repository, at checkpoints too; the first of those pushes failed."""
    world.hub.fail("POST", "/api/models/alice/leaves/commit/", status=403, times=1)
    flags = {"push_to_hub": True, "hub_model_id": "leaves", "hub_strategy": "checkpoint", "hub_private_repo": True}
    flags |= {"data_license": "Research only", "validation_steps": 6}
    command = runs.command("train_paired.py", world.data, world.folder / "model", **flags)
    result = world.run(command)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def generated(world, trained):
    """A dataset of 8 pairs from the model on the Hub; pushing it was cut off in the second of two files."""
    world.hub.fail("PUT", "/lfs/datasets", cut_after=100, times=None)
    uploads = len(world.hub.uploads)
    flags = {"model": "alice/leaves", "num_samples": 8, "samples_per_shard": 4, "scheduler": "dpmsolver++"}
    flags |= {"num_inference_steps": 3, "push_to_hub": True, "hub_dataset_id": "alice/pairs"}
    result = world.script("generate_dataset.py", output_dir=world.folder / "pairs", **flags)
    world.hub.faults.clear()
    return result, len(world.hub.uploads) - uploads


@pytest.fixture(scope="module")
def pushed(world, generated):
    """The same, pushed with the command that the failure printed."""
    result, _ = generated
    retry = shlex.split(result.stderr.split("To try again: ")[1].splitlines()[0])
    again = world.run([sys.executable, "-m", "synthset", *retry[1:]])
    assert again.returncode == 0, again.stderr
    return world.folder / "pairs"


def test_training_pushes_at_checkpoints_and_at_the_end(world, trained):
    assert "training goes on: " in trained.stderr and "(403)" in trained.stderr
    titles = world.titles("alice/leaves", "model")
    assert titles[0] == "Upload with SynthSet" and titles[-1] == "initial commit"
    assert all(re.fullmatch(r"Step (6|9)", title) for title in titles[1:-1])
    assert not (world.folder / "model" / ".hub").exists()


def test_no_token_anywhere(world, trained):
    written = [file for file in (world.folder / "model").rglob("*") if file.is_file()]
    assert len(written) > 20 and not any(b"hf_alice" in file.read_bytes() for file in written)
    assert "hf_alice" not in trained.stdout + trained.stderr


def test_the_cards_have_the_numbers_of_the_run(world, trained, pushed):
    entries = [json.loads(line) for line in (world.folder / "model" / "metrics.jsonl").read_text().splitlines()]
    (last,) = [entry for entry in entries if "validation_loss" in entry][-1:]
    api = HfApi(endpoint=world.hub.endpoint, token="hf_alice")
    cards = {}
    for kind, repo_id, repo_type in ((ModelCard, "alice/leaves", "model"), (DatasetCard, "alice/pairs", "dataset")):
        path = api.hf_hub_download(repo_id, "README.md", repo_type=repo_type, local_dir=world.folder / repo_type)
        cards[repo_type] = kind.load(path)
        assert str(world.folder) not in cards[repo_type].content
    metrics = {result.metric_type: result.metric_value for result in cards["model"].data.eval_results}
    assert metrics == {"validation_loss": last["validation_loss"], "divergence": last["divergence"]}
    assert "12 optimizer steps of 4 pairs (48 in all)" in cards["model"].text
    for card in cards.values():
        assert card.data.license == "other" and card.data.license_name == "research-only"
    assert "[alice/leaves](https://huggingface.co/alice/leaves)" in cards["dataset"].text
    assert cards["dataset"].data.dataset_info["splits"][0]["num_examples"] == 8


def test_an_interrupted_push_is_repeated_by_the_command_it_prints(world, generated, pushed):
    result, first = generated
    assert refused(result, "pairs is finished and safe, but was not pushed to alice/pairs")
    assert (pushed / "data" / "train-00001-of-00002.parquet").exists() and first > 0
    assert world.titles("alice/pairs", "dataset") == ["Upload with SynthSet", "initial commit"]


def test_a_fresh_process_gets_the_same_model(world, trained):
    local = world.python(FROM_SEED.format(model=str(world.folder / "model")) + "result = [drawn, weights]", None)
    code = FROM_SEED.format(model="alice/leaves") + "\n".join(
        [
            "from diffusers import DiffusionPipeline",
            "from huggingface_hub import HfApi",
            "first = HfApi().list_repo_commits('alice/leaves')[1]",
            "old = SynthSetPipeline.from_pretrained('alice/leaves', revision=first.commit_id)",
            "then = [float(p.double().abs().sum()) for p in old.unet.parameters()]",
            "kind = type(DiffusionPipeline.from_pretrained('alice/leaves')).__name__",
            "result = [drawn, weights, then != weights, first.title, kind]",
        ]
    )
    drawn, parameters, differs, title, kind = world.python(code)
    assert [drawn, parameters] == local
    assert (differs, kind) == (title.startswith("Step"), "SynthSetPipeline")


def test_a_fresh_process_gets_the_same_pairs(world, pushed):
    code = """
import hashlib, datasets
def digest(rows):
    return [[hashlib.sha256(row[c].tobytes()).hexdigest() for c in ("image", "mask")] + [row["number"]] for row in rows]
{load}
result = [digest(pairs), sorted(set(pairs[0]["mask"].getdata()) - {{0, 255}}), pairs[0]["mask"].format]
"""
    local = world.python(code.format(load=f"pairs = datasets.load_dataset({str(pushed)!r}, split='train')"), None)
    assert len(local[0]) == 8 and local[1:] == [[], "PNG"]
    assert world.python(code.format(load="pairs = datasets.load_dataset('alice/pairs', split='train')")) == local
    stream = "pairs = list(datasets.load_dataset('alice/pairs', split='train', streaming=True))"
    assert world.python(code.format(load=stream)) == local


def test_a_private_model_and_a_wrong_token(world, trained, tmp_path):
    for token in (None, "hf_bob", "hf_wrong"):
        flags = {"model": "alice/leaves", "output_dir": tmp_path / "pairs", "num_samples": 1}
        assert refused(world.script("generate_dataset.py", token, **flags), "--model is alice/leaves")
    flags = {"push_to_hub": True, "data_license": "mit"}
    command = runs.command("train_paired.py", world.data, tmp_path / "model", **flags)
    assert refused(world.run(command, token="hf_wrong"), "401", "hf auth login")
    assert not any(tmp_path.iterdir())


def test_the_hub_is_down_when_training_ends(world, tmp_path):
    flags = {"push_to_hub": True, "data_license": "mit", "max_train_steps": 1, "hub_model_id": "alice/late"}
    with HubServer(tmp_path / "hub", {"hf_alice": "alice"}) as hub:
        environment = {**hub.environment("hf_alice"), "OMP_NUM_THREADS": "1"}
    command = runs.command("train_paired.py", world.data, tmp_path / "model", **flags)
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    retry = f"synthset push --folder {tmp_path / 'model'} --repo_id alice/late"
    assert refused(result, "is finished and safe", "the Hub can't be reached", f"To try again: {retry}")
    assert "continuing, the push to alice/late is tried at the end" in result.stderr
    assert {"model_index.json", "unet", "README.md"} <= {path.name for path in (tmp_path / "model").iterdir()}


def test_a_segmenter_from_the_hub_and_to_it(world, pushed):
    flags = {
        "dataset": "alice/pairs",
        "test_dataset": world.data,
        "output_dir": world.folder / "segmenter",
        "seeds": "[3,4]",
    }
    flags |= {"resolution": 32, "crop_size": 32, "encoder_name": "resnet18", "max_train_steps": 1, "batch_size": 2}
    flags |= {"push_to_hub": True, "hub_model_id": "alice/finder", "data_license": "mit"}
    result = world.script("train_segmentation.py", **flags)
    assert result.returncode == 0 and "pushed to" in result.stdout, result.stderr
    code = """
from synthset.segmentation import Segmenter
segmenter = Segmenter.from_pretrained({model!r})
result = [segmenter.threshold, float(sum(p.double().abs().sum() for p in segmenter.parameters()))]
"""
    local = world.python(code.format(model=str(world.folder / "segmenter" / "seed-3")), None)
    assert world.python(code.format(model="alice/finder")) == local
    api = HfApi(endpoint=world.hub.endpoint, token="hf_alice")
    card = ModelCard.load(api.hf_hub_download("alice/finder", "README.md", local_dir=world.folder / "finder"))
    dice = [result.metric_value for result in card.data.eval_results if result.metric_type == "dice"]
    results = json.loads((world.folder / "segmenter" / "results.json").read_text())
    assert dice == [results["seeds"][0]["dice"], results["dice"]] and card.data.datasets == ["alice/pairs"]


def test_streamed_training_killed_and_resumed_ends_in_the_same_bits(world, pushed, tmp_path):
    flags = {"streaming": True, "crop_size": 16, "batch_size": 3}  # 6 pairs a pass, 2 held out
    straight = world.run(runs.command("train_paired.py", "alice/pairs", tmp_path / "straight", **flags))
    assert straight.returncode == 0, straight.stderr
    command = runs.command("train_paired.py", "alice/pairs", tmp_path / "killed", **flags)
    process = subprocess.Popen(
        command, env={**world.hub.environment("hf_alice"), "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    while not (tmp_path / "killed" / "checkpoint-3").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = world.run(command)
    assert resumed.returncode == 0 and "on 6 pairs " in resumed.stderr and "steps 3 to 12" in resumed.stderr, (
        resumed.stderr
    )
    for part in ("checkpoint-12/unet", "unet"):
        assert same(weights(tmp_path / "killed", part), weights(tmp_path / "straight", part))
