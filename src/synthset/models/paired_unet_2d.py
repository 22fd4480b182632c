"""Denoising U-Net for an image and its mask: the architectures of SynthSet, section 3."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from diffusers.utils import BaseOutput
from torch import nn

from ..registry import SKIP_FUSIONS, VARIANTS


@dataclass
class PairedUNet2DOutput(BaseOutput):
    """The output of [`PairedUNet2DModel`].

    Args:
        sample: The prediction for the input `sample`, of the same shape (B, C + M, H, W).
    """

    sample: torch.Tensor


class FusionBlock2D(nn.Module):
    """Skip fusion, concatenation of the condition, then `num_layers` ResNet blocks: one block of one branch.

    Called `(hidden, skips, temb, condition)` with `hidden` and the skips of the same shape (B, in_channels, H, W), the
    time embedding and the condition at that size, or None. Returns (B, out_channels, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_skips: int,
        skip_fusion: str,
        condition_channels: int,
        num_layers: int,
        norm_num_groups: int,
        **resnet_kwargs: Any,
    ):
        super().__init__()
        self.fusion = SKIP_FUSIONS[skip_fusion](in_channels, num_skips) if num_skips else nn.Identity()
        in_channels = in_channels * (1 + num_skips) + condition_channels
        self.resnets = nn.ModuleList(
            ResnetBlock2D(
                in_channels=in_channels if i == 0 else out_channels,
                out_channels=out_channels,
                # With the condition the block's input is seldom divisible by `norm_num_groups`.
                groups=math.gcd(norm_num_groups, in_channels) if i == 0 else norm_num_groups,
                groups_out=norm_num_groups,
                **resnet_kwargs,
            )
            for i in range(num_layers)
        )

    def forward(
        self,
        hidden: torch.Tensor,
        skips: Sequence[torch.Tensor],
        temb: torch.Tensor,
        condition: torch.Tensor | None,
    ) -> torch.Tensor:
        hidden = self.fusion(hidden, *skips)
        if condition is not None:
            hidden = torch.cat([hidden, condition], dim=1)
        for resnet in self.resnets:
            hidden = resnet(hidden, temb)
        return hidden


