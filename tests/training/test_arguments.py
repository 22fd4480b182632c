"""Bad flags end in one line before any work; recipes and switches are read as users write them."""

from pathlib import Path

import pytest

from synthset.cli import parse_arguments
from synthset.training.arguments import TrainingArguments

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--resolution 100 --block_out_channels [32,64,128,256]", ["--resolution", "100", "8", "96"]),
        ("--resolution 24 --patch_size 2", ["--resolution", "24", "--patch_size 2", "16", "32"]),
        ("--resolution 0", ["--resolution", "0"]),
        ("--learning_rate -1", ["--learning_rate", "-1"]),
        ("--train_batch_size 1.5", ["--train_batch_size", "1.5"]),
        ("--validation_fraction 1", ["--validation_fraction", "1"]),
        ("--block_out_channels []", ["--block_out_channels", "[]"]),
        ("--lr_scheduler multistep", ["--lr_milestones"]),
        ("--lr_milestones [10]", ["--lr_scheduler", "constant"]),
        ("--beta_schedule cosine", ["--beta_schedule", "squaredcos_cap_v2", "cosine"]),
        ("--max_train_step 10", ["--max_train_step"]),
        ("--config missing.yaml", ["missing.yaml"]),
        ("--report_to no_such_tracker", ["--report_to", "no_such_tracker"]),
        ("--seed -1", ["--seed", "-1"]),
    ],
)
def test_bad_flags_end_in_one_line(flags, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(TrainingArguments, flags.split())
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert all(word in printed for word in words), printed


def test_flags_override_a_recipe_wherever_they_stand(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("resolution: 64\nlearning_rate: 1.0e-3\n")
    for flags in (f"--config {recipe} --resolution 32", f"--resolution 32 --config {recipe}"):
        args = parse_arguments(TrainingArguments, flags.split())
        assert (args.resolution, args.learning_rate) == (32, 1e-3)


@pytest.mark.parametrize("flags, expected", [("", False), ("--dry_run", True), ("--dry_run false", False)])
def test_switches_need_no_value(flags, expected):
    args = parse_arguments(TrainingArguments, [*flags.split(), "--seed", "7"])
    assert (args.dry_run, args.seed) == (expected, 7)


def test_the_defaults_are_the_papers():
    args = parse_arguments(TrainingArguments, [])
    assert (args.num_train_timesteps, args.beta_schedule, args.prediction_type) == (1000, "linear", "epsilon")
    assert (args.learning_rate, args.train_batch_size, args.num_train_epochs) == (2.1e-4, 64, 1500)
    assert (args.resolution, args.block_out_channels, args.layers_per_block) == (128, [32, 64, 128, 256], 2)


@pytest.mark.parametrize("widths, groups", [([32, 64], 8), ([8, 16], 8), ([12, 24], 4), ([30, 60], 2)])
def test_groups_divide_every_width(widths, groups):
    args = TrainingArguments(block_out_channels=widths, resolution=32)
    assert args.norm_num_groups == groups
