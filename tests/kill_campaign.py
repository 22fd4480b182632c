"""Kills every kind of run at random moments and has the same command continue, until what is left must be what an
undisturbed run leaves, byte for byte.

    python tests/kill_campaign.py --kills 200 --seed 0

Each run is one or two processes, sent SIGKILL, SIGTERM or SIGINT after a random time. After SIGTERM and SIGINT they
must leave within a minute, with exit code 75 and without a traceback. After each kill, whatever stands under its final
name must be whole. To spend the time in runs and not in imports, processes are forked from this one, which has imported
all. Prints the kills of each kind of run, and exits with 1 if a promise was not kept.
"""

import argparse
import faulthandler
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMEOUT = 60  # seconds in which processes that were asked to stop must be gone


class Failure(Exception):
    """A promise that was not kept."""


# ---- processes ----


def start(script: str, flags: list[str], processes: int, log: Path) -> list[int]:
    """Forks the processes of a run of `scripts/SCRIPT` as a launcher would; their output goes to the file `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(processes):
        pids.append(os.fork())
        if not pids[-1]:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if processes > 1:
                world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
                world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in world.items()})
            os._exit(run_script(script, flags))
    return pids


def run_script(script: str, flags: list[str]) -> int:
    """Runs a script as `python scripts/SCRIPT FLAGS` does; returns its exit code."""
    sys.argv, code = [script, *flags], 1
    try:
        runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def wait(pids: list[int], seconds: float) -> list[int]:
    """Exit codes, negative for a signal, of the processes that have ended within `seconds`; they leave `pids`."""
    codes, until = [], time.monotonic() + seconds
    while pids and time.monotonic() < until:
        for pid in list(pids):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pids.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    return codes


def send(pids: list[int], number: int) -> None:
    """Sends a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


# ---- what a run leaves ----


def check_whole(folder: Path) -> None:
    """Opens every file that stands under its final name, and compares checkpoints with their digests."""
    from synthset.pipelines.loading import list_checkpoints
    from synthset.training.history import find_damage

    for checkpoint in list_checkpoints(folder):
        if damage := find_damage(checkpoint):
            raise Failure(f"{checkpoint} {damage}")
    for file in folder.rglob("*"):
        unfinished = any(
            part.startswith((".", "tmp-")) or part == "pipeline" for part in file.relative_to(folder).parts
        )
        if file.is_file() and not unfinished and file.suffix in OPENERS:
            try:
                OPENERS[file.suffix](file)
            except Exception as error:
                raise Failure(f"{file} is not whole: {error}") from error


def open_image(file: Path) -> None:
    from PIL import Image

    with Image.open(file) as picture:
        picture.load()


def open_parquet(file: Path) -> None:
    import pyarrow.parquet as pq

    pq.read_table(file)


def open_safetensors(file: Path) -> None:
    from safetensors.torch import load_file

    load_file(file)


OPENERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda file: json.loads(file.read_text()),
    ".png": open_image,
    ".parquet": open_parquet,
    ".safetensors": open_safetensors,
}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all that a finished run leaves, but for times, its own path and TensorBoard's files. Of the log, the
    validations count: means over steps begin anew when a run continues."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        content = file.read_bytes()
        if name == "metrics.jsonl":
            content = b"\n".join(line for line in content.splitlines() if b"validation_loss" in line)
        if name == "arguments.yaml":
            content = b"\n".join(line for line in content.splitlines() if not line.startswith(b"output_dir"))
        if not name.startswith("logs/"):
            found[name] = hashlib.sha256(content).hexdigest()
    return found


# ---- the runs ----


@dataclass
class Scenario:
    """A kind of run.

    Attributes:
        script: in `scripts/`.
        flags: of the command, without the output folder.
        processes: 1 or 2.
    """

    script: str
    flags: dict[str, object]
    processes: int = 1

    def command(self, output_dir: Path) -> list[str]:
        return [f"--{name}={value}" for name, value in {**self.flags, "output_dir": output_dir}.items()]

    def digests(self, output_dir: Path) -> dict[str, str]:
        return digests(output_dir)


