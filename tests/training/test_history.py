"""Where a run continues, from folders as runs leave them."""

import json
import os
from pathlib import Path

import pytest

from synthset.arguments import TrainingArguments
from synthset.arguments.training import ADDED
from synthset.errors import InputError
from synthset.training.history import STATE_FILE, continue_from, find_damage, list_digests

DATA = {"training pairs": "5, sha256 aa", "validation pairs": "2, sha256 bb"}


def arguments(folder: Path, **changes) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        dataset="field",
        max_train_steps=12,
        **{"lr_scheduler": "constant", "lr_warmup_steps": 0, **changes},
    )


def identity_of(args: TrainingArguments, **data) -> dict:
    return json.loads(json.dumps({**args.identity(1), **DATA, **data}))


def write_checkpoint(folder: Path, step: int, legs: list[dict]) -> Path:
    """A checkpoint's files, with anything for weights, and its state."""
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "unet").mkdir(parents=True)
    (checkpoint / "unet" / "weights.safetensors").write_bytes(os.urandom(64))
    (checkpoint / "optimizer.bin").write_bytes(os.urandom(64))
    state = {"global_step": step, "interrupted": False, "legs": legs, "files": list_digests(checkpoint)}
    (checkpoint / STATE_FILE).write_text(json.dumps(state))
    return checkpoint


@pytest.fixture
def run(tmp_path):
    """A run of cosine learning rate with checkpoints after 3 and 6 of 12 steps."""
    args = arguments(tmp_path, lr_scheduler="cosine")
    for step in (3, 6):
        write_checkpoint(tmp_path, step, [{"start": 0, "identity": identity_of(args)}])
    return args


def test_the_path_of_data_does_not_count_but_its_content_does(run, tmp_path):
    args = arguments(tmp_path, lr_scheduler="cosine")
    args.dataset = str(tmp_path / "copy" / ".." / "copy")
    start = continue_from(args, identity_of(args))
    assert (start.checkpoint.name, start.step, start.leg_start) == ("checkpoint-6", 6, 0)
    grown = {"training pairs": "6, sha256 cc"}
    with pytest.raises(InputError, match=r"checkpoint-6 was trained with training pairs 5, sha256 aa \(now 6, .*leg"):
        continue_from(args, identity_of(args, **grown))
    args.new_leg = True
    start = continue_from(args, identity_of(args, **grown))
    assert (start.step, start.leg_start, start.begins_leg, len(start.legs)) == (6, 6, True, 2)


def test_a_checkpoint_with_the_flags_earlier_names_continues(tmp_path):
    args = arguments(tmp_path, lr_scheduler="cosine")
    earlier = {f"train_{name}" if name.startswith("batch_size") else name: v for name, v in identity_of(args).items()}
    assert "train_batch_size x gradient_accumulation_steps x processes" in earlier
    write_checkpoint(tmp_path, 3, [{"start": 0, "identity": earlier}])
    assert continue_from(args, identity_of(args)).step == 3
    args.batch_size *= 2
    with pytest.raises(InputError, match=r"trained with batch_size x gradient_accumulation_steps x processes 16 \(now"):
        continue_from(args, identity_of(args))


def test_a_checkpoint_from_before_a_flag_continues_as_it_was(tmp_path):
    as_it_was = {name: value for name, value in ADDED.items() if hasattr(arguments(tmp_path), name)}
    args = arguments(tmp_path, lr_scheduler="cosine", **as_it_was)
    earlier = {name: value for name, value in identity_of(args).items() if name not in ADDED}
    write_checkpoint(tmp_path, 3, [{"start": 0, "identity": earlier}])
    assert continue_from(args, identity_of(args)).step == 3
    for changes, remedy in (({"dropout": 0.1}, "or --new_leg"), ({"optimizer": "soap"}, "give the same values, or an")):
        args = arguments(tmp_path, **{"lr_scheduler": "cosine", **as_it_was, **changes})
        ((name, value),) = changes.items()
        with pytest.raises(InputError, match=rf"{name} {ADDED[name]} \(now {value}\); .*{remedy}"):
            continue_from(args, identity_of(args))


def test_a_stream_is_known_by_its_name(tmp_path):
    names = [identity_of(arguments(tmp_path, streaming=streaming)) for streaming in (False, True)]
    assert ["dataset" in identity for identity in names] == [False, True]


