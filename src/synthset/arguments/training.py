"""Flags of `synthset train` and `synthset train-sr`."""

import math
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

from ..errors import InputError
from .base import Arguments, require_xformers, resolved
from .choices import (
    TRACKERS,
    BetaSchedule,
    MixedPrecision,
    Optimizer,
    PredictionType,
    SkipFusion,
    TimestepDensity,
    Variant,
)
from .hub import HUB_FLAGS, TrainingHubArguments

FreezablePart: TypeAlias = Literal["encoder", "bottleneck", "decoder"]
AugmentationKind: TypeAlias = Literal["scale", "rotation", "anisotropy", "color"]

BASE = "init_from sha256"  # in a run's identity, in place of where the model lies
# What may differ between a checkpoint and the run that resumes it: everything else decides what is learned.
OPERATIONAL = {
    "output_dir",
    "new_leg",
    "max_train_minutes",
    "num_train_epochs",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "on_divergence",
    "resume_from_checkpoint",
    "validation_steps",
    "num_validation_images",
    "num_divergence_images",
    "validation_num_inference_steps",
    "num_workers",
    "report_to",
    "logging_steps",
    "project_name",
    "run_name",
    "enable_xformers_memory_efficient_attention",
    "gradient_checkpointing",
    "allow_tf32",
    "deterministic",
    "dry_run",
    "batch_size",
    "gradient_accumulation_steps",
    *HUB_FLAGS,
}
# Where data comes from. Except of a stream, the pairs that came of it count in a run's identity instead.
SOURCE = {"dataset", "image_column", "mask_column", "validation_fraction", "streaming"}
# What stays the same in every leg of a run: the networks, the encoding of pairs and the noise.
FIXED = (
    *("resolution", "variant", "skip_fusion", "block_out_channels", "layers_per_block", "patch_size", "input_skip"),
    *("attention_head_dim", "num_train_timesteps", "beta_schedule", "prediction_type", "use_ema", "streaming"),
    *("scale_factor", "max_noise_level", "gan_weight", "discriminator_layers_per_block", "spectral_norm"),
    *("attention_resolutions", "optimizer", "augment_prob", "image_std", "mask_scale", "joint_share", BASE),
)
# Flags that early runs did not have, with what those runs did.
ADDED = {
    "timestep_density": "uniform",
    "timestep_shift": 1.0,
    "mask_loss_weight": 1.0,
    "image_std": None,
    "mask_scale": 1.0,
    "object_crops": 0.0,
    "attention_resolutions": [],
    "dropout": 0.0,
    "freeze": [],
    "joint_share": 1.0,
    "independent_share": 0.0,
    "optimizer": "adamw",
    "augment_prob": 0.0,
    "augmentations": list(get_args(AugmentationKind)),
    "random_turns": False,
}


# Lengths of a run, of which one counts.
LENGTHS = ("max_train_minutes", "max_train_steps", "num_train_epochs")
DEFAULT_MINUTES = 30.0


@dataclass(kw_only=True)
class RunArguments(Arguments):
    """Flags of a run as a whole.

    Args:
        dataset: pairs to learn from: a raw folder (`images/` and `masks/`), a prepared, saved or parquet folder, a Hub
            dataset id, or `demo`.
        output_dir: folder of checkpoints, previews, logs and the finished pipeline.
        max_train_minutes: length of the run, in minutes; 30 if no length is given. The first steps measure the pace,
            which fixes the number of steps.
        max_train_steps: length of the run, in optimizer steps.
        num_train_epochs: length of the run, in passes over the training pairs.
        seed: decides the split, initial weights, data order, crops, timesteps and noise; 0 or more.
        overfit: train on the first N pairs without augmentation and validate on the same; 0 = off.
        dry_run: print the resolved configuration, parameters, FLOPs, memory and disk, write nothing, and stop.
    """

    group = "Run"
    exclusive = LENGTHS

    dataset: str
    output_dir: str
    max_train_minutes: float | None = None
    max_train_steps: int | None = None
    num_train_epochs: int | None = None
    seed: int = 0
    overfit: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive(*LENGTHS)
        if self.max_train_minutes is None and self.max_train_steps is None and self.num_train_epochs is None:
            self.max_train_minutes = DEFAULT_MINUTES
        elif self.max_train_minutes is not None and (self.max_train_steps or self.num_train_epochs):
            length = "max_train_steps" if self.max_train_steps else "num_train_epochs"
            raise InputError(
                f"--max_train_minutes is {self.max_train_minutes:g} and --{length} {getattr(self, length)}; give one"
            )
        self.require_at_least(0, "seed", "overfit")


