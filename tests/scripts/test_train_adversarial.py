"""`train_paired.py --gan_weight` as users run it. What it shares with a plain run is tested in test_train_paired.py."""

import json
import math
import re
import shutil
from functools import partial

import pytest
import torch
from testing_utils import runs
from testing_utils.runs import LAUNCH, refused, same, weights

from synthset import PairedDiscriminator2DModel, SynthSetPipeline
from synthset.cli import parse_arguments
from synthset.errors import InputError
from synthset.training.components import build_model
from synthset.training.costs import estimate_disk

pytestmark = pytest.mark.slow  # most of it is real runs

train = partial(runs.train, "train_paired.py", variant="concat", max_train_steps=6, logging_steps=3)
ADVERSARIAL = {
    "gan_weight": 0.25,
    "discriminator_learning_rate": 2e-3,
    "spectral_norm": "true",
    "curriculum": "true",
    "curriculum_form": "paper",
    "curriculum_sigma": 500,
    "curriculum_alpha": 2,
    "curriculum_initial": 50,
    "priority_epochs": 2,
    "patch_size": 2,
    "input_skip": "true",
}
PLAIN = {"step", "loss", "gradient_norm", "learning_rate", "images_per_second"}
MEASURED = {"discriminator_loss", "generator_loss", "accuracy_real", "accuracy_fake", "discriminator_gradient_norm"}

REQUIRED = ["--dataset", "demo", "--output_dir", "run"]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An uninterrupted run of 6 steps of 4 pairs with every option but the penalty, which torch.compile can't have."""
    output_dir = tmp_path_factory.mktemp("runs") / "straight"
    result = train(data, output_dir, **ADVERSARIAL)
    assert result.returncode == 0, result.stderr
    return output_dir


def logged(output_dir):
    entries = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if "loss" in entry]


def state(output_dir, name):
    return torch.load(output_dir / name, weights_only=True)


def same_checkpoints(a, b, **tolerance):
    return all(same(weights(a, part), weights(b, part), **tolerance) for part in ("unet", "unet_ema", "discriminator"))


def test_a_run_leaves_a_plain_pipeline_and_checkpoints_with_the_discriminator(finished):
    assert {path.name for path in finished.iterdir() if path.is_dir()} == {
        *("checkpoint-3", "checkpoint-6", "unet", "scheduler", "best-loss", "best-divergence", "previews"),
    }
    assert "iscriminator" not in (finished / "model_index.json").read_text()
    assert SynthSetPipeline.from_pretrained(finished)(num_inference_steps=2).images[0].size == (16, 16)
    discriminator = PairedDiscriminator2DModel.from_pretrained(finished / "checkpoint-6", subfolder="discriminator")
    config = discriminator.config
    assert (config.spectral_norm, config.block_out_channels, config.patch_size) == (True, [8, 16], 2)
    parts = [weights(finished / f"checkpoint-{step}", "discriminator") for step in (3, 6)]
    assert not torch.equal(*(part["conv_in.parametrizations.weight.original"] for part in parts))
    assert state(finished, "checkpoint-6/optimizer_1.bin")["param_groups"][0]["lr"] == 2e-3


def test_it_logs_both_sides_and_the_curriculum(finished):
    """Step 3 ends at position 11, in pass s = 2 over five pairs, step 6 at 23, in pass 4: 50 + 500 floor(s / 2)."""
    entries = logged(finished)
    assert [(entry["step"], entry["t_max"]) for entry in entries] == [(3, 550), (6, 1000)]
    for entry in entries:
        assert entry.keys() == MEASURED | PLAIN | {"t_max"}
        assert all(math.isfinite(value) and value >= 0 for value in entry.values())
        assert entry["accuracy_real"] <= 1 and entry["accuracy_fake"] <= 1


