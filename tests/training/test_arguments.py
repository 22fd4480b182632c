"""Bad flags end in one line before any work; recipes and switches are read as users write them."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from synthset.arguments import PairedArguments, SRArguments, TrainingArguments
from synthset.cli import parse_arguments
from synthset.devices import resolve_mixed_precision
from synthset.errors import InputError
from synthset.registry import OPTIMIZERS
from synthset.training.optimization import build_lr_scheduler

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
REQUIRED = ["--dataset", "demo", "--output_dir", "run"]


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--resolution 100 --block_out_channels [32,64,128,256]", ["--resolution", "100", "16", "96"]),
        ("--resolution 20 --patch_size 2", ["--resolution", "20", "--patch_size 2", "8", "16"]),
        ("--resolution 0", ["--resolution", "0"]),
        ("--learning_rate -1", ["--learning_rate", "-1"]),
        ("--batch_size 1.5", ["--batch_size", "1.5"]),
        ("--validation_fraction 1", ["--validation_fraction", "1"]),
        ("--block_out_channels []", ["--block_out_channels", "[]"]),
        ("--lr_scheduler multistep", ["--lr_milestones"]),
        ("--lr_milestones [10]", ["--lr_scheduler", "cosine"]),
        ("--beta_schedule cosine", ["--beta_schedule", "squaredcos_cap_v2", "cosine"]),
        ("--max_train_step 10", ["--max_train_step"]),
        ("--config missing.yaml", ["missing.yaml"]),
        ("--report_to no_such_tracker", ["--report_to", "no_such_tracker"]),
        ("--report_to os", ["--report_to", "os", "tensorboard", "wandb"]),
        ("--report_to none --report_to tensorboard", ["--report_to", "none alone"]),
        (
            "--lr_scheduler multistep --lr_milestones [200,100]",
            ["--lr_milestones", "[200, 100]", "100 200"],
        ),
        ("--lr_scheduler multistep --lr_milestones [100,100,200]", ["--lr_milestones", "100 200"]),
        (
            "--lr_scheduler multistep --lr_milestones [0,100]",
            ["--lr_milestones", "[0, 100]", "such as 100"],
        ),
        (
            "--lr_scheduler multistep --lr_milestones [10,90] --max_train_steps 90",
            ["--lr_milestones", "[90]", "90"],
        ),
        ("--lr_warmup_steps 100 --max_train_steps 100", ["--lr_warmup_steps", "100", "give 10,"]),
        ("--num_train_timesteps 16", ["--validation_num_inference_steps is 25", "--num_train_timesteps 16"]),
        ("--adam_beta1 1", ["--adam_beta1", "below 1"]),
        ("--adam_epsilon 0", ["--adam_epsilon"]),
        ("--ema_max_decay 1.5", ["--ema_max_decay", "1.5"]),
        ("--seed -1", ["--seed", "-1"]),
        ("--dropout 1", ["--dropout", "below 1"]),
        ("--attention_resolutions 12", ["--attention_resolutions is [12]", "32, 16, 8"]),
        ("--object_crops 1.5", ["--object_crops", "0 to 1"]),
        ("--image_std 0", ["--image_std", "above 0"]),
        ("--mask_scale inf", ["--mask_scale", "finite"]),
        ("--mask_loss_weight 0", ["--mask_loss_weight", "above 0"]),
        ("--mask_loss_weight inf", ["--mask_loss_weight", "finite"]),
        ("--snr_gamma 5 --loss_space epsilon", ["--snr_gamma", "--loss_space", "give one"]),
        ("--timestep_density log_normal", ["--timestep_density", "lognormal"]),
        ("--timestep_shift 0", ["--timestep_shift", "above 0"]),
        ("--density_mean nan --timestep_density lognormal", ["--density_mean", "finite"]),
        ("--density_std 1 --timestep_density mode", ["--density_std", "lognormal", "leave"]),
        ("--mode_scale 1", ["--mode_scale", "--timestep_density mode"]),
        ("--mode_scale 2 --timestep_density mode", ["--mode_scale", "1.75"]),
        ("--optimizer lion", ["--optimizer", "muon"]),
        ("--muon_learning_rate 1e-3", ["--muon_learning_rate", "--optimizer muon"]),
        ("--ema_std 0.3", ["--ema_std", "0.28"]),
        ("--ema_std 0.1 --ema_power 0.9", ["--ema_std", "--ema_power", "give one"]),
        ("--ema_std 0.1 --use_ema false", ["--ema_std", "--use_ema"]),
        ("--on_divergence go", ["--on_divergence", "rewind"]),
        (
            "--on_divergence rewind --push_to_hub --hub_model_id a/b --hub_strategy checkpoint",
            ["--on_divergence", "--hub_strategy end"],
        ),
        ("--augment_prob 1.5", ["--augment_prob is 1.5; give 0 to 1"]),
        ("--augmentations rotation", ["--augmentations is ['rotation']", "--augment_prob"]),
        ("--augment_prob 0.1 --augmentations []", ["--augmentations is empty"]),
        ("--augment_prob 0.1 --augmentations shear", ["--augmentations is shear; choose", "anisotropy or color"]),
        ("--augment_prob 0.1 --overfit 4", ["--augment_prob is 0.1 with --overfit"]),
        ("--random_turns --overfit 4", ["--random_turns is True with --overfit"]),
    ],
)
def test_bad_flags_end_in_one_line(flags, words, capsys):
    flags = f"--lr_warmup_steps 0 {flags}" if "multistep --" in flags else flags
    with pytest.raises(SystemExit) as stop:
        parse_arguments(PairedArguments, [*REQUIRED, *flags.split()])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert all(word in printed for word in words), printed


@pytest.mark.parametrize("flag", ["--timestep_density=lognormal", "--timestep_shift=2"])
def test_a_curriculum_and_a_density_exclude_each_other(flag, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(PairedArguments, [*REQUIRED, "--curriculum", flag])
    assert "--curriculum is true" in capsys.readouterr().err


def test_an_optimizer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("synthset.arguments.training.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"--optimizer is muon, which needs pytorch-optimizer; pip install 'synthset\[opt"
    ):
        TrainingArguments(dataset="demo", output_dir="run", report_to="none", optimizer="muon")


def test_flags_override_a_recipe_wherever_they_stand(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("resolution: 64\nlearning_rate: 1.0e-3\n")
    for flags in (f"--config {recipe} --resolution 32", f"--resolution 32 --config {recipe}"):
        args = parse_arguments(TrainingArguments, [*REQUIRED, *flags.split()])
        assert (args.resolution, args.learning_rate) == (32, 1e-3)


@pytest.mark.parametrize("flags, expected", [("", False), ("--dry_run", True), ("--dry_run false", False)])
def test_switches_need_no_value(flags, expected):
    args = parse_arguments(TrainingArguments, [*REQUIRED, *flags.split(), "--seed", "7"])
    assert (args.dry_run, args.seed) == (expected, 7)


@pytest.mark.parametrize(
    "flags, trackers",
    [
        ("", ["tensorboard"]),
        ("--report_to none", []),
        ("--report_to []", []),
        ("--report_to all", ["all"]),
        ("--report_to [tensorboard]", ["tensorboard"]),
        ("--config CONFIG", ["tensorboard"]),
        ("--config CONFIG --report_to none", []),
    ],
)
def test_trackers_are_a_list_however_they_are_given(flags, trackers, tmp_path):
    (tmp_path / "config.yaml").write_text("report_to: tensorboard\n")
    flags = flags.replace("CONFIG", str(tmp_path / "config.yaml")).split()
    args = parse_arguments(TrainingArguments, [*REQUIRED, *flags])
    assert args.report_to == trackers
    # what arguments.yaml holds is a recipe of the same
    assert TrainingArguments(dataset="demo", output_dir="run", report_to=args.report_to).report_to == trackers


@pytest.mark.parametrize(
    "recipe", sorted({*RECIPES.rglob("*.yaml")} - {RECIPES / "practitioner.yaml"}), ids=lambda path: path.stem
)
def test_recipes_keep_few_checkpoints(recipe):
    """Explicitly, since recipes outlive defaults; and the default is few."""
    limits = [
        yaml.safe_load(recipe.read_text())["checkpoints_total_limit"],
        TrainingArguments(dataset="demo", output_dir="run").checkpoints_total_limit,
    ]
    assert all(2 <= limit <= 5 for limit in limits)


def test_milestones_divide_the_rate_by_ten_each():
    flags = "--lr_warmup_steps 0 --lr_scheduler multistep --lr_milestones [2,3,5] --max_train_steps 8 --learning_rate 1"
    args = parse_arguments(TrainingArguments, [*REQUIRED, *flags.split()])
    optimizer = OPTIMIZERS[args.optimizer](args, torch.nn.Linear(1, 1))
    scheduler, rates = build_lr_scheduler(args, optimizer), []
    for _ in range(args.max_train_steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1, 1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001])


@pytest.mark.skipif(torch.accelerator.is_available(), reason="has a GPU")
def test_half_precision_needs_a_gpu():
    with pytest.raises(InputError, match="--mixed_precision is fp16, which needs a GPU; give bf16, no or auto"):
        resolve_mixed_precision("fp16")


@pytest.mark.skipif(find_spec("xformers") is not None, reason="has xformers")
def test_xformers_must_be_there():
    with pytest.raises(InputError, match="xformers is not installed; pip install"):
        TrainingArguments(dataset="demo", output_dir="run", enable_xformers_memory_efficient_attention=True)


@pytest.mark.parametrize("cls, recipe", [(PairedArguments, "fast"), (SRArguments, "sr_fast")])
def test_the_defaults_are_the_small_budgets(cls, recipe):
    plain, fast = (parse_arguments(cls, [*REQUIRED, *flags]) for flags in ([], ["--config", recipe]))
    differing = {name for name in vars(plain) if getattr(plain, name) != getattr(fast, name)}
    assert not differing and plain.max_train_minutes == 30


@pytest.mark.parametrize("recipe", sorted((RECIPES / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_papers_recipes_name_all_of_its_values(recipe):
    args = parse_arguments(SRArguments if recipe.stem == "sr" else PairedArguments, [*REQUIRED, f"--config={recipe}"])
    assert (args.num_train_timesteps, args.beta_schedule, args.prediction_type) == (1000, "linear", "epsilon")
    assert (args.learning_rate, args.batch_size, args.num_train_epochs) == (2.1e-4, 64, 1500)
    assert (args.lr_scheduler, args.lr_warmup_steps, args.max_grad_norm) == ("constant", 0, None)
    assert (args.block_out_channels, args.layers_per_block, args.patch_size) == ([32, 64, 128, 256], 2, 1)
    assert args.resolution == (256 if recipe.stem == "sr" else 128) and not args.input_skip
    assert args.image_std is None and not args.object_crops
    assert args.max_train_steps is None and args.max_train_minutes is None


def test_a_run_has_one_length(capsys, tmp_path):
    with pytest.raises(SystemExit):
        parse_arguments(PairedArguments, [*REQUIRED, "--max_train_minutes", "3", "--num_train_epochs", "3"])
    assert "--max_train_minutes and --num_train_epochs exclude each other" in capsys.readouterr().err
    args = parse_arguments(PairedArguments, [*REQUIRED, "--config", "fast", "--max_train_minutes", "3"])
    assert (args.max_train_minutes, args.max_train_steps) == (3, None)
    # what runs of 0.1.0.dev0 wrote into arguments.yaml
    (tmp_path / "arguments.yaml").write_text("max_train_steps: 400\nnum_train_epochs: 1500\n")
    args = parse_arguments(PairedArguments, [*REQUIRED, f"--config={tmp_path / 'arguments.yaml'}"])
    assert args.max_train_steps == 400 and args.max_train_minutes is None


@pytest.mark.parametrize("widths, groups", [([32, 64], 8), ([8, 16], 8), ([12, 24], 4), ([30, 60], 2)])
def test_groups_divide_every_width(widths, groups):
    args = TrainingArguments(dataset="demo", output_dir="run", block_out_channels=widths, resolution=32)
    assert args.norm_num_groups == groups
