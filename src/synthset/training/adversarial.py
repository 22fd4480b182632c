"""Training of the discriminator, and its loss for the generator (SynthSet, section 3, "Discriminator")."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedType
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.utils import DynamoBackend
from diffusers import ModelMixin

from ..arguments.training import PairedArguments
from ..errors import InputError
from ..models import PairedDiscriminator2DModel
from . import objectives
from .optimization import adamw, build_lr_scheduler

logger = logging.getLogger("synthset")


class Adversary:
    """A discriminator between real samples of x_{t-1} and those predicted by the generator.

    Args:
        accelerator: has prepared the other three.
        discriminator: the network.
        optimizer, lr_scheduler: the discriminator's.
        r1_gamma: weight of the R1 penalty; 0 = off.
        max_grad_norm: maximum norm to clip the gradient to; infinity = no clipping.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        discriminator: ModelMixin,
        optimizer: AcceleratedOptimizer,
        lr_scheduler: AcceleratedScheduler,
        r1_gamma: float = 0.0,
        max_grad_norm: float = float("inf"),
    ):
        self.accelerator, self.discriminator, self.optimizer = accelerator, discriminator, optimizer
        self.lr_scheduler, self.r1_gamma, self.max_grad_norm = lr_scheduler, r1_gamma, max_grad_norm
        # fp16's loss scale. Not accelerate's, which may change at any optimizer's step: when the discriminator steps,
        # the generator's gradients are unfinished
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=accelerator.scaler is not None)
        if self.scaler.is_enabled():
            accelerator.register_for_checkpointing(self.scaler)
        discriminator.train()

    def step(self, real: torch.Tensor, fake: torch.Tensor, timesteps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Trains the discriminator on one batch of real and fake pairs, (B, C + M, H, W) each, the fake ones detached.

        With accumulated gradients it steps in the last forward pass; the generator meets its new weights in that pass.

        Returns:
            What to log, scalars: its loss, the shares of real and of fake pairs that it took for what they are, and,
            when the optimizer stepped, the gradient's norm.

        Raises:
            InputError: the gradient is not finite (with fp16, such a step is left out instead).
        """
        real = real.detach().requires_grad_(self.r1_gamma > 0)
        logits = self.discriminator(torch.cat([real, fake.detach()]), timesteps.repeat(2)).logits
        real_logits, fake_logits = logits.chunk(2)
        loss = objectives.discriminator_loss(real_logits, fake_logits).mean()
        measured = {
            "discriminator_loss": loss,
            "accuracy_real": (real_logits > 0).float().mean(),
            "accuracy_fake": (fake_logits < 0).float().mean(),
        }
        if self.r1_gamma:
            loss = loss + self.r1_gamma * objectives.r1_penalty(real_logits, real).mean()
        self.scaler.scale(loss / self.accelerator.gradient_accumulation_steps).backward()
        if self.accelerator.sync_gradients:
            optimizer = self.optimizer.optimizer  # what accelerate wrapped, which would use accelerate's scale
            self.scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.max_grad_norm)
            measured["discriminator_gradient_norm"] = norm
            if not self.scaler.is_enabled() and not norm.isfinite():
                raise InputError(
                    f"the discriminator's gradient has the norm {norm.item()}; nothing was learned from it: go back "
                    "with --resume_from_checkpoint CHECKPOINT --new_leg and a lower --discriminator_learning_rate (now "
                    f"{self.lr_scheduler.get_last_lr()[0]:g}), a lower --learning_rate or --max_grad_norm 1"
                )
            self.scaler.step(optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.lr_scheduler.step()
        return measured

    def generator_loss(self, fake: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The generator's adversarial loss, a scalar; its gradient reaches the generator only."""
        # Not through DistributedDataParallel, which would wait for gradients of the discriminator.
        network = self.accelerator.unwrap_model(self.discriminator, keep_torch_compile=False)
        with frozen(network):
            return objectives.generator_loss(network(fake, timesteps).logits).mean()


def build_discriminator(args: PairedArguments) -> PairedDiscriminator2DModel:
    """The discriminator that the flags ask for; its widths are the model's."""
    return PairedDiscriminator2DModel(
        sample_size=args.resolution,
        block_out_channels=tuple(args.block_out_channels),
        layers_per_block=args.discriminator_layers_per_block,
        patch_size=args.patch_size,
        norm_num_groups=args.norm_num_groups,
        spectral_norm=args.spectral_norm,
    )


def build_adversary(
    args: PairedArguments, accelerator: Accelerator, leg_start: int = 0, rate: float = 1.0
) -> Adversary:
    """The discriminator, with its optimizer.

    Args:
        leg_start: the step from which its learning rate's schedule counts.
        rate: factor of its learning rate.

    Raises:
        InputError: there are shards of the model on several devices, and accelerate shards one model only; or R1 is
            asked for with torch.compile, which has no second derivatives.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        raise InputError(f"--gan_weight is {args.gan_weight}, but FSDP shards one network only; give 0 or use DDP")
    if args.r1_gamma and accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        raise InputError(
            f"--r1_gamma is {args.r1_gamma}, but torch.compile has no second derivatives; give 0 or launch without "
            "--dynamo_backend"
        )
    discriminator = build_discriminator(args)
    optimizer = adamw(args, discriminator, args.discriminator_learning_rate * rate)
    lr_scheduler = build_lr_scheduler(args, optimizer, leg_start)
    network, optimizer, lr_scheduler = accelerator.prepare(discriminator, optimizer, lr_scheduler)
    return Adversary(accelerator, network, optimizer, lr_scheduler, args.r1_gamma, args.max_grad_norm or float("inf"))


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """Freezes `network` within the block: no gradients for its weights, no updates of its buffers."""
    network.requires_grad_(False).eval()
    try:
        yield
    finally:
        network.requires_grad_(True).train()


class SaturationWatch:
    """Warns when a discriminator has long been almost always right, or no better than chance: then it teaches nothing.

    Args:
        patience: optimizer steps in a row after which to warn, and to warn again.
    """

    def __init__(self, patience: int = 500):
        self.patience = patience
        self.since: dict[str, int] = {}

    def update(self, step: int, accuracy_real: float, accuracy_fake: float) -> None:
        """Takes in the accuracies, 0 to 1, means over the last steps."""
        accuracy = (accuracy_real + accuracy_fake) / 2
        states = {
            "almost always right; lower --discriminator_learning_rate or add --r1_gamma": accuracy > 0.99,
            "no better than chance; try another --discriminator_learning_rate": accuracy < 0.55,
        }
        for state, holds in states.items():
            since = self.since.setdefault(state, step) if holds else self.since.pop(state, step)
            if holds and step - since >= self.patience:
                logger.warning(f"step {step}: for {step - since} steps the discriminator has been {state}")
                self.since[state] = step
