"""The flags that training scripts share, checked where they are defined."""

import math
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Literal

import torch
from accelerate.utils import LoggerType

from ..errors import InputError
from ..flags import refuse_idle_flags
from ..publishing.hub import HUB_FLAGS, HubArguments

# What may differ between a checkpoint and the run that resumes it: everything else decides what is learned.
OPERATIONAL = {
    "output_dir",
    "new_leg",
    "num_train_epochs",
    "checkpointing_steps",
    "checkpoints_total_limit",
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
# What stays the same in every leg of a run: the networks and the noise.
FIXED = (
    *("resolution", "variant", "skip_fusion", "block_out_channels", "layers_per_block", "patch_size", "input_skip"),
    *("attention_head_dim", "num_train_timesteps", "beta_schedule", "prediction_type", "use_ema", "streaming"),
    *("scale_factor", "max_noise_level", "gan_weight", "discriminator_layers_per_block", "spectral_norm"),
)

NEEDS = {  # flag: the flags without which it means nothing
    "ema_max_decay": "use_ema",
    "ema_power": "use_ema",
    "hub_model_id": "push_to_hub",
    "hub_strategy": "push_to_hub",
    "hub_private_repo": "push_to_hub",
}


@dataclass
class TrainingArguments(HubArguments):
    """Flags of a diffusion training run.

    Defaults are the paper's where it gives a value (section 3, "Training the Proposed Architectures", and its published
    configurations): T, betas, epsilon-prediction, learning rate, batch, epochs, resolution, crop, split, widths, layers
    and skip fusion. The rest is not from there: a moving average of the weights (`--use_ema false` is without), Adam's
    moments and epsilon (PyTorch's), the width of an attention head, the sampler of previews, what is kept and logged.

    Args:
        dataset: `demo`, a raw folder (`images/` and `masks/`), a saved dataset or parquet folder, or a Hub dataset id.
        image_column: image column of a dataset, or image sub-folder of a raw folder.
        mask_column: mask column of a dataset, or mask sub-folder of a raw folder.
        streaming: read the dataset from the Hub while training goes on, and store nothing of it.
        validation_fraction: share of the training pairs held out when the dataset has no `validation` split.
        output_dir: where checkpoints, logs and the finished pipeline go.
        resolution: side in pixels of the pairs that the model draws.
        crop_size: side in pixels of the random crop that is resized to `resolution`; 512, shrunk to the smallest image
            side with a warning, when not given.
        overfit: train on the first N pairs without augmentation, validate on the same; a smoke test (0 = off).
        block_out_channels: channels of each resolution level.
        layers_per_block: residual layers in a level.
        patch_size: side in pixels of the space-to-depth patches; the cost of the network falls with its square; 1, the
            paper, is the sharpest.
        input_skip: add the noisy pair, and in super-resolution the enlarged one, to the output, times what the network
            learns for each timestep; for small budgets, not in the paper.
        skip_fusion: how features from elsewhere enter a block: `scale_u` (the paper's choice), `zero_conv`, `concat`.
        attention_head_dim: channels of an attention head in the bottleneck.
        num_train_timesteps: T, steps of the noising process.
        beta_schedule: `linear` (the paper) or `squaredcos_cap_v2` (cosine), as diffusers names them.
        prediction_type: what the network predicts: `epsilon` (the paper), `v_prediction` or `sample`.
        snr_gamma: min-SNR loss weighting (Hang et al. 2023, arXiv 2303.09556) with this gamma; 5.0 is usual.
        batch_size: pairs per process and forward pass.
        gradient_accumulation_steps: forward passes per optimizer step.
        num_train_epochs: passes over the training pairs, used when `max_train_steps` is not given.
        max_train_steps: optimizer steps.
        learning_rate: peak learning rate of Adam.
        lr_scheduler: `constant` or `cosine` (to zero), both after `lr_warmup_steps`, or `multistep`.
        lr_warmup_steps: optimizer steps of linear warm-up.
        lr_milestones: optimizer steps at which `multistep` divides the learning rate by 10, in increasing order.
        adam_beta1: Adam's first moment decay, 0 to below 1.
        adam_beta2: Adam's second moment decay, 0 to below 1.
        adam_weight_decay: decoupled weight decay (AdamW); 0 is Adam.
        adam_epsilon: Adam's epsilon.
        max_grad_norm: clip the gradient's norm to this (not in the paper).
        use_ema: keep an exponential moving average of the weights; it is what is previewed and exported (not in the
            paper).
        ema_max_decay: the average's largest decay.
        ema_power: the average warms up as 1 - (1 + step) ** -power.
        mixed_precision: `no`, `fp16`, `bf16`, or `auto` (bf16 where the processor has it); accelerate's own
            configuration when not given.
        gradient_checkpointing: trade computation for memory.
        enable_xformers_memory_efficient_attention: use xformers' attention (needs the `xformers` extra and a GPU).
        allow_tf32: TF32 matrix products on NVIDIA GPUs since Ampere.
        deterministic: on a GPU, choose kernels that give the same bits each time, where torch has them (it warns where
            it has none). On the same kind of GPU with the same versions, a resumed run then ends in the same bits, as
            it does on a CPU without this flag.
        num_workers: processes that decode and augment; 0 decodes in the main process.
        checkpointing_steps: optimizer steps between checkpoints.
        checkpoints_total_limit: checkpoints to keep, 2 or more; the oldest go first; `null` keeps all. `--dry_run` says
            what they take.
        resume_from_checkpoint: `latest` continues from the newest checkpoint in `output_dir` if there is one, a
            checkpoint's path continues from that one, `none` starts anew.
        new_leg: continue with other flags than the checkpoint's: another length, learning rate, optimizer, batch or
            data. Weights, moments and average go on; the learning rate's schedule starts again, with its warm-up.
        validation_steps: optimizer steps between validations and previews; 0 = only at the end.
        num_validation_images: pairs in a preview.
        num_divergence_images: pairs drawn at a validation to compare their colors with the training set's; 0 = none.
        validation_num_inference_steps: DPM-Solver++ steps for a preview.
        report_to: `tensorboard`, `wandb`, `trackio`, any other of accelerate's trackers, several as
            '[tensorboard,wandb]', `all` that are installed, or `none`. These three get the previews and continue the
            run they have when training resumes.
        project_name: project in the trackers that have projects; TensorBoard has none.
        run_name: name of the run in TensorBoard, W&B and Trackio; the name of `output_dir` when not given. A run that
            resumes keeps its name.
        logging_steps: optimizer steps between log entries.
        seed: decides the split, the initial weights, the data order, crops, timesteps and noise; 0 or more, of any
            size.
        hub_model_id: repository to push to, `NAMESPACE/NAME`, or a name in your own namespace; the name of `output_dir`
            when not given.
        hub_strategy: push at the `end`, or at every `checkpoint` as well, the moving average as it stands then, while
            training goes on.
        dry_run: print the resolved configuration, parameters, FLOPs, memory and disk, and stop. Touches nothing.
    """

    dataset: str = "demo"
    image_column: str | None = None
    mask_column: str | None = None
    streaming: bool = False
    validation_fraction: float = 0.2
    output_dir: str = "outputs/paired"
    resolution: int = 128
    crop_size: int | None = None
    overfit: int = 0
    block_out_channels: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    layers_per_block: int = 2
    patch_size: int = 1
    input_skip: bool = False
    skip_fusion: Literal["scale_u", "zero_conv", "concat"] = "scale_u"
    attention_head_dim: int = 32
    num_train_timesteps: int = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    snr_gamma: float | None = None
    batch_size: int = 64
    gradient_accumulation_steps: int = 1
    num_train_epochs: int = 1500
    max_train_steps: int | None = None
    learning_rate: float = 2.1e-4
    lr_scheduler: Literal["constant", "cosine", "multistep"] = "constant"
    lr_warmup_steps: int = 0
    lr_milestones: list[int] = field(default_factory=list)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float | None = None
    use_ema: bool = True
    ema_max_decay: float = 0.9999
    ema_power: float = 0.75
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] | None = None
    gradient_checkpointing: bool = False
    enable_xformers_memory_efficient_attention: bool = False
    allow_tf32: bool = False
    deterministic: bool = False
    num_workers: int = 0
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = 5
    resume_from_checkpoint: str = "latest"
    new_leg: bool = False
    validation_steps: int = 500
    num_validation_images: int = 16
    num_divergence_images: int = 64
    validation_num_inference_steps: int = 25
    report_to: list[str] | str = field(default_factory=lambda: ["tensorboard"])
    project_name: str = "synthset"
    run_name: str | None = None
    logging_steps: int = 10
    seed: int = 0
    hub_model_id: str | None = None
    hub_strategy: Literal["end", "checkpoint"] = "end"
    dry_run: bool = False

    def __post_init__(self):
        self.require_positive(
            *"resolution crop_size layers_per_block patch_size attention_head_dim num_train_timesteps".split(),
            *"batch_size gradient_accumulation_steps num_train_epochs max_train_steps learning_rate".split(),
            *"snr_gamma max_grad_norm checkpointing_steps checkpoints_total_limit num_validation_images".split(),
            *"validation_num_inference_steps logging_steps adam_epsilon ema_power".split(),
        )
        if self.checkpoints_total_limit == 1:
            raise InputError("--checkpoints_total_limit is 1; give 2 or more, since the newest one may get damaged")
        self.require_not_negative(
            *"seed overfit lr_warmup_steps validation_steps num_divergence_images num_workers".split(),
            *"adam_beta1 adam_beta2 adam_weight_decay ema_max_decay".split(),
        )
        for name in ("adam_beta1", "adam_beta2", "ema_max_decay"):
            if getattr(self, name) >= 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give a number below 1")
        refuse_idle_flags(self, NEEDS)
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"--validation_fraction is {self.validation_fraction}; give a number between 0 and 1")
        for name in ("overfit", "num_workers"):
            if self.streaming and getattr(self, name):
                raise InputError(
                    f"--{name} is {getattr(self, name)} with --streaming; give 0, or leave --streaming out"
                )
        if not self.block_out_channels or min(self.block_out_channels) < 1:
            raise InputError(
                f"--block_out_channels is {self.block_out_channels}; give widths such as '[32,64,128,256]'"
            )
        stride = self.patch_size * 2 ** (len(self.block_out_channels) - 1)
        if self.resolution % stride:
            raise InputError(
                f"--resolution is {self.resolution}, which {len(self.block_out_channels)} levels of "
                f"--block_out_channels can't halve evenly after --patch_size {self.patch_size}; give a multiple of "
                f"{stride}, such as {max(1, round(self.resolution / stride)) * stride}"
            )
        if (self.lr_scheduler == "multistep") != bool(self.lr_milestones):
            raise InputError(
                f"--lr_scheduler is {self.lr_scheduler} and --lr_milestones is {self.lr_milestones}; milestones go "
                "with multistep, and multistep needs them, such as '[1000,2000]'"
            )
        if self.lr_scheduler == "multistep" and self.lr_warmup_steps:
            raise InputError(f"--lr_warmup_steps is {self.lr_warmup_steps}; multistep has no warm-up, give 0")
        in_order = sorted({step for step in self.lr_milestones if step > 0})
        if self.lr_milestones != in_order:
            raise InputError(
                f"--lr_milestones is {self.lr_milestones}; give steps above 0 in increasing order, such as "
                f"'{in_order or [1000, 2000]}'"
            )
        if self.validation_num_inference_steps > self.num_train_timesteps:
            raise InputError(
                f"--validation_num_inference_steps is {self.validation_num_inference_steps}, and --num_train_timesteps "
                f"{self.num_train_timesteps}; give {self.num_train_timesteps} or fewer for a preview"
            )
        if self.max_train_steps is not None:
            self.require_steps()
        self.report_to = [self.report_to] if isinstance(self.report_to, str) else self.report_to
        if "none" in self.report_to:
            if len(self.report_to) > 1:
                raise InputError(f"--report_to is {self.report_to}; give none alone, or trackers")
            self.report_to = []
        for tracker in self.report_to:
            if tracker not in LoggerType.list():
                raise InputError(f"--report_to is {tracker}; use {', '.join(LoggerType.list())} or none")
            if tracker != "all" and find_spec(tracker) is None:  # accelerate would train without a word in any log
                raise InputError(f"--report_to is {tracker}, which is not installed; pip install it or give none")
        if self.enable_xformers_memory_efficient_attention and find_spec("xformers") is None:
            raise InputError(
                "--enable_xformers_memory_efficient_attention is true, but xformers is not installed; "
                "pip install 'synthset[xformers]' or leave the flag out"
            )
        if self.mixed_precision == "fp16" and not torch.accelerator.is_available():
            raise InputError("--mixed_precision is fp16, which needs a GPU; give bf16, no or auto")
        if self.mixed_precision == "auto":
            self.mixed_precision = "bf16" if has_bf16() else "no"

    def require_positive(self, *names: str) -> None:
        """Raises InputError for a flag of these that is given and not above 0."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name} is {value}; give a number above 0")

    def require_not_negative(self, *names: str) -> None:
        """Raises InputError for a flag of these that is below 0."""
        for name in names:
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name} is {getattr(self, name)}; give 0 or more")

    def require_steps(self) -> None:
        """Raises InputError for a plan of the learning rate that does not fit into `max_train_steps`."""
        if self.lr_warmup_steps >= self.max_train_steps:
            raise InputError(
                f"--lr_warmup_steps is {self.lr_warmup_steps}, and the run ends after {self.max_train_steps} steps, "
                f"before the learning rate is up; give {self.max_train_steps // 10}, or more --max_train_steps"
            )
        late = [step for step in self.lr_milestones if step >= self.max_train_steps]
        if late:
            raise InputError(
                f"--lr_milestones has {late}, and the run ends after {self.max_train_steps} steps; leave them out, or "
                "give more --max_train_steps"
            )

    @property
    def norm_num_groups(self) -> int:
        """Groups of the normalization layers: 8, or the largest number that divides it and every width."""
        return math.gcd(8, *self.block_out_channels)

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
        chosen = {name: value for name, value in asdict(self).items() if name not in left_out}
        total_batch = self.pairs_per_step(num_processes)
        return chosen | {"batch_size x gradient_accumulation_steps x processes": total_batch}


def has_bf16() -> bool:
    """True if the processor that accelerate will use computes in bfloat16 natively."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