class Branches(nn.ModuleList):
    """One module per branch. Each argument is a list with one input per branch, and so is the result."""

    def forward(self, *inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [module(*args) for module, *args in zip(self, *inputs, strict=True)]


class PairedBlock2D(nn.ModuleList):
    """One [`FusionBlock2D`] per branch, and the links between the branches.

    Args:
        branches: Number of branches.
        linked: Whether each branch's features are fused with those of the other branches.
        has_skips: Whether they are fused with the U-Net skips of all branches.
        block_kwargs: Arguments of the blocks.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`

    def __init__(self, branches: int, linked: bool = False, has_skips: bool = False, **block_kwargs: Any):
        num_skips = has_skips * branches + linked * (branches - 1)
        super().__init__(FusionBlock2D(num_skips=num_skips, **block_kwargs) for _ in range(branches))
        self.linked = linked
        self.gradient_checkpointing = False

    def forward(
        self,
        hiddens: Sequence[torch.Tensor],
        tembs: Sequence[torch.Tensor],
        condition: torch.Tensor | None = None,
        skips: Sequence[torch.Tensor] = (),
    ) -> list[torch.Tensor]:
        """Runs the branches.

        Args:
            hiddens: Features of each branch, (B, in_channels, H, W).
            tembs: Time embedding of each branch, (B, temb_channels).
            condition: Condition (B, condition_channels, H, W), the same for all branches.
            skips: With `has_skips`, the U-Net skip of each branch, (B, in_channels, H, W).

        Returns:
            Features of each branch, (B, out_channels, H, W).
        """
        outputs = []
        for i, block in enumerate(self):
            fused = [*skips[i : i + 1], *_without(skips, i), *(_without(hiddens, i) if self.linked else ())]
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                outputs.append(self._gradient_checkpointing_func(block, hiddens[i], fused, tembs[i], condition))
            else:
                outputs.append(block(hiddens[i], fused, tembs[i], condition))
        return outputs


class PairedUNet2DModel(ModelMixin, AttentionMixin, ConfigMixin):
    r"""Denoises an image and its mask together (SynthSet, section 3).

    `variant` chooses the weights and features that the two share:

    - `two_encoder`: a U-Net for the image and one for the mask, linked after every down and every up block.
    - `shared_encoder`: one encoder and bottleneck, applied to the image and to the mask; two decoders, linked after
      every up block.
    - `concat`: one U-Net on image and mask concatenated, without links (SatSynth).

    A link is a skip fusion of a branch's features with the other branch's, at the input of the module that uses them
    next: after a down block's downsampling, at the input of the next down block or of the bottleneck; after an up
    block's upsampling, at the input of the next up block, together with the U-Net skips of both branches (the down
    blocks' outputs before their downsampling: "the skip connections across separate encoders and decoders are the
    primary source of communication", section 3); and before the output convolution. In the bottleneck, self-attention
    is followed by cross-attention: image features query mask features and, from the values before that update, the
    other way round. `concat` has self-attention only.

    Parameters:
        sample_size: Height and width of a sample in pixels; only read by pipelines.
        image_channels: Channels C of the image.
        mask_channels: Channels M of the mask.
        variant: A name in `synthset.registry.VARIANTS`: `two_encoder`, `shared_encoder` or `concat`.
        skip_fusion: A name in `synthset.registry.SKIP_FUSIONS`: `scale_u`, `zero_conv` or `concat`.
        block_out_channels: Channels of each level, from `1 / patch_size` of the sample's resolution down; each level
            halves height and width.
        layers_per_block: ResNet blocks in each down and each up block.
        patch_size: Space-to-depth patch size p in pixels: image and mask are each rearranged from (C, H, W) to
            (p * p * C, H / p, W / p) before the U-Net, and its output is rearranged back. Reduces the cost about p * p
            times, at the expense of details smaller than a patch (Hoogeboom et al. 2023, arXiv 2301.11093). 1, the
            paper's, changes nothing.
        input_skip: Whether the sample and the condition are added to the output, scaled per channel by a linear layer
            on the time embedding that is initialized to zero. Learns the scale that Karras et al. 2022 (arXiv
            2206.00364, equation 7) compute from the noise level and the data's standard deviation. The paper has none.
        attention_head_dim: Channels of one attention head; attention on c channels, such as
            `block_out_channels[-1]` in the bottleneck, has `c // attention_head_dim` heads, at least one.
        attention_levels: Levels, 0 for the first, with self-attention in each branch after the down and the up block
            (Ho et al. 2020, arXiv 2006.11239, have it at 16 x 16). The paper has none outside the bottleneck.
        norm_num_groups: Groups of every group normalization; must divide every entry of `block_out_channels`.
        norm_eps: Epsilon of every group normalization.
        act_fn: Activation, by diffusers' name.
        dropout: Dropout probability in the ResNet blocks.
        condition_channels: Channels of `condition`, image channels first; 0 for a model without one. It is resized to
            each level and concatenated to the input of every down and up block (section 3, "Super-resolution").
        condition_noise: Whether the model takes `noise_level`, the noise in `condition`, through an embedding.
        mask_timestep: Whether the mask can have a timestep of its own, so that the model also draws a mask for a given
            image, which has timestep 0, and an image for a given mask (UniDiffuser, arXiv 2303.06555). A branch is told
            the other's timestep by an embedding of it minus the same embedding of its own (`concat`: the mask's minus
            the image's): with equal timesteps, and at first, the model computes what it does without.
        augment_dim: Entries of `augmentation`, which says how a training pair was augmented; 0 for a model that is not
            told. A linear layer without bias, zero at first, adds it to the features of the timestep (Karras et al.
            2022, appendix F.2).
        sample_mean: Mean of each channel of pairs in [-1, 1], C + M numbers, which was subtracted from samples. It and
            `sample_std` change nothing in the network: pipelines encode and decode by them.
        sample_std: Divisor of each channel of samples, C + M numbers.

    Raises:
        ValueError: An unknown `variant` or `skip_fusion`, `norm_num_groups` that does not divide a width,
            `condition_noise` without `condition_channels`, or `input_skip` and `condition_channels` other than 0 and
            the sample's.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["FusionBlock2D", "Attention"]
    _skip_layerwise_casting_patterns = ["norm"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> "PairedUNet2DModel":
        """Loads a model as `ModelMixin.from_pretrained` does, but from safetensors only, never from pickled weights."""
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 128,
        image_channels: int = 3,
        mask_channels: int = 1,
        variant: str = "two_encoder",
        skip_fusion: str = "scale_u",
        block_out_channels: tuple[int, ...] = (32, 64, 128, 256),
        layers_per_block: int = 2,
        patch_size: int = 1,
        input_skip: bool = False,
        attention_head_dim: int = 32,
        attention_levels: tuple[int, ...] = (),
        norm_num_groups: int = 8,
        norm_eps: float = 1e-5,
        act_fn: str = "silu",
        dropout: float = 0.0,
        condition_channels: int = 0,
        condition_noise: bool = False,
        mask_timestep: bool = False,
        augment_dim: int = 0,
        sample_mean: tuple[float, ...] | None = None,
        sample_std: tuple[float, ...] | None = None,
    ):
        super().__init__()
        if condition_noise and not condition_channels:
            raise ValueError("`condition_noise` is True, but there is no condition: `condition_channels` is 0")
        if input_skip and condition_channels not in (0, image_channels + mask_channels):
            raise ValueError(
                f"`input_skip` adds the condition to the output, but `condition_channels` is {condition_channels}, not "
                f"{image_channels + mask_channels}"
            )
        if any(channels % norm_num_groups for channels in block_out_channels):
            raise ValueError(
                f"`norm_num_groups` must divide every entry of `block_out_channels`, but {norm_num_groups} does not "
                f"divide all of {list(block_out_channels)}"
            )

        self.variant, fusion = VARIANTS[variant], SKIP_FUSIONS[skip_fusion]
        streams, encoders = self.variant.streams, self.variant.encoders
        self.stream_channels = [image_channels, mask_channels] if streams == 2 else [image_channels + mask_channels]
        first, last = block_out_channels[0], block_out_channels[-1]
        time_embed_dim = 4 * first
        block = functools.partial(
            PairedBlock2D,
            skip_fusion=skip_fusion,
            norm_num_groups=norm_num_groups,
            temb_channels=time_embed_dim,
            eps=norm_eps,
            non_linearity=act_fn,
            dropout=dropout,
        )
        level_block = functools.partial(block, num_layers=layers_per_block, condition_channels=condition_channels)
        mid_block = functools.partial(
            block, encoders, in_channels=last, out_channels=last, num_layers=1, condition_channels=0
        )

        def attention(channels: int, **kwargs: Any) -> Attention:
            return Attention(
                channels,
                heads=max(1, channels // attention_head_dim),
                dim_head=attention_head_dim,
                norm_num_groups=norm_num_groups,
                eps=norm_eps,
                residual_connection=True,
                **kwargs,
            )

        def level_attentions(branches: int, level: int, channels: int) -> Branches:
            return Branches(
                attention(channels) if level in attention_levels else nn.Identity() for _ in range(branches)
            )

        # time
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, time_embed_dim, act_fn=act_fn, cond_proj_dim=augment_dim or None)
        if augment_dim:
            nn.init.zeros_(self.time_embedding.cond_proj.weight)
        self.noise_level_embedding = (
            TimestepEmbedding(first, time_embed_dim, act_fn=act_fn) if condition_noise else None
        )
        self.other_time_embedding = (  # without a bias, which differences cancel
            TimestepEmbedding(first, time_embed_dim, act_fn=act_fn, sample_proj_bias=False) if mask_timestep else None
        )
        if self.other_time_embedding is not None:
            nn.init.zeros_(self.other_time_embedding.linear_2.weight)

        # input
        self.patchify, self.unpatchify = nn.PixelUnshuffle(patch_size), nn.PixelShuffle(patch_size)
        self.conv_in = Branches(
            nn.Conv2d(channels * patch_size**2, first, kernel_size=3, padding=1) for channels in self.stream_channels
        )

        # down. Blocks, downsamplers and attentions are separate lists because names and order of the weights are those
        # of saved models and optimizer states.
        self.down_blocks, self.downsamplers = nn.ModuleList(), nn.ModuleList()
        self.down_attentions = nn.ModuleList()
        for level, channels in enumerate(block_out_channels):
            in_channels = block_out_channels[max(level - 1, 0)]
            self.down_blocks.append(
                level_block(encoders, linked=level > 0, in_channels=in_channels, out_channels=channels)
            )
            self.down_attentions.append(level_attentions(encoders, level, channels))
            is_last = level == len(block_out_channels) - 1
            self.downsamplers.append(
                Branches(
                    nn.Identity() if is_last else Downsample2D(channels, use_conv=True, name="op")
                    for _ in range(encoders)
                )
            )

        # bottleneck
        self.mid_in_blocks = mid_block(linked=True)
        self.self_attentions = Branches(attention(last) for _ in range(encoders))
        self.cross_attentions = Branches(
            attention(
                last,
                cross_attention_dim=last,
                cross_attention_norm="group_norm",
                cross_attention_norm_num_groups=norm_num_groups,
            )
            for _ in range(encoders if self.variant.cross_attention else 0)
        )
        self.mid_out_blocks = mid_block()

        # up, deepest level first; an upsampler's output has the next level's width, that of all it is fused with
        self.up_blocks, self.upsamplers, self.up_attentions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, channels in reversed(list(enumerate(block_out_channels))):
            self.up_blocks.append(
                level_block(streams, linked=True, has_skips=True, in_channels=channels, out_channels=channels)
            )
            self.up_attentions.append(level_attentions(streams, level, channels))
            self.upsamplers.append(
                Branches(
                    Upsample2D(channels, use_conv=True, out_channels=block_out_channels[level - 1])
                    if level
                    else nn.Identity()
                    for _ in range(streams)
                )
            )

        # output
        self.fusion_out = Branches(fusion(first, streams - 1) if streams > 1 else nn.Identity() for _ in range(streams))
        self.conv_out = Branches(
            nn.Sequential(
                nn.GroupNorm(norm_num_groups, first * streams, eps=norm_eps),
                get_activation(act_fn),
                nn.Conv2d(first * streams, channels * patch_size**2, kernel_size=3, padding=1),
            )
            for channels in self.stream_channels
        )
        gated_channels = image_channels + mask_channels + condition_channels
        self.input_gate = nn.Linear(time_embed_dim, gated_channels) if input_skip else None
        if self.input_gate is not None:
            nn.init.zeros_(self.input_gate.weight)
            nn.init.zeros_(self.input_gate.bias)

        # The first time, this adds diffusers' version to `config`. If that were when the model is saved, a compiled one
        # would have to be compiled again.
        self.to_json_string()

    @property
    def total_stride(self) -> int:
        """Divisor that height and width of a sample must have: `patch_size * 2 ** (len(block_out_channels) - 1)`."""
        return self.config.patch_size * 2 ** (len(self.down_blocks) - 1)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        condition: torch.Tensor | None = None,
        noise_level: torch.Tensor | float | int | None = None,
        augmentation: torch.Tensor | None = None,
        mask_timestep: torch.Tensor | float | int | None = None,
        return_dict: bool = True,
    ) -> PairedUNet2DOutput | tuple[torch.Tensor]:
        r"""Predicts the training target of a noisy pair, by the scheduler's `prediction_type`.

        Args:
            sample: Noisy pair (B, C + M, H, W), image channels first. H and W must be divisible by `total_stride`.
            timestep: One for the batch (a number or a tensor without dimensions) or one for each pair, (B,).
            condition: Low-resolution pair (B, condition_channels, h, w) of any size, image channels first. Image
                channels are resized bilinearly, the others to the nearest pixel.
            noise_level: With `condition_noise`, the noise in `condition` in timesteps, 0 for none; one for the batch or
                (B,).
            augmentation: With `augment_dim`, how each pair was augmented, (B, augment_dim); zeros if not given.
            mask_timestep: With `mask_timestep`, the timestep of the mask channels, one for the batch or (B,);
                `timestep` is then that of the image channels. The same if not given.
            return_dict: Whether to return a [`PairedUNet2DOutput`] or a plain tuple.

        Raises:
            ValueError: H or W not divisible by the stride; a condition given to a model without `condition_channels`,
                missing in one with them, or of another number of channels; a noise level given to a model without
                `condition_noise`, or missing in one with it; an augmentation of another size than `augment_dim`; a mask
                timestep given to a model without `mask_timestep`.
        """
        self._check_inputs(sample, condition, noise_level, augmentation, mask_timestep)

        # 1. time and augmentation, and noise level of the condition, of each branch
        tembs = self._embed_times(timestep, mask_timestep, sample, augmentation)
        if noise_level is not None:
            noise_temb = self._embed(self.noise_level_embedding, noise_level, sample)
            tembs = [temb + noise_temb for temb in tembs]

        # 2. pre-process; the lists hold one tensor per branch, `conditions` one (or None) per level
        hiddens = self.conv_in([self.patchify(x) for x in sample.split(self.stream_channels, dim=1)])
        conditions = self._resize_to_levels(condition, hiddens[0].shape[-2:])

        # 3. down; a shared encoder processes the streams as one batch
        encoder_tembs, encoder_conditions = tembs, conditions
        if self.variant.shared_encoder:
            hiddens = [torch.cat(hiddens)]
            encoder_tembs = [torch.cat(tembs)]
            encoder_conditions = [x if x is None else x.repeat(2, 1, 1, 1) for x in conditions]
        skips = []
        for block, attend, downsample, resized in zip(
            self.down_blocks, self.down_attentions, self.downsamplers, encoder_conditions, strict=True
        ):
            hiddens = attend(block(hiddens, encoder_tembs, resized))
            skips.append(hiddens)
            hiddens = downsample(hiddens)

        # 4. bottleneck
        hiddens = self.mid_in_blocks(hiddens, encoder_tembs)
        hiddens = self.self_attentions(hiddens)
        if self.variant.cross_attention:
            others = [hiddens[0].roll(len(sample), dims=0)] if self.variant.shared_encoder else hiddens[::-1]
            hiddens = self.cross_attentions(hiddens, (x.flatten(2).transpose(1, 2) for x in others))
        hiddens = self.mid_out_blocks(hiddens, encoder_tembs)

        # 5. up
        if self.variant.shared_encoder:
            hiddens, *skips = (x.chunk(2) for (x,) in (hiddens, *skips))
        for block, attend, upsample in zip(self.up_blocks, self.up_attentions, self.upsamplers, strict=True):
            hiddens = attend(block(hiddens, tembs, conditions.pop(), skips.pop()))
            hiddens = upsample(hiddens)

        # 6. post-process
        hiddens = self.fusion_out(hiddens, *([hiddens[::-1]] if len(hiddens) > 1 else []))
        output = torch.cat([self.unpatchify(x) for x in self.conv_out(hiddens)], dim=1)
        if self.input_gate is not None:
            inputs = [sample]
            if condition is not None:
                inputs.append(self._resize_condition(condition, sample.shape[-2:]))
            gates = self._gates(tembs).chunk(len(inputs), dim=1)
            output = output + sum(gate * x for gate, x in zip(gates, inputs, strict=True))

        if not return_dict:
            return (output,)
        return PairedUNet2DOutput(sample=output)

    def _check_inputs(
        self,
        sample: torch.Tensor,
        condition: torch.Tensor | None,
        noise_level: torch.Tensor | float | int | None,
        augmentation: torch.Tensor | None,
        mask_timestep: torch.Tensor | float | int | None,
    ) -> None:
        """Raises ValueError for what `forward` can't process."""
        height, width = sample.shape[-2:]
        if height % self.total_stride or width % self.total_stride:
            raise ValueError(
                f"`sample` is {height} x {width} pixels, but height and width must be divisible by the model's total "
                f"stride, {self.total_stride}"
            )
        for name, value, option in (
            ("condition", condition, "condition_channels"),
            ("noise_level", noise_level, "condition_noise"),
        ):
            if (value is not None) != bool(self.config[option]):
                raise ValueError(
                    f"`{name}` is {'missing' if value is None else 'given'}, but the model has "
                    f"`{option}={self.config[option]}`"
                )
        if condition is not None and condition.shape[1] != self.config.condition_channels:
            raise ValueError(
                f"`condition` has {condition.shape[1]} channels, but the model has "
                f"`condition_channels={self.config.condition_channels}`"
            )
        expected = len(sample), self.config.augment_dim
        if augmentation is not None and augmentation.shape != expected:
            raise ValueError(
                f"`augmentation` is {tuple(augmentation.shape)}, but must be {expected}: the model has "
                f"`augment_dim={self.config.augment_dim}`"
            )
        if mask_timestep is not None and self.other_time_embedding is None:
            raise ValueError("`mask_timestep` is given, but the model has `mask_timestep=False`")

    def _embed_times(
        self,
        timestep: torch.Tensor | float | int,
        mask_timestep: torch.Tensor | float | int | None,
        sample: torch.Tensor,
        augmentation: torch.Tensor | None,
    ) -> list[torch.Tensor]:
        """Features of each branch's timestep and of the other's, and of the augmentation,
        (B, 4 * block_out_channels[0])."""
        streams = self.variant.streams
        if self.other_time_embedding is None or mask_timestep is None:
            return [self._embed(self.time_embedding, timestep, sample, augmentation)] * streams
        own = [timestep, mask_timestep]
        others = [self._embed(self.other_time_embedding, t, sample) for t in own]
        return [
            self._embed(self.time_embedding, own[i], sample, augmentation) + (others[1 - i] - others[i])
            for i in range(streams)
        ]

    def _gates(self, tembs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Factors of the inputs' channels in the output, (B, gated channels, 1, 1), each by its branch's time."""
        assert self.input_gate is not None
        gates = self.input_gate(tembs[0])
        if tembs[0] is not tembs[-1]:
            of_image = torch.arange(gates.shape[1], device=gates.device) % sum(self.stream_channels)
            gates = torch.where(of_image < self.stream_channels[0], gates, self.input_gate(tembs[-1]))
        return gates[:, :, None, None]

    def _embed(
        self,
        embedding: TimestepEmbedding,
        timestep: torch.Tensor | float | int,
        sample: torch.Tensor,
        augmentation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, 4 * block_out_channels[0]) features of one timestep for the batch or of one for each pair, and of the
        augmentation."""
        timesteps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        augmentation = augmentation if augmentation is None else augmentation.to(sample.dtype)
        return embedding(self.time_proj(timesteps).to(sample.dtype), augmentation)

    def _resize_to_levels(self, condition: torch.Tensor | None, size: tuple[int, ...]) -> list[torch.Tensor | None]:
        """`condition` at the size of each level, from `size` (height, width) down; None for each if there is none."""
        if condition is None:
            return [None] * len(self.down_blocks)
        height, width = size
        return [
            self._resize_condition(condition, (height >> level, width >> level))
            for level in range(len(self.down_blocks))
        ]

    def _resize_condition(self, condition: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """`condition` at `size`: image channels bilinear with antialiasing, the others nearest."""
        image, rest = condition[:, : self.config.image_channels], condition[:, self.config.image_channels :]
        # In float32: not every backend resizes half precision with antialiasing.
        image = F.interpolate(image.float(), size, mode="bilinear", antialias=True).to(condition.dtype)
        return torch.cat([image, F.interpolate(rest, size, mode="nearest-exact")], dim=1) if rest.shape[1] else image


def _without(tensors: Sequence[torch.Tensor], i: int) -> list[torch.Tensor]:
    """`tensors` without the one of branch i."""
    return [*tensors[:i], *tensors[i + 1 :]]
