"""A training run whose loss leaves its course, in process."""

import json

import pytest
from accelerate import Accelerator
from testing_utils import runs
from testing_utils.runs import same, weights

from synthset.arguments import TrainingArguments
from synthset.errors import InputError
from synthset.training import objectives
from synthset.training.guard import Diverged, LossGuard, is_jump
from synthset.training.log import MetricsLog

TINY = {
    **runs.TINY,
    "variant": "concat",
    "crop_size": 24,
    "report_to": [],
    "num_divergence_images": 0,
    "logging_steps": 1,
    "max_train_steps": 24,
    "checkpointing_steps": 20,
    "block_out_channels": [8],
}


def train(data, output_dir, **changes):
    script = runs.load_script("train_paired.py")
    script.main(script.PairedArguments(dataset=str(data), output_dir=str(output_dir), **{**TINY, **changes}))


def spoil(monkeypatch, **losses):
    """Replaces the loss of the numbered forward passes of the process: multiplies it, or raises what is no number."""
    diffusion_loss, calls = objectives.diffusion_loss, []

    def spoiled(prediction, *rest, **options):
        if options:  # of a validation
            return diffusion_loss(prediction, *rest, **options)
        calls.append(prediction)
        factor = losses.get(f"pass_{len(calls)}", 1)
        if not isinstance(factor, (int, float)):
            raise factor
        return diffusion_loss(prediction, *rest) * factor

    monkeypatch.setattr(objectives, "diffusion_loss", spoiled)


def entries(output_dir):
    lines = map(json.loads, (output_dir / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry for entry in lines if "learning_rate" in entry}


@pytest.mark.parametrize(
    "losses, expected",
    [
        ([], False),
        ([1.0] * 20 + [5.1], True),
        ([1.0] * 20 + [4.9], False),
        ([1.0] * 19 + [99.0], False),  # too few to know
        ([1.0, 3.0] * 10 + [11.0], False),  # median 2, all of them 1 from it: up to 12
        ([1.0, 3.0] * 10 + [12.1], True),
        ([9.0] * 100 + [1.0] * 100 + [6.0], True),  # what was long ago does not count
        ([1.0] * 20 + [float("inf")], True),
        ([1.0] * 49 + [50.0] * 51 + [50.0], False),  # the new course
    ],
)
def test_jumps_by_hand(losses, expected):
    assert is_jump(losses) == expected


@pytest.fixture(scope="module")
def by_hand(data, tmp_path_factory):
    """A run of 20 steps that goes on with half the learning rate to step 24."""
    output_dir = tmp_path_factory.mktemp("runs") / "by_hand"
    train(data, output_dir, max_train_steps=20)
    train(data, output_dir, new_leg=True, learning_rate=5e-4)
    return output_dir


def test_a_run_goes_back_by_itself_as_it_would_by_hand(data, by_hand, tmp_path, monkeypatch, caplog):
    """The loss jumps at step 23, after the checkpoint of step 20. Killed later, the same command goes on."""
    run = tmp_path / "run"
    spoil(monkeypatch, pass_23=1000, pass_26=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(data, run, on_divergence="rewind")
    assert not (run / "checkpoint-24").exists()
    train(data, run, on_divergence="rewind")
    for told in ("at step 23, from a median of", "back to checkpoint-20 with 0.5 of the learning rate"):
        assert caplog.text.count(told) == 1
    for part in ("unet", "checkpoint-24/unet", "checkpoint-24/unet_ema"):
        assert same(weights(run, part), weights(by_hand, part))
    assert json.loads((run / "run.json").read_text())["legs"][0]["rewinds"] == [{"from": 23, "to": 20}]
    assert [entries(run)[step]["learning_rate"] for step in (20, 21, 24)] == [1e-3, 5e-4, 5e-4]
    assert all(entry["loss"] < 10 for entry in entries(run).values())
    assert "went back to step 20 and on with half the learning rate" in (run / "README.md").read_text()


def test_a_loss_that_is_no_number_goes_back_too_and_the_schedule_goes_on(data, tmp_path, monkeypatch):
    """Half a cosine, of a quarter of the rate after two rewinds: (1 + cos(pi n / 6)) / 2."""
    spoil(monkeypatch, pass_4=float("nan"), pass_6=float("inf"))  # the first and the second time in step 4
    flags = {"max_train_steps": 6, "checkpointing_steps": 2, "lr_scheduler": "cosine"}
    train(data, tmp_path / "run", on_divergence="rewind", optimizer="muon", muon_learning_rate=2e-3, **flags)
    legs = json.loads((tmp_path / "run" / "checkpoint-6" / "training_state.json").read_text())["legs"]
    assert legs[0]["rewinds"] == [{"from": 4, "to": 2}, {"from": 4, "to": 2}]
    found = entries(tmp_path / "run")
    expected = {1: 0.93301e-3, 2: 0.75e-3, 3: 0.125e-3, 4: 0.0625e-3, 5: 0.01675e-3, 6: 0}
    assert {step: entry["learning_rate"] for step, entry in found.items()} == pytest.approx(expected, abs=1e-8)


def test_a_rate_that_no_halving_mends_ends_in_one_line(data, tmp_path):
    with pytest.raises(
        InputError, match="is nan at step .*: it has gone back 3 times, to 1.25e.29 at last; start anew"
    ):
        train(data, tmp_path / "run", on_divergence="rewind", learning_rate=1e30, max_train_steps=6, logging_steps=10)


@pytest.mark.parametrize("reaction", ["ignore", "stop", "rewind"])
def test_a_jump_is_told_once_or_ends_the_run(tmp_path, caplog, reaction):
    """Losses of 0.1 in an earlier leg; of 1 after every tenth step, then two of 7, one of 1 and a jump again."""
    args = TrainingArguments(dataset="f", output_dir=str(tmp_path), report_to="none", on_divergence=reaction)
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, Accelerator(cpu=True))
    guard = LossGuard(args, log.accelerator, stream=None, log=log, leg_start=300)
    ends = []
    for i, loss in enumerate([0.1] * 30 + [1.0] * 25 + [7.0, 7.0, 1.0, 8.0]):
        log.write({"loss": loss}, 10 * i + 10)
        try:
            guard.inspect(10 * i + 10)
        except (InputError, Diverged) as error:
            ends.append(error)
    if reaction == "ignore":
        assert [f"jumps to {x} at step" in caplog.text for x in (7, 8)] == [True, True] and not ends
        assert caplog.text.count("from a median of 1; --on_divergence rewind would go back with half") == 2
    elif reaction == "stop":
        assert len(ends) == 3 and not caplog.text
        assert str(ends[0]).startswith(
            "the loss jumps to 7 at step 560, from a median of 1: start anew and a lower --le"
        )
    else:
        assert [(end.step, end.good) for end in ends] == [(560, 550), (570, 550), (590, 580)]