class Push(Scenario):
    """Pushing a folder to a repository named after the output folder's place; what it leaves is on the Hub."""

    def command(self, output_dir: Path) -> list[str]:
        return [f"--{name}={value}" for name, value in {**self.flags, "repo_id": self.repo_id(output_dir)}.items()]

    def repo_id(self, output_dir: Path) -> str:
        return f"alice/{output_dir.parent.name}"

    def digests(self, output_dir: Path) -> dict[str, str]:
        result = output_dir.with_name("remote")
        if not (pid := os.fork()):  # another process, so that no connection is shared with those forked later
            from huggingface_hub import HfApi

            tree = HfApi().list_repo_tree(self.repo_id(output_dir), recursive=True, repo_type="dataset")
            found = {entry.path: getattr(entry, "blob_id", "") for entry in tree}
            found.pop("README.md")  # has the repository's name in it
            result.write_text(json.dumps(found))
            os._exit(0)
        os.waitpid(pid, 0)
        return json.loads(result.read_text())


def build_scenarios(folder: Path) -> dict[str, Scenario]:
    """The kinds of runs on small pairs; what they need is made in `folder`."""
    from testing_utils.pairs import random_pairs, write_raw_folder
    from testing_utils.runs import TINY

    data = write_raw_folder(folder / "field", random_pairs(7))
    test = write_raw_folder(folder / "test", random_pairs(2, seed=1))
    train = {**TINY, "dataset": data, "validation_steps": 6}
    gan = {"gan_weight": 0.25, "variant": "concat", "discriminator_learning_rate": 2e-3}
    sr = {"resolution": 16, "scale_factor": 2, "num_divergence_images": 0}
    generate = {"model": folder / "model", "num_samples": 40, "samples_per_shard": 8, "batch_size": 4}
    generate |= {"scheduler": "dpmsolver++", "num_inference_steps": 6}
    segment = {"dataset": data, "test_dataset": test, "resolution": 32, "crop_size": 32, "encoder_name": "resnet18"}
    segment |= {"max_train_steps": 4, "batch_size": 4, "seeds": "[0,1,2]"}
    paste = {"dataset": data, "num_samples": 60, "samples_per_shard": 10, "resolution": 16, "crop_size": 24}
    paste |= {"min_area": 1, "num_workers": 0}
    return {
        "train": Scenario("train_paired.py", train),
        "train, two processes": Scenario("train_paired.py", {**train, "batch_size": 2}, 2),
        "train-sr": Scenario("train_sr.py", {**train, **sr}),
        "adversarial": Scenario("train_paired.py", {**train, **gan}),
        "adversarial, two processes": Scenario("train_paired.py", {**train, **gan, "batch_size": 2}, 2),
        "generate": Scenario("generate_dataset.py", generate),
        "generate, two processes": Scenario("generate_dataset.py", generate, 2),
        "generate, folder": Scenario("generate_dataset.py", {**generate, "format": "imagefolder"}),
        "segment": Scenario("train_segmentation.py", segment),
        "segment, two processes": Scenario("train_segmentation.py", {**segment, "batch_size": 2}, 2),
        "copy-paste": Scenario("make_copy_paste.py", paste),
        "push": Push("push_to_hub.py", {"folder": folder / "pairs", "data_license": "mit"}),
    }


def finish(scenario: Scenario, output_dir: Path) -> float:
    """Runs the command to its end, undisturbed; returns the seconds that it took."""
    log, began = output_dir.with_name("log"), time.monotonic()
    codes = wait(start(scenario.script, scenario.command(output_dir), scenario.processes, log), 1800)
    if any(codes):
        raise Failure(f"{scenario.script} ended with {codes}:\n{log.read_text()[-4000:]}")
    return time.monotonic() - began