def test_a_leg_goes_on_without_another_one_being_begun(run, tmp_path):
    longer = arguments(tmp_path, lr_scheduler="cosine", new_leg=True)
    longer.max_train_steps = 24
    legs = continue_from(longer, identity_of(longer)).legs
    assert [leg["identity"]["max_train_steps"] for leg in legs] == [12, 24]
    write_checkpoint(tmp_path, 9, legs)
    for new_leg in (True, False):
        longer.new_leg = new_leg
        start = continue_from(longer, identity_of(longer))
        assert (start.step, start.leg_start, start.begins_leg, start.legs) == (9, 6, False, legs)


def test_length_counts_where_the_schedule_depends_on_it(run, tmp_path):
    longer = arguments(tmp_path, lr_scheduler="cosine")
    longer.max_train_steps = 24
    with pytest.raises(InputError, match=r"max_train_steps 12 \(now 24\); .*--new_leg .* from step 6"):
        continue_from(longer, identity_of(longer))
    # nothing is left to be learned
    longer.max_train_steps = 4
    start = continue_from(longer, identity_of(longer))
    assert (start.step, len(start.legs)) == (6, 1)
    assert "4 steps were asked for when 6 were already done" in start.describe(6, 4)


def test_a_constant_rate_leaves_the_length_free(tmp_path):
    args = arguments(tmp_path)
    write_checkpoint(tmp_path, 6, [{"start": 0, "identity": identity_of(args)}])
    args.max_train_steps = 24
    assert continue_from(args, identity_of(args)).describe(24, 24) == ""


@pytest.mark.parametrize("flag, was, now", [("layers_per_block", 1, 2), ("image_std", 0.5, None)])
def test_no_leg_changes_the_network_or_its_encoding(run, tmp_path, flag, was, now):
    args = arguments(tmp_path, lr_scheduler="cosine", new_leg=True, **{flag: now})
    with pytest.raises(InputError, match=rf"{flag} {was} \(now {now}\); give the same values, or another --output_dir"):
        continue_from(args, identity_of(args))


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone", "no state", "half a state"])
def test_a_damaged_checkpoint_is_passed_over(run, tmp_path, damage, caplog):
    newest = tmp_path / "checkpoint-6"
    weights, state = newest / "unet" / "weights.safetensors", newest / STATE_FILE
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[:-1])
    elif damage == "changed":
        weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "gone":
        weights.unlink()
    elif damage == "no state":
        state.unlink()
    else:
        state.write_text(state.read_text()[:100])
    assert find_damage(newest)
    assert continue_from(run, identity_of(run)).step == 3
    assert "checkpoint-6 is passed over" in caplog.text
    run.resume_from_checkpoint = "checkpoint-6"
    with pytest.raises(InputError, match="--resume_from_checkpoint is checkpoint-6, .*whole ones in .*: checkpoint-3"):
        continue_from(run, identity_of(run))
    run.resume_from_checkpoint = "latest"
    (tmp_path / "checkpoint-3" / "optimizer.bin").unlink()
    with pytest.raises(InputError, match="no checkpoint in .* is whole .*optimizer.bin"):
        continue_from(run, identity_of(run))


def test_a_folder_that_is_not_a_runs(tmp_path):
    args = arguments(tmp_path / "run")
    assert continue_from(args, identity_of(args)).checkpoint is None
    (tmp_path / "run" / "unet").mkdir(parents=True)
    with pytest.raises(InputError, match="is not empty and has no run.json"):
        continue_from(args, identity_of(args))


def test_a_checkpoint_of_another_folder_does_not_make_this_one_a_runs(run, tmp_path):
    other = arguments(tmp_path / "other", lr_scheduler="cosine", resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert continue_from(other, identity_of(other)).step == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty and has no run.json"):
        continue_from(other, identity_of(other))


def test_a_finished_run_without_checkpoints_is_not_written_over(tmp_path):
    args = arguments(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"legs": [{"start": 0, "identity": identity_of(args)}]}))
    assert continue_from(args, identity_of(args)).step == 0
    args.learning_rate, args.new_leg = 2e-3, True
    with pytest.raises(InputError, match=r"learning_rate 0.001 \(now 0.002\); .*another --output_dir"):
        continue_from(args, identity_of(args))
