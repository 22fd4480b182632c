"""Plans that can't work end before the first step, whatever shows that they can't."""

import logging

import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.arguments import TrainingArguments
from synthset.errors import InputError
from synthset.training.components import build_model, build_streams, load_training_pairs

SMALL = {
    "num_train_epochs": 4,
    "lr_warmup_steps": 0,
    "resolution": 16,
    "crop_size": 16,
    "report_to": "none",
    "block_out_channels": [8],
}


def folder_of(tmp_path, masks):
    """A raw folder of as many pairs as there are numbers in `masks`, each filled with its number."""
    rows = random_pairs(len(masks), size=(20, 18))
    for row, value in zip(rows, masks, strict=True):
        if value is not None:
            row["mask"] = Image.new("L", (20, 18), value)
    return str(write_raw_folder(tmp_path / "field", rows))


@pytest.mark.parametrize("masks, words", [([0] * 6, "are empty"), ([1] * 6, "mark every pixel")])
def test_masks_without_anything_to_learn_are_refused(tmp_path, masks, words):
    args = TrainingArguments(output_dir="run", dataset=folder_of(tmp_path, masks), **SMALL)
    with pytest.raises(InputError, match=f"all 4 masks of .*field to train on {words}; .*--mask_column"):
        load_training_pairs(args, 1)


@pytest.mark.parametrize("masks", [[None] + [0] * 5, [0, 1] * 3])
def test_some_empty_masks_are_fine(tmp_path, masks):
    args = TrainingArguments(output_dir="run", dataset=folder_of(tmp_path, masks), overfit=6, **SMALL)
    assert len(load_training_pairs(args, 1)[0]) == 4  # the split comes first


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"lr_warmup_steps": 3}, "--lr_warmup_steps is 3, and the run ends after 2 steps"),
        (
            {"lr_scheduler": "multistep", "lr_milestones": [1, 2]},
            r"--lr_milestones has \[2\], and the run ends after 2",
        ),
    ],
)
def test_a_learning_rate_that_outlasts_the_run_is_refused_when_epochs_say_how_long_it_is(tmp_path, flags, words):
    args = TrainingArguments(
        output_dir="run", dataset=folder_of(tmp_path, [None] * 6), batch_size=8, **{**SMALL, **flags}
    )
    with pytest.raises(InputError, match=words):
        load_training_pairs(args, 1)


@pytest.mark.parametrize(
    "count, remedy", [(1, "; add at least one pair"), (2, "give 0.5 or less"), (3, "give 0.66 or less")]
)
def test_too_few_pairs_come_with_a_remedy_that_works(tmp_path, count, remedy):
    args = TrainingArguments(
        output_dir="run", dataset=folder_of(tmp_path, [None] * count), validation_fraction=0.9, **SMALL
    )
    with pytest.raises(InputError, match=remedy):
        load_training_pairs(args, 1)
    if count == 1:
        write_raw_folder(tmp_path / "field", random_pairs(2, size=(20, 18)))
        args.validation_fraction = 0.2
    else:
        args.validation_fraction = float(remedy.split()[1])
    assert len(load_training_pairs(args, 1)[0]) == 1


@pytest.mark.parametrize("limit, told", [(None, True), (5, False)])
def test_a_long_run_that_keeps_every_checkpoint_is_told(tmp_path, limit, told, caplog):
    flags = {"checkpoints_total_limit": limit, "max_train_steps": 231_750, "checkpointing_steps": 500}
    args = TrainingArguments(output_dir="run", dataset=folder_of(tmp_path, [None] * 6), **flags, **SMALL)
    with caplog.at_level(logging.WARNING, "synthset"):
        load_training_pairs(args, 1)
    assert ("keeps 464 checkpoints" in caplog.text) == told


@pytest.mark.parametrize("seed", [2**32, 2**64, 10**40])
def test_a_seed_may_have_any_size(tmp_path, seed):
    """2**32 is the first that numpy's generator, which accelerate seeds, refuses."""
    args = TrainingArguments(output_dir="run", dataset=folder_of(tmp_path, [None] * 6), seed=seed, **SMALL)
    args.variant = "concat"
    train, validation = load_training_pairs(args, 1)
    streams = build_streams(args, train, validation)
    model = build_model(args, streams[0].processor)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(stream[5]["noise"].isfinite().all() for stream in streams)