@dataclass(kw_only=True)
class DataArguments(Arguments):
    """Flags about the training data.

    Args:
        image_column: image column of a dataset, or image folder of a raw folder.
        mask_column: mask column of a dataset, or mask folder of a raw folder.
        validation_fraction: share of the pairs held out if the dataset has no split `validation`; above 0, below 1.
        crop_size: side of the random crops, in pixels, which are resized to the resolution; 512, or the smallest image
            side if that is less, if not given.
        object_crops: share of the crops, 0 to 1, that are placed to show a pixel of the object, drawn at random; pairs
            then show objects more often than photos do. 0 is the paper's.
        streaming: read the dataset from the Hub during training and store nothing of it.
        num_workers: processes that decode and augment; 0 = the main process.
    """

    group = "Data"

    image_column: str | None = None
    mask_column: str | None = None
    validation_fraction: float = 0.2
    crop_size: int | None = None
    object_crops: float = 0.5
    streaming: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("crop_size")
        self.require_at_least(0, "num_workers")
        self.require_share("object_crops")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"--validation_fraction is {self.validation_fraction}; give a number between 0 and 1")
        for name in ("overfit", "num_workers"):
            if self.streaming and getattr(self, name):
                raise InputError(
                    f"--{name} is {getattr(self, name)} with --streaming; give 0, or leave --streaming out"
                )