def disturb(scenario: Scenario, output_dir: Path, duration: float, chance: random.Random, number: int) -> str:
    """Starts the command and sends it the signal `number` at a random moment; returns what became of it."""
    log = output_dir.with_name("log")
    log.unlink(missing_ok=True)
    pids = start(scenario.script, scenario.command(output_dir), scenario.processes, log)
    codes = wait(pids, chance.uniform(0, duration))
    send(pids, number)
    codes += wait(pids, TIMEOUT)
    if pids:
        send(pids, signal.SIGUSR2)  # where they hang
        wait(pids, 1)
        send(pids, signal.SIGKILL)
        wait(pids, TIMEOUT)
        raise Failure(f"{scenario.script} was still there {TIMEOUT} s after {number.name}: {log.read_text()[-4000:]}")
    said = log.read_text() if log.exists() else ""
    if not any(codes):
        return "finished"
    # a signal that comes before the command has begun to listen is the system's to handle
    allowed = {-number} if number == signal.SIGKILL else {75, -number}
    if not set(codes) <= {0, *allowed} or (number != signal.SIGKILL and 75 in codes and "Traceback" in said):
        raise Failure(f"{scenario.script} ended with {codes} after {number.name}:\n{said[-4000:]}")
    return "killed"


def campaign(kills: int, seed: int, names: list[str] | None) -> bool:
    """Spreads `kills` over the kinds of runs and prints what became of them; returns whether all promises were kept."""
    chance, kept, duration = random.Random(seed), True, 0.0
    with tempfile.TemporaryDirectory(prefix="synthset-kills-") as place:
        folder = Path(place)
        scenarios = build_scenarios(folder)
        chosen = {name: scenarios[name] for name in names or scenarios}
        finish(scenarios["train"], folder / "model")
        finish(scenarios["generate"], folder / "pairs")
        print(f"{'run':<28}{'seconds':>8}{'SIGKILL':>9}{'SIGTERM':>9}{'SIGINT':>9}{'runs':>6}", flush=True)
        for i, (name, scenario) in enumerate(chosen.items()):
            share = kills * (i + 1) // len(chosen) - kills * i // len(chosen)
            counts, runs, reference = Counter(), 0, folder / f"{i}-straight" / "run"
            try:
                reference.parent.mkdir()
                duration = finish(scenario, reference)
                expected = scenario.digests(reference)
                while counts.total() < share:
                    output_dir = folder / f"{i}-{runs}" / "run"
                    output_dir.parent.mkdir()
                    outcome = "killed"
                    while outcome == "killed" and counts.total() < share:
                        number = SIGNALS[counts.total() % len(SIGNALS)]
                        outcome = disturb(scenario, output_dir, duration, chance, number)
                        counts[number] += outcome == "killed"
                        check_whole(output_dir)
                    finish(scenario, output_dir)
                    found = scenario.digests(output_dir)
                    differing = sorted(n for n in {**found, **expected} if found.get(n) != expected.get(n))
                    if differing:
                        raise Failure(f"{name}: {', '.join(differing)} are not as an undisturbed run leaves them")
                    runs += 1
                    shutil.rmtree(output_dir.parent)
            except Failure as failure:
                kept = False
                print(f"FAILED: {name}: {failure}", flush=True)
            numbers = "".join(f"{counts[number]:>9}" for number in SIGNALS)
            print(f"{name:<28}{duration:>8.1f}{numbers}{runs:>6}", flush=True)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="*", help="the kinds of runs, by their names in the table; all when not given")
    args = parser.parse_args()
    faulthandler.register(signal.SIGUSR2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is forked from here begins as a program that does not listen
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    with tempfile.TemporaryDirectory(prefix="synthset-hub-") as place:
        hub = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "hub_server.py"), "--folder", place, "--token", "hf_alice=alice"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            os.environ |= {"HF_ENDPOINT": hub.stdout.readline().strip(), "HF_TOKEN": "hf_alice", "HF_HOME": place}
            os.environ |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
            for script in ("train_paired", "train_sr", "generate_dataset", "train_segmentation", "make_copy_paste"):
                runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name=script)  # imports what they import
            kept = campaign(args.kills, args.seed, args.runs)
        finally:
            hub.terminate()
            hub.wait()
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