def test_killed_and_resumed_ends_in_the_same_bits(data, finished, tmp_path):
    """What a run leaves that was killed after step 3, continued."""
    for name in ("checkpoint-3", "arguments.yaml", "metrics.jsonl"):
        (shutil.copytree if (finished / name).is_dir() else shutil.copy)(finished / name, tmp_path / "run" / name)
    result = train(data, tmp_path / "run", **ADVERSARIAL)
    assert result.returncode == 0 and "steps 3 to 6" in result.stderr, result.stderr
    ends = tmp_path / "run" / "checkpoint-6", finished / "checkpoint-6"
    assert same_checkpoints(*ends) and same(weights(tmp_path / "run"), weights(finished))
    for name in ("optimizer.bin", "optimizer_1.bin"):
        moments = [state(end, name)["state"] for end in ends]
        assert moments[0].keys() == moments[1].keys() and all(same(moments[0][i], moments[1][i]) for i in moments[0])
    for name in ("scheduler.bin", "scheduler_1.bin"):
        assert state(ends[0], name) == state(ends[1], name)
    timing = {"images_per_second"}
    for one, other in zip(logged(tmp_path / "run"), logged(finished), strict=True):
        assert {k: v for k, v in one.items() if k not in timing} == {k: v for k, v in other.items() if k not in timing}


def test_a_weight_of_zero_is_the_run_without_the_option(data, finished, tmp_path):
    options = {"plain": {}, "zero": {"gan_weight": 0}}
    for name, flags in options.items():
        result = train(data, tmp_path / name, max_train_steps=3, **flags)
        assert result.returncode == 0, result.stderr
    ends = [tmp_path / name / "checkpoint-3" for name in options]
    assert all(same(*(weights(end, part) for end in ends)) for part in ("unet", "unet_ema"))
    assert not torch.equal(*(weights(x)["conv_in.0.weight"] for x in (ends[0], finished / "checkpoint-3")))
    for end in ends:
        assert not (end / "discriminator").exists() and not (end / "optimizer_1.bin").exists()
        assert all(entry.keys() == PLAIN for entry in logged(end.parent))
    values = [{k: v for k, v in logged(end.parent)[0].items() if k != "images_per_second"} for end in ends]
    assert values[0] == values[1]


def test_dry_run_plots_t_max(data, tmp_path):
    """2250 steps of 4 of five pairs are 1800 passes; the paper's t_max reaches 1000 in pass 495."""
    flags = {"curriculum": "true", "curriculum_form": "paper", "gan_weight": 0.25}
    result = train(data, tmp_path / "run", max_train_steps=2250, dry_run="true", **flags)
    assert result.returncode == 0, result.stderr
    rows = result.stdout[result.stdout.index("# t_max") :].splitlines()
    assert rows[1] == "#  1000 |" + 17 * " " + 43 * "#" and rows[-1].endswith("2250 steps")
    assert "gan_weight: 0.25" in result.stdout and "the discriminator is counted" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def script():
    """`train_paired.py` as a module."""
    return runs.load_script("train_paired.py")


def test_the_disk_that_the_dry_run_promises_is_what_a_run_takes(script, finished):
    """Tensors alone: a checkpoint's other files are small beside a network that is not as small as this one."""
    args = parse_arguments(script.PairedArguments, ["--config", str(finished / "arguments.yaml")])
    disk = estimate_disk(args, build_model(args), 2, script.build_discriminator(args))
    assert disk["checkpoints"] == len(list(finished.glob("checkpoint-*"))) == 2
    checkpoint = finished / "checkpoint-6"
    tensors = [
        tensor for part in ("unet", "unet_ema", "discriminator") for tensor in weights(checkpoint, part).values()
    ]
    for name in ("optimizer.bin", "optimizer_1.bin"):
        moments = state(finished, f"checkpoint-6/{name}")["state"].values()
        tensors += [moment[key] for moment in moments for key in ("exp_avg", "exp_avg_sq")]
    assert disk["checkpoint_bytes"] == sum(tensor.nbytes for tensor in tensors)
    pipelines = [path.parent for path in finished.rglob("model_index.json")]
    sizes = [sum(tensor.nbytes for tensor in weights(folder).values()) for folder in pipelines]
    assert [disk["pipeline_bytes"]] * disk["pipelines"] == sizes
    assert disk["bytes"] == 2 * disk["checkpoint_bytes"] + sum(sizes)
    args.checkpoints_total_limit = 1
    assert estimate_disk(args, build_model(args), 2)["checkpoints"] == 2
    args.max_train_steps = 231_750
    assert estimate_disk(args, build_model(args), 2)["checkpoints"] == 2