@dataclass(kw_only=True)
class ModelArguments(Arguments):
    """Flags of the network.

    Args:
        resolution: side of the generated pairs, in pixels.
        variant: architecture (paper, figure 2); `two_encoder` is the paper's best, `concat` learns more in little time.
        skip_fusion: how features from elsewhere enter a block; `scale_u` is the paper's.
        block_out_channels: channels of each resolution level.
        layers_per_block: residual layers per level.
        patch_size: space-to-depth patch size, in pixels; the cost falls with its square; 1 is the paper's.
        input_skip: add the noisy input, scaled by a learned factor per timestep, to the output; patches need it.
        attention_head_dim: channels of an attention head in the bottleneck.
        attention_resolutions: sides of the feature maps, such as 16, with self-attention after the down and up blocks
            (Ho et al. 2020, arXiv 2006.11239); the bottleneck has it anyway.
        dropout: probability of dropout in the residual blocks, 0 to below 1 (Ho et al. 2020: 0.1 against overfitting).
    """

    group = "Model"

    resolution: int = 64
    variant: Variant = "concat"
    skip_fusion: SkipFusion = "scale_u"
    block_out_channels: list[int] = field(default_factory=lambda: [32, 64, 128])
    layers_per_block: int = 1
    patch_size: int = 2
    input_skip: bool = True
    attention_head_dim: int = 32
    attention_resolutions: list[int] = field(default_factory=list)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("resolution", "layers_per_block", "patch_size", "attention_head_dim")
        self.require_at_least(0, "dropout")
        if self.dropout >= 1:
            raise InputError(f"--dropout is {self.dropout}; give a number below 1")
        if not self.block_out_channels or min(self.block_out_channels) < 1:
            raise InputError(f"--block_out_channels is {self.block_out_channels}; give widths such as 32 64 128 256")
        stride = self.patch_size * 2 ** (len(self.block_out_channels) - 1)
        if self.resolution % stride:
            raise InputError(
                f"--resolution is {self.resolution}, which {len(self.block_out_channels)} levels of "
                f"--block_out_channels can't halve evenly after --patch_size {self.patch_size}; give a multiple of "
                f"{stride}, such as {max(1, round(self.resolution / stride)) * stride}"
            )

        sides = self._level_sides()
        if not set(self.attention_resolutions) <= set(sides):
            raise InputError(
                f"--attention_resolutions is {self.attention_resolutions}; the levels of --block_out_channels have the "
                f"sides {', '.join(map(str, sides))}"
            )

    def _level_sides(self) -> list[int]:
        """Sides of the feature maps, from the first level down."""
        return [self.resolution // self.patch_size >> level for level in range(len(self.block_out_channels))]

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """The levels with `attention_resolutions`."""
        return tuple(level for level, side in enumerate(self._level_sides()) if side in self.attention_resolutions)

    @property
    def norm_num_groups(self) -> int:
        """Groups of the normalization layers: 8, or the largest number that divides it and every width."""
        return math.gcd(8, *self.block_out_channels)


@dataclass(kw_only=True)
class BaseModelArguments(Arguments):
    """Flags of fine-tuning.

    Args:
        init_from: output folder or checkpoint of `train` or `train-sr`, or the id of such a model on the Hub, whose
            weights are the first ones, as far as they fit the network that the other flags ask for.
        freeze: parts of the network that keep them.
    """

    group = "Fine-tuning"

    init_from: str | None = None
    freeze: list[FreezablePart] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_needed({"freeze": "init_from"})
        if set(self.freeze) == set(get_args(FreezablePart)):
            raise InputError(f"--freeze is {self.freeze}, which leaves nothing to train; leave one out")


@dataclass(kw_only=True)
class DiffusionArguments(Arguments):
    """Flags of the diffusion process and its loss.

    Args:
        num_train_timesteps: timesteps T of the noising process.
        beta_schedule: noise schedule; `squaredcos_cap_v2` is cosine, `linear` the paper's.
        prediction_type: target of the network; `epsilon` is the paper's.
        snr_gamma: gamma of min-SNR loss weighting (arXiv 2303.09556), usually 5.0; off if not given.
        loss_space: prediction type in which the loss is measured, such as v_prediction for a network that predicts
            `sample` (JiT, arXiv 2511.13720); the network's own if not given.
        image_std: standard deviation that every color channel is given, about a mean of 0 (EDM2, arXiv 2312.02696,
            appendix B, has 0.5); with `none` colors stay in [-1, 1], where a photo of a field may have 0.2 and so
            drowns in noise long before its mask.
        mask_scale: value of the object in the mask channel, and minus that of the background, beside which noise has a
            standard deviation of up to 1; the lower, the later a mask is decided.
        mask_loss_weight: weight of a mask channel's loss beside an image channel's 1; the mean weight stays 1.
        timestep_density: density of the training timesteps: `lognormal` in the noise level sigma (EDM, arXiv
            2206.00364, table 1), `logit_normal` or `mode` in t / T (Stable Diffusion 3, arXiv 2403.03206, section 3.1).
        density_mean: mean of ln sigma (`lognormal`; -1.2 if not given, EDM's for images in [-1, 1]) or of logit(t / T)
            (`logit_normal`; 0 if not given).
        density_std: standard deviation of the same; 1.2 if not given with `lognormal`, 1 with `logit_normal`.
        mode_scale: scale of `mode`, -1 to 1.75; above 0 favors the middle, below 0 the ends; 1.29 if not given.
        timestep_shift: factor of the noise level sigma of every timestep drawn; resolution / 64 trains a resolution at
            the noise that 64 pixels have (Hoogeboom et al. 2023, arXiv 2301.11093, section 3.1).
    """

    group = "Diffusion"

    num_train_timesteps: int = 1000
    beta_schedule: BetaSchedule = "squaredcos_cap_v2"
    prediction_type: PredictionType = "v_prediction"
    snr_gamma: float | None = None
    loss_space: PredictionType | None = None
    image_std: float | None = 0.5
    mask_scale: float = 1.0
    mask_loss_weight: float = 1.0
    timestep_density: TimestepDensity = "uniform"
    density_mean: float | None = None
    density_std: float | None = None
    mode_scale: float | None = None
    timestep_shift: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = ("image_std", "mask_scale", "mask_loss_weight", "density_std", "timestep_shift")
        self.require_positive("num_train_timesteps", "snr_gamma", *positive)
        for name in (*positive, "density_mean", "mode_scale"):
            if not math.isfinite(getattr(self, name) or 0):
                raise InputError(f"--{name} is {getattr(self, name)}; give a finite number")
        if self.snr_gamma is not None and self.loss_space is not None:
            raise InputError(
                f"--snr_gamma is {self.snr_gamma:g} and --loss_space {self.loss_space}, and both weigh the timesteps; "
                "give one"
            )
        for name in ("density_mean", "density_std"):
            if getattr(self, name) is not None and self.timestep_density not in ("lognormal", "logit_normal"):
                raise InputError(
                    f"--{name} is {getattr(self, name)}, which means nothing with --timestep_density "
                    f"{self.timestep_density}; give lognormal or logit_normal, or leave --{name} out"
                )
        self.require_needed({"mode_scale": "timestep_density=mode"})
        if self.mode_scale is not None and not -1 <= self.mode_scale <= 1.75:
            raise InputError(f"--mode_scale is {self.mode_scale}; give -1 to 1.75, beyond which it is no density")


@dataclass(kw_only=True)
class OptimizationArguments(Arguments):
    """Flags of the optimizer, its learning rate and the moving average of the weights.

    Args:
        batch_size: pairs per process and forward pass.
        gradient_accumulation_steps: forward passes per optimizer step.
        optimizer: `adamw`, which without weight decay is the paper's Adam; `muon` for the matrices of hidden layers
            (arXiv 2502.16982) with AdamW for the rest; or `soap` (arXiv 2409.11321). The last two need the extra
            `optimizers`, and stay the same in all legs of a run.
        learning_rate: peak learning rate of Adam (paper: 2.1e-4).
        muon_learning_rate: peak learning rate of the matrices with `muon`, whose updates are scaled to the size of
            Adam's; `learning_rate` if not given.
        lr_scheduler: course of the learning rate; `cosine` falls to zero, `multistep` is divided by 10 at each of
            `lr_milestones`.
        lr_warmup_steps: optimizer steps of linear warm-up; a tenth of the run, at most 100, if not given; none with
            `multistep`.
        lr_milestones: optimizer steps of `multistep`, increasing.
        max_grad_norm: clip the gradient to this norm; off if not given.
        adam_beta1: decay of Adam's first moment, 0 to below 1; SOAP's authors use 0.95.
        adam_beta2: decay of Adam's second moment, 0 to below 1; SOAP's authors use 0.95.
        adam_weight_decay: decoupled weight decay (AdamW); 0 is Adam.
        adam_epsilon: Adam's epsilon, above 0.
        use_ema: keep an exponential moving average of the weights, which is validated and exported.
        ema_max_decay: largest decay of the average, 0 to below 1.
        ema_power: warm-up of the average, whose decay is 1 - (1 + step) ** -power.
        ema_std: width of the average as a share of the steps so far, above 0, below 0.28, such as 0.1 (power function
            of Karras et al. 2024, arXiv 2312.02696, section 3.1); in place of `ema_power`.
    """

    group = "Optimization"

    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    muon_learning_rate: float | None = None
    lr_scheduler: Literal["constant", "cosine", "multistep"] = "cosine"
    lr_warmup_steps: int | None = None
    lr_milestones: list[int] = field(default_factory=list)
    max_grad_norm: float | None = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    use_ema: bool = True
    ema_max_decay: float = 0.9999
    ema_power: float = 0.75
    ema_std: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("batch_size", "gradient_accumulation_steps", "learning_rate", "max_grad_norm")
        self.require_positive("muon_learning_rate", "ema_std")
        self.require_positive("adam_epsilon", "ema_power")
        self.require_at_least(0, "lr_warmup_steps", "adam_beta1", "adam_beta2", "adam_weight_decay", "ema_max_decay")
        for name in ("adam_beta1", "adam_beta2", "ema_max_decay"):
            if getattr(self, name) >= 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give a number below 1")
        self.require_needed(dict.fromkeys(("ema_max_decay", "ema_power", "ema_std"), "use_ema"))
        self.require_needed({"muon_learning_rate": "optimizer=muon"})
        if self.ema_std is not None and self.ema_std >= 0.28:
            raise InputError(f"--ema_std is {self.ema_std}; give a number below 0.28, such as 0.1")
        if self.ema_std is not None and self.ema_power != OptimizationArguments.ema_power:
            raise InputError(f"--ema_std is {self.ema_std} and --ema_power {self.ema_power}; give one")
        if self.optimizer != "adamw" and find_spec("pytorch_optimizer") is None:
            raise InputError(
                f"--optimizer is {self.optimizer}, which needs pytorch-optimizer; pip install 'synthset[optimizers]' "
                "or give adamw"
            )
        if (self.lr_scheduler == "multistep") != bool(self.lr_milestones):
            raise InputError(
                f"--lr_scheduler is {self.lr_scheduler} and --lr_milestones is {self.lr_milestones}; milestones go "
                "with multistep, and multistep needs them, such as 1000 2000"
            )
        if self.lr_scheduler == "multistep" and self.lr_warmup_steps:
            raise InputError(f"--lr_warmup_steps is {self.lr_warmup_steps}; multistep has no warm-up, give 0")
        in_order = sorted({step for step in self.lr_milestones if step > 0})
        if self.lr_milestones != in_order:
            example = " ".join(map(str, in_order or [1000, 2000]))
            raise InputError(
                f"--lr_milestones is {self.lr_milestones}; give steps above 0 in increasing order, such as {example}"
            )


@dataclass(kw_only=True)
class HardwareArguments(Arguments):
    """Flags of speed, memory and reproducibility.

    Args:
        mixed_precision: autocast to this type; `auto` is bf16 where the processor has it; as accelerate is configured
            if not given.
        gradient_checkpointing: trade computation for memory.
        enable_xformers_memory_efficient_attention: use xformers' attention (extra `xformers`, GPU only).
        allow_tf32: allow TF32 matrix products, on NVIDIA GPUs since Ampere.
        deterministic: choose deterministic GPU kernels where torch has them; a CPU needs no flag.
    """

    group = "Hardware"

    mixed_precision: MixedPrecision | None = "auto"
    gradient_checkpointing: bool = False
    enable_xformers_memory_efficient_attention: bool = False
    allow_tf32: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_xformers(self.enable_xformers_memory_efficient_attention)


@dataclass(kw_only=True)
class CheckpointArguments(Arguments):
    """Flags of checkpoints and resuming.

    Args:
        checkpointing_steps: optimizer steps between checkpoints; a tenth of the run if not given.
        checkpoints_total_limit: checkpoints to keep, 2 or more; `none` keeps all.
        resume_from_checkpoint: `latest`, the newest in the output folder if there is one, a checkpoint's path, or
            `none` to start anew.
        new_leg: continue with other flags or data than the checkpoint's; the learning rate's schedule starts again.
        on_divergence: reaction to a loss that jumps far above its running median, which is logged in any case:
            `ignore`, `stop`, or `rewind` to the last checkpoint with half the learning rate, at most three times; with
            `rewind` also for a loss that is not finite, which otherwise stops the run.
    """

    group = "Checkpoints"

    checkpointing_steps: int | None = None
    checkpoints_total_limit: int | None = 2
    resume_from_checkpoint: str = "latest"
    new_leg: bool = False
    on_divergence: Literal["ignore", "stop", "rewind"] = "ignore"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("checkpointing_steps", "checkpoints_total_limit")
        if self.checkpoints_total_limit == 1:
            raise InputError("--checkpoints_total_limit is 1; give 2 or more, since the newest one may get damaged")


@dataclass(kw_only=True)
class ValidationArguments(Arguments):
    """Flags of validation.

    Args:
        validation_steps: optimizer steps between validations and previews; 0 = only at the end; a tenth of the run if
            not given.
        num_validation_images: pairs in a preview.
        num_divergence_images: pairs generated to compare their colors with the training data's; 0 = none.
        validation_num_inference_steps: DPM-Solver++ steps for a preview, at most `num_train_timesteps`.
    """

    group = "Validation"

    validation_steps: int | None = None
    num_validation_images: int = 16
    num_divergence_images: int = 64
    validation_num_inference_steps: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("num_validation_images", "validation_num_inference_steps")
        self.require_at_least(0, "validation_steps", "num_divergence_images")


@dataclass(kw_only=True)
class LoggingArguments(Arguments):
    """Flags of logs and trackers.

    Args:
        report_to: trackers to log to, such as tensorboard, wandb or trackio; `all` that are installed, or `none`.
        project_name: project in the trackers that have projects.
        run_name: name of the run in the trackers; the name of the output folder if not given.
        logging_steps: optimizer steps between log entries.
    """

    group = "Logging"

    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    project_name: str = "synthset"
    run_name: str | None = None
    logging_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("logging_steps")
        # Python callers may give one name
        self.report_to = [self.report_to] if isinstance(self.report_to, str) else self.report_to  # type: ignore[unreachable]
        if "none" in self.report_to:
            if len(self.report_to) > 1:
                raise InputError(f"--report_to is {self.report_to}; give none alone, or trackers")
            self.report_to = []
        for tracker in self.report_to:
            if tracker not in TRACKERS:
                raise InputError(f"--report_to is {tracker}; use {', '.join(TRACKERS)} or none")
            if tracker != "all" and find_spec(tracker) is None:  # accelerate would train without a word in any log
                raise InputError(f"--report_to is {tracker}, which is not installed; pip install it or give none")


@dataclass(kw_only=True)
class TrainingArguments(
    TrainingHubArguments,
    LoggingArguments,
    ValidationArguments,
    CheckpointArguments,
    HardwareArguments,
    OptimizationArguments,
    DiffusionArguments,
    BaseModelArguments,
    ModelArguments,
    DataArguments,
    RunArguments,
):
    """Flags of a diffusion training run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        hub = ("hub_model_id", "hub_strategy", "hub_private_repo")
        self.require_needed(dict.fromkeys(hub, "push_to_hub"))
        if self.on_divergence == "rewind" and self.push_to_hub and self.hub_strategy == "checkpoint":
            raise InputError(
                "--on_divergence is rewind and --hub_strategy checkpoint, and what is pushed can't go back; give "
                "--hub_strategy end, or ignore or stop"
            )
        if self.validation_num_inference_steps > self.num_train_timesteps:
            raise InputError(
                f"--validation_num_inference_steps is {self.validation_num_inference_steps}, and --num_train_timesteps "
                f"{self.num_train_timesteps}; give {self.num_train_timesteps} or fewer for a preview"
            )
        if self.max_train_steps is not None:
            self.require_steps()

    def require_steps(self) -> None:
        """Fills in `lr_warmup_steps` from `max_train_steps`, which is known.

        Raises:
            InputError: the plan of the learning rate does not fit into the run.
        """
        steps = resolved(self.max_train_steps)
        if self.lr_warmup_steps is None:
            self.lr_warmup_steps = 0 if self.lr_scheduler == "multistep" else min(100, steps // 10)
        if self.lr_warmup_steps >= steps:
            raise InputError(
                f"--lr_warmup_steps is {self.lr_warmup_steps}, and the run ends after {steps} steps, before the "
                f"learning rate is up; give {steps // 10}, or more --max_train_steps"
            )
        late = [step for step in self.lr_milestones if step >= steps]
        if late:
            raise InputError(
                f"--lr_milestones has {late}, and the run ends after {steps} steps; leave them out, or give more "
                "--max_train_steps"
            )

    def pairs_per_step(self, num_processes: int) -> int:
        """Pairs that an optimizer step sees."""
        return self.batch_size * self.gradient_accumulation_steps * num_processes

    @property
    def length_counts(self) -> bool:
        """True if what a step learns depends on how many there will be."""
        return self.lr_scheduler == "cosine"

    def identity(self, num_processes: int) -> dict:
        """The flags that decide what is learned, by which a checkpoint is compared with the run that resumes it."""
        left_out = OPERATIONAL if self.streaming else OPERATIONAL | SOURCE
        if not self.length_counts:
            left_out = left_out | {"max_train_steps"}
        chosen = {name: value for name, value in asdict(self).items() if name not in left_out | {"init_from"}}
        total_batch = self.pairs_per_step(num_processes)
        return chosen | {"batch_size x gradient_accumulation_steps x processes": total_batch}


@dataclass(kw_only=True)
class AdversarialArguments(Arguments):
    """Flags of the discriminator.

    Args:
        gan_weight: weight of the adversarial loss beside the diffusion loss (paper: 0.25); 0 = no discriminator.
        discriminator_layers_per_block: residual layers per level; its widths are the model's.
        discriminator_learning_rate: peak learning rate; much above the default it stays at chance.
        spectral_norm: divide the discriminator's weights by their largest singular value.
        r1_gamma: weight of the R1 penalty on the discriminator's gradients; 0 = off.
    """

    group = "Discriminator"

    gan_weight: float = 0.0
    discriminator_layers_per_block: int = 1
    discriminator_learning_rate: float = 2.1e-4
    spectral_norm: bool = False
    r1_gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("discriminator_layers_per_block", "discriminator_learning_rate")
        self.require_at_least(0, "gan_weight", "r1_gamma")
        discriminator = ("discriminator_layers_per_block", "discriminator_learning_rate", "spectral_norm", "r1_gamma")
        self.require_needed(dict.fromkeys(discriminator, "gan_weight"))


@dataclass(kw_only=True)
class CurriculumArguments(Arguments):
    """Flags of the timestep curriculum.

    Args:
        curriculum: begin with the least noisy timesteps and admit more during training, t < t_max. A run that would end
            before all T are in use is refused.
        curriculum_form: `share` counts in shares of the run; `paper` in passes over the pairs, t_max = min(T, sigma *
            floor(epoch / alpha) + initial).
        curriculum_share: share of the run after which all timesteps are in use, above 0, at most 1 (paper: a third).
        priority_share: share of the run in which timesteps are drawn in proportion to t, 0 to 1 (paper: a third).
        curriculum_sigma: timesteps admitted at once, with `paper`.
        curriculum_alpha: epochs between admissions, with `paper`.
        curriculum_initial: timesteps in use at the start, with `paper`.
        priority_epochs: epochs in which timesteps are drawn in proportion to t, with `paper`.
    """

    group = "Curriculum"

    curriculum: bool = False
    curriculum_form: Literal["share", "paper"] = "share"
    curriculum_share: float = 1 / 3
    priority_share: float = 1 / 3
    curriculum_sigma: int = 10
    curriculum_alpha: int = 5
    curriculum_initial: int = 10
    priority_epochs: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("curriculum_share", "curriculum_sigma", "curriculum_alpha", "curriculum_initial")
        self.require_at_least(0, "priority_epochs", "priority_share")
        for name in ("curriculum_share", "priority_share"):
            if getattr(self, name) > 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give a share of the run, at most 1")
        shares = dict.fromkeys(("curriculum_share", "priority_share"), "curriculum curriculum_form=share")
        paper = ("curriculum_sigma", "curriculum_alpha", "curriculum_initial", "priority_epochs")
        epochs = dict.fromkeys(paper, "curriculum curriculum_form=paper")
        self.require_needed({"curriculum_form": "curriculum", **shares, **epochs})


@dataclass(kw_only=True)
class AugmentationArguments(Arguments):
    """Flags of augmentation.

    Args:
        augment_prob: probability of each augmentation of which the network is told, so that generated pairs are without
            (arXiv 2206.00364: 0.12 to 0.15); for few photos; 0 = off.
        augmentations: those augmentations; all if not given.
        random_turns: turn crops by multiples of 90 degrees; for photos from above.
    """

    group = "Augmentation"

    augment_prob: float = 0.0
    augmentations: list[AugmentationKind] = field(default_factory=lambda: list(get_args(AugmentationKind)))
    random_turns: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_share("augment_prob")
        self.require_needed({"augmentations": "augment_prob"})
        if not self.augmentations:
            raise InputError("--augmentations is empty; name one or more, or leave --augment_prob out")


@dataclass(kw_only=True)
class DirectionArguments(Arguments):
    """Flags of the directions in which the network draws.

    Args:
        joint_share: share of the training pairs, above 0, whose image and mask have the same noise. 1, the paper's,
            trains a network that draws pairs alone; below it, such as 0.7, also one that draws the mask of an image and
            an image for a mask (UniDiffuser, arXiv 2303.06555), half of the rest for each.
        independent_share: share of the training pairs whose image and mask have noise independent of each other, such
            as 0.2; `generate --condition_scale` needs them.
    """

    group = "Directions"

    joint_share: float = 1.0
    independent_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_share("joint_share", "independent_share")
        self.require_positive("joint_share")
        if self.joint_share + self.independent_share > 1:
            raise InputError(
                f"--joint_share is {self.joint_share:g} and --independent_share {self.independent_share:g}, together "
                "more than 1; give less, such as 0.6 and 0.2"
            )


@dataclass(kw_only=True)
class PairedArguments(
    DirectionArguments, AugmentationArguments, CurriculumArguments, AdversarialArguments, TrainingArguments
):
    """Trains the diffusion model that generates image-mask pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gan_weight and self.joint_share < 1:
            raise InputError(
                f"--gan_weight is {self.gan_weight:g} and --joint_share {self.joint_share:g}, and the discriminator "
                "judges pairs of one noise level; give --gan_weight 0 or --joint_share 1"
            )
        if self.curriculum and (self.timestep_density != "uniform" or self.timestep_shift != 1):
            raise InputError(
                f"--curriculum is true, --timestep_density {self.timestep_density} and --timestep_shift "
                f"{self.timestep_shift:g}, and both choose the timesteps; give one, or uniform and 1"
            )
        for name in ("augment_prob", "random_turns"):
            if self.overfit and getattr(self, name):
                raise InputError(
                    f"--{name} is {getattr(self, name)} with --overfit, which does not augment; leave one of them out"
                )

    @property
    def length_counts(self) -> bool:
        return super().length_counts or (self.curriculum and self.curriculum_form == "share")


@dataclass(kw_only=True)
class SuperResolutionArguments(Arguments):
    """Flags of super-resolution.

    Args:
        scale_factor: how many times larger the enlarged pairs are, 2 or more; divides the resolution.
        max_noise_level: noise augmentation of the small pairs, up to this training timestep (arXiv 2106.15282); 0 =
            off, as in the paper.
    """

    group = "Super-resolution"

    scale_factor: int = 2
    max_noise_level: int = 0


@dataclass(kw_only=True)
class SRArguments(SuperResolutionArguments, TrainingArguments):
    """Trains the diffusion model that enlarges image-mask pairs.

    Args:
        resolution: side of the enlarged pairs, in pixels.
    """

    resolution: int = 128
    patch_size: int = 1
    input_skip: bool = False
    image_std: float | None = None
    object_crops: float = 0.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_factor < 2 or self.resolution % self.scale_factor:
            raise InputError(
                f"--scale_factor is {self.scale_factor} and --resolution {self.resolution}; give a factor of 2 or more "
                "that divides the resolution"
            )
        if not 0 <= self.max_noise_level <= self.num_train_timesteps:
            raise InputError(f"--max_noise_level is {self.max_noise_level}; give 0 to {self.num_train_timesteps}")