@pytest.mark.parametrize(
    "flags",
    [
        *("--gan_weight -0.25", "--r1_gamma -1", "--priority_epochs -1", "--gan_weight nan"),
        *("--discriminator_learning_rate 0", "--discriminator_layers_per_block 0"),
        *("--curriculum_sigma 0", "--curriculum_alpha 0", "--curriculum_initial 0", "--curriculum_alpha 0.5"),
        *("--curriculum_share 0", "--curriculum_share 1.1", "--priority_share -0.1", "--priority_share 2"),
        *("--curriculum_form epochs", "--spectral_norm maybe"),
    ],
)
def test_bad_flags_end_in_one_line(script, flags, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(script.PairedArguments, [*REQUIRED, *flags.split()])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert all(word in printed for word in flags.split()), printed


@pytest.mark.parametrize(
    "idle, needed, others",
    [
        *((idle, "--gan_weight 0.25", "") for idle in ("r1_gamma 1", "spectral_norm true")),
        *((f"discriminator_{idle}", "--gan_weight 1", "") for idle in ("learning_rate 1e-3", "layers_per_block 2")),
        *((idle, "--curriculum true", "") for idle in ("curriculum_form paper", "curriculum_share 0.5")),
        *((idle, "--curriculum_form paper", "--curriculum") for idle in ("curriculum_sigma 3", "priority_epochs 3")),
        ("priority_share 0.5", "--curriculum_form share", "--curriculum --curriculum_form paper"),
        ("ema_power 0.5", "--use_ema true", "--use_ema false"),
        *((f"hub_{idle}", "--push_to_hub true", "") for idle in ("strategy checkpoint", "model_id me/field")),
    ],
)
def test_flags_that_nothing_reads_are_refused(script, idle, needed, others, capsys):
    flags = [*others.split(), *f"--{idle}".split()]
    with pytest.raises(SystemExit):
        parse_arguments(script.PairedArguments, [*REQUIRED, *flags])
    printed, name = capsys.readouterr().err, needed if "form" in needed else needed.split()[0]
    assert printed.startswith(f"error: --{idle.split()[0]} is ") and f"without {name};" in printed, printed
    parse_arguments(script.PairedArguments, [*REQUIRED, *flags, *needed.split()])


def planned(script, flags, steps=4000, num_pairs=160):
    """The timesteps of a run of `steps` steps of 16 pairs."""
    flags = f"--batch_size 16 --max_train_steps {steps} --lr_warmup_steps 0 --curriculum {flags}"
    args = parse_arguments(script.PairedArguments, [*REQUIRED, *flags.split()])
    return script.build_timesteps(args, num_pairs, 1)


@pytest.mark.parametrize("num_pairs, steps, t_max", [(160, 4000, 800), (1000, 4000, 130), (1000, 99, 10)])
def test_a_curriculum_that_ends_below_t_is_refused_with_one_that_does_not(script, num_pairs, steps, t_max):
    """The paper's form, in runs shorter than its own; the last pass over the pairs is the one that counts."""
    with pytest.raises(InputError, match=f"t_max {t_max} of --num_train_timesteps 1000") as refusal:
        planned(script, "--curriculum_form paper", steps, num_pairs)
    share, *others = re.findall(r"(?:--curriculum_\w+ \w+ ?)+", str(refusal.value))
    assert share.strip() == "--curriculum_form share" and len(others) == (steps > 99)
    for remedy in (share, *(f"--curriculum_form paper {other}" for other in others)):
        timesteps = planned(script, remedy, steps, num_pairs)
        reached = next(p for p in range(0, 16 * steps) if timesteps.t_max(p) == 1000)
        assert reached <= 0.4 * 16 * steps, remedy


def test_a_refused_curriculum_leaves_nothing(data, tmp_path):
    result = train(data, tmp_path / "run", curriculum="true", curriculum_form="paper")
    assert refused(result, "--curriculum ends at t_max 10 of", "--curriculum_form share")
    assert not (tmp_path / "run").exists()


def test_a_share_too_large_for_a_run_is_refused(script):
    """Of 2 steps, the last of 32 pairs has t_max = ceil(31 / 32 of 100) hundredths."""
    with pytest.raises(InputError, match="t_max 970 of .*; lower --curriculum_share or"):
        planned(script, "--curriculum_share 1", steps=2)
    assert planned(script, "--curriculum_share 0.9", steps=2).t_max(31) == 1000


def test_a_curriculum_over_before_it_began_is_told(script, caplog):
    """31 photos at the paper's batch and steps: 478 452 passes, of which the paper's recipe takes 495."""
    for form in ("share", "paper"):
        planned(script, f"--curriculum_form {form} --batch_size 64", steps=231_750, num_pairs=31)
        assert ("there is no curriculum" in caplog.text) == (form == "paper"), caplog.text


@pytest.mark.parametrize("variant", ["two_encoder", "concat"])
def test_recipes_are_the_papers(script, variant):
    recipe, plain = (
        parse_arguments(script.PairedArguments, [*REQUIRED, "--config", f"paper/{variant}{ending}"])
        for ending in ("_gan", "")
    )
    changed = {name for name in vars(recipe) if getattr(recipe, name) != getattr(plain, name)}
    assert changed == {"gan_weight", "curriculum", "curriculum_form"}
    assert recipe.gan_weight == 0.25 and recipe.variant == variant
    recipe.max_train_steps = 231_750  # 1500 passes over the paper's 9888 pairs
    timesteps = script.build_timesteps(recipe, 9888, 1)
    assert [timesteps.t_max(9888 * epoch) for epoch in (0, 5, 1499)] == [10, 20, 1000]
    assert timesteps.priority == 9888 * 500


def test_two_processes_train_as_one(data, tmp_path):
    """With accumulated gradients, with the penalty, whose second derivatives pass through DistributedDataParallel, and
    with a curriculum, whose last pass over the pairs, 3 at position 15, begins among the second process's."""
    # Adam divides a gradient by its own size: this epsilon keeps rounding in a gradient that should be zero small
    flags = {**ADVERSARIAL, "max_train_steps": 2, "checkpointing_steps": 2, "adam_epsilon": 1e-3, "r1_gamma": 1.0}
    flags |= {"gradient_accumulation_steps": 2, "logging_steps": 2, "curriculum_alpha": 1, "curriculum_sigma": 320}
    one = train(data, tmp_path / "one", **flags)
    two = train(data, tmp_path / "two", LAUNCH + "multi_cpu.yaml", **flags, batch_size=2)
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert "2 x cpu" in two.stderr
    ends = [tmp_path / name / "checkpoint-2" for name in ("one", "two")]
    assert same_checkpoints(*ends, rtol=0, atol=1e-6)
    entries = [logged(tmp_path / name)[0] for name in ("one", "two")]
    assert entries[0]["t_max"] == entries[1]["t_max"] == 1000
    for name in MEASURED | {"loss", "gradient_norm"}:
        assert entries[0][name] == pytest.approx(entries[1][name], rel=1e-4), name


def test_bf16_with_every_option_runs_and_resumes_in_the_same_bits(data, tmp_path):
    flags = {**ADVERSARIAL, "r1_gamma": 0.1, "mixed_precision": "bf16", "gradient_accumulation_steps": 2}
    flags["curriculum_sigma"] = 950
    flags["max_grad_norm"] = 1.0
    for output_dir, steps in (("straight", 4), ("resumed", 2), ("resumed", 4)):
        result = train(data, tmp_path / output_dir, **flags, max_train_steps=steps, checkpointing_steps=2)
        assert result.returncode == 0, result.stderr
    ends = [tmp_path / name / "checkpoint-4" for name in ("straight", "resumed")]
    assert same_checkpoints(*ends)
    assert all(tensor.isfinite().all() for tensor in weights(ends[0], "discriminator").values())


def test_a_compiled_run_is_the_uncompiled_one(data, finished, tmp_path):
    launch = LAUNCH + "cpu.yaml --dynamo_backend eager"
    result = train(data, tmp_path / "run", launch, **ADVERSARIAL)
    assert result.returncode == 0, result.stderr
    assert same_checkpoints(tmp_path / "run" / "checkpoint-3", finished / "checkpoint-3")
