"""One denoising network for an image and its mask: the architecture of SynthSet, section 3."""

import math
from dataclasses import dataclass

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
    """Skip fusion, then the condition, then `num_layers` ResNet blocks: what every level of every branch consists of.

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
        **resnet_kwargs,
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
        skips: tuple[torch.Tensor, ...],
        temb: torch.Tensor,
        condition: torch.Tensor | None,
    ) -> torch.Tensor:
        hidden = self.fusion(hidden, *skips)
        if condition is not None:
            hidden = torch.cat([hidden, condition], dim=1)
        for resnet in self.resnets:
            hidden = resnet(hidden, temb)
        return hidden


class PairedUNet2DModel(ModelMixin, AttentionMixin, ConfigMixin):
    r"""Denoises an image and its mask together (SynthSet, section 3).

    `variant` chooses how the two share weights and features:

    - `two_encoder`: a U-Net for the image and one for the mask, linked after every down and every up block.
    - `shared_encoder`: one encoder and bottleneck, applied to the image and to the mask; two decoders, linked after
      every up block.
    - `concat`: one U-Net on image and mask concatenated, without links (SatSynth).

    A link is a skip fusion of a branch's features with the other branch's, and sits where the features are used next:
    after a down block's downsampling, at the input of the next down block or of the bottleneck; after an up block's
    upsampling, at the input of the next up block, together with the U-Net skips of both branches (the down blocks'
    outputs before their downsampling: "the skip connections across separate encoders and decoders are the primary
    source of communication", section 3); and before the output convolution. In the bottleneck, self-attention is
    followed by cross-attention: image features query mask features and, from the values before that update, the other
    way round. `concat` has self-attention only.

    Parameters:
        sample_size: Height and width of a sample in pixels; only read by pipelines.
        image_channels: Channels C of the image.
        mask_channels: Channels M of the mask.
        variant: `two_encoder`, `shared_encoder` or `concat`.
        skip_fusion: `scale_u`, `zero_conv` or `concat`; see `synthset.models.skip_fusion`.
        block_out_channels: Channels of each level, from `1 / patch_size` of the sample's resolution down; each level
            halves height and width.
        layers_per_block: ResNet blocks in each down and each up block.
        patch_size: Side p in pixels of the squares that the image and the mask, each for itself, are cut into: a branch
            sees p * p times its channels at height and width divided by p, and its output is laid out as pixels again.
            The network costs about p * p times less a picture, and what is finer than a square has fewer features
            (space-to-depth before the U-Net, as in Hoogeboom et al. 2023, arXiv 2301.11093). 1, the paper, cuts none.
        input_skip: Whether the sample and the condition are added to the output, each channel times a factor that a
            linear layer, zero at first, reads from the time embedding. Much of what a prediction is asked for is the
            noisy sample itself, and the more so the less images vary; with the skip it need not pass through the
            network. (Karras et al. 2022, arXiv 2206.00364, equation 7, compute the factor, from the noise and the
            data's standard deviation.) The paper has none.
        attention_head_dim: Channels of one attention head in the bottleneck, which has
            `block_out_channels[-1] // attention_head_dim` heads, at least one.
        norm_num_groups: Groups of every group normalization; must divide every entry of `block_out_channels`.
        norm_eps: Epsilon of every group normalization.
        act_fn: Activation, by diffusers' name.
        dropout: Dropout probability in the ResNet blocks.
        condition_channels: Channels of `condition`, image channels first; 0 for a model without one. It is resized to
            each level and concatenated to the input of every down and up block (section 3, "Super-resolution").
        condition_noise: Whether the model is told how noisy `condition` is, by an embedding of its own.

    Raises:
        ValueError: An unknown `variant` or `skip_fusion`, `norm_num_groups` that does not divide a width,
            `condition_noise` without `condition_channels`, or `input_skip` and `condition_channels` other than 0 and
            the sample's.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["FusionBlock2D", "Attention"]
    _skip_layerwise_casting_patterns = ["norm"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs) -> "PairedUNet2DModel":
        """As `ModelMixin.from_pretrained`, but never falls back on pickled weights."""
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
        norm_num_groups: int = 8,
        norm_eps: float = 1e-5,
        act_fn: str = "silu",
        dropout: float = 0.0,
        condition_channels: int = 0,
        condition_noise: bool = False,
    ):
        super().__init__()
        if condition_noise and not condition_channels:
            raise ValueError("`condition_noise` is True, but there is no condition: `condition_channels` is 0")
        if input_skip and condition_channels not in (0, image_channels + mask_channels):
            raise ValueError(
                f"`input_skip` adds the condition to the output, but `condition_channels` is {condition_channels}, not "
                f"{image_channels + mask_channels}"
            )
        VARIANTS[variant], SKIP_FUSIONS[skip_fusion]
        if any(channels % norm_num_groups for channels in block_out_channels):
            raise ValueError(
                f"`norm_num_groups` must divide every entry of `block_out_channels`, but {norm_num_groups} does not "
                f"divide all of {list(block_out_channels)}"
            )

        first, last = block_out_channels[0], block_out_channels[-1]
        time_embed_dim = 4 * first

        def block(
            in_channels, out_channels, num_skips, num_layers=layers_per_block, condition_channels=condition_channels
        ):
            return FusionBlock2D(
                in_channels,
                out_channels,
                num_skips,
                skip_fusion,
                condition_channels,
                num_layers,
                norm_num_groups,
                temb_channels=time_embed_dim,
                eps=norm_eps,
                non_linearity=act_fn,
                dropout=dropout,
            )

        def attention(**kwargs):
            return Attention(
                last,
                heads=max(1, last // attention_head_dim),
                dim_head=attention_head_dim,
                norm_num_groups=norm_num_groups,
                eps=norm_eps,
                residual_connection=True,
                **kwargs,
            )

        # What enters and leaves: the image and the mask, or both as one.
        self.stream_channels = (
            [image_channels + mask_channels] if variant == "concat" else [image_channels, mask_channels]
        )
        decoders = range(len(self.stream_channels))
        encoders = range(2 if variant == "two_encoder" else 1)
        encoder_links, decoder_links = len(encoders) - 1, len(decoders) - 1

        # time, shared by the branches
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, time_embed_dim, act_fn=act_fn)
        self.noise_level_embedding = (
            TimestepEmbedding(first, time_embed_dim, act_fn=act_fn) if condition_noise else None
        )

        # input, output: space-to-depth patches, and back
        self.patchify, self.unpatchify = nn.PixelUnshuffle(patch_size), nn.PixelShuffle(patch_size)

        # input; this list and those below hold one module per branch, those with levels one such list per level
        self.conv_in = nn.ModuleList(
            nn.Conv2d(c * patch_size**2, first, kernel_size=3, padding=1) for c in self.stream_channels
        )

        # down
        self.down_blocks, self.downsamplers = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(block_out_channels):
            in_channels, num_skips = (block_out_channels[level - 1], encoder_links) if level else (first, 0)
            self.down_blocks.append(nn.ModuleList(block(in_channels, channels, num_skips) for _ in encoders))
            if level < len(block_out_channels) - 1:
                self.downsamplers.append(
                    nn.ModuleList(Downsample2D(channels, use_conv=True, name="op") for _ in encoders)
                )

        # bottleneck
        self.mid_in_blocks = nn.ModuleList(block(last, last, encoder_links, 1, 0) for _ in encoders)
        self.self_attentions = nn.ModuleList(attention() for _ in encoders)
        self.cross_attentions = nn.ModuleList(
            attention(
                cross_attention_dim=last,
                cross_attention_norm="group_norm",
                cross_attention_norm_num_groups=norm_num_groups,
            )
            for _ in encoders
            if variant != "concat"
        )
        self.mid_out_blocks = nn.ModuleList(block(last, last, 0, 1, 0) for _ in encoders)

        # up, deepest level first; an upsampler leaves the next level's width, so that all that is fused there has it
        self.up_blocks, self.upsamplers = nn.ModuleList(), nn.ModuleList()
        for level, channels in reversed(list(enumerate(block_out_channels))):
            self.up_blocks.append(nn.ModuleList(block(channels, channels, 1 + 2 * decoder_links) for _ in decoders))
            if level > 0:
                self.upsamplers.append(
                    nn.ModuleList(
                        Upsample2D(channels, use_conv=True, out_channels=block_out_channels[level - 1])
                        for _ in decoders
                    )
                )

        # output
        self.fusion_out = nn.ModuleList(
            SKIP_FUSIONS[skip_fusion](first, decoder_links) if decoder_links else nn.Identity() for _ in decoders
        )
        self.conv_out = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(norm_num_groups, first * (1 + decoder_links), eps=norm_eps),
                get_activation(act_fn),
                nn.Conv2d(first * (1 + decoder_links), channels * patch_size**2, kernel_size=3, padding=1),
            )
            for channels in self.stream_channels
        )

        # from the sample and the condition to the output, as much as the time embedding says: nothing at first
        gated_channels = image_channels + mask_channels + condition_channels
        self.input_gate = nn.Linear(time_embed_dim, gated_channels) if input_skip else None
        if self.input_gate is not None:
            nn.init.zeros_(self.input_gate.weight)
            nn.init.zeros_(self.input_gate.bias)

        self.gradient_checkpointing = False
        # The first time, this adds diffusers' version to `config`. If that were when the model is saved, a compiled one
        # would have to be compiled again.
        self.to_json_string()

    @property
    def total_stride(self) -> int:
        """Divisor that height and width of a sample must have: `patch_size * 2 ** (len(block_out_channels) - 1)`."""
        return self.config.patch_size * 2 ** len(self.downsamplers)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        condition: torch.Tensor | None = None,
        noise_level: torch.Tensor | float | int | None = None,
        return_dict: bool = True,
    ) -> PairedUNet2DOutput | tuple[torch.Tensor]:
        r"""Predicts for a noisy pair what the scheduler asks for: noise, velocity or the clean pair.

        Args:
            sample: Noisy pair (B, C + M, H, W), image channels first. H and W must be divisible by `total_stride`.
            timestep: One for the batch (a number or a tensor without dimensions) or one for each pair, (B,).
            condition: Low-resolution pair (B, condition_channels, h, w) of any size, image channels first. Image
                channels are resized bilinearly, the others to the nearest pixel.
            noise_level: With `condition_noise`, the timesteps' worth of noise in `condition`, 0 for none; one for the
                batch or (B,).
            return_dict: Whether to return a [`PairedUNet2DOutput`] or a plain tuple.

        Raises:
            ValueError: H or W not divisible by the stride; a condition given to a model without `condition_channels`,
                missing in one with them, or of another number of channels; a noise level given to a model without
                `condition_noise`, or missing in one with it.
        """
        batch_size, _, height, width = sample.shape
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

        # 1. time, and how noisy the condition is
        temb = self._embed(self.time_embedding, timestep, sample)
        if noise_level is not None:
            temb = temb + self._embed(self.noise_level_embedding, noise_level, sample)

        # 2. pre-process: the branches, and the condition (or None) at each level's size
        streams = sample.split(self.stream_channels, dim=1)
        hiddens = [conv(self.patchify(x)) for conv, x in zip(self.conv_in, streams, strict=True)]
        height, width = (side // self.config.patch_size for side in (height, width))
        conditions = [
            condition if condition is None else self._resize_condition(condition, (height >> level, width >> level))
            for level in range(len(self.down_blocks))
        ]

        # 3. down; a shared encoder takes image and mask stacked along the batch, as one branch
        stacked = len(self.down_blocks[0]) < len(hiddens)
        encoder_temb, encoder_conditions = temb, conditions
        if stacked:
            hiddens = [torch.cat(hiddens)]
            encoder_temb = temb.repeat(2, 1)
            encoder_conditions = [c if c is None else c.repeat(2, 1, 1, 1) for c in conditions]
        links, skips = [()] * len(hiddens), []
        for level, blocks in enumerate(self.down_blocks):
            hiddens = self._apply_blocks(blocks, hiddens, links, encoder_temb, encoder_conditions[level])
            skips.append(hiddens)
            if level < len(self.downsamplers):
                hiddens = [downsample(h) for downsample, h in zip(self.downsamplers[level], hiddens, strict=True)]
            links = _others(hiddens)

        # 4. bottleneck
        hiddens = self._apply_blocks(self.mid_in_blocks, hiddens, links, encoder_temb, None)
        hiddens = [attention(h) for attention, h in zip(self.self_attentions, hiddens, strict=True)]
        if self.cross_attentions:
            contexts = [hiddens[0].roll(batch_size, dims=0)] if stacked else hiddens[::-1]
            hiddens = [
                attention(h, encoder_hidden_states=context.flatten(2).transpose(1, 2))
                for attention, h, context in zip(self.cross_attentions, hiddens, contexts, strict=True)
            ]
        hiddens = self._apply_blocks(self.mid_out_blocks, hiddens, [()] * len(hiddens), encoder_temb, None)

        # 5. up
        if stacked:
            hiddens, skips = hiddens[0].chunk(2), [skip[0].chunk(2) for skip in skips]
        for depth, blocks in enumerate(self.up_blocks):
            own = skips.pop()
            links = [(s, *others, *o) for s, others, o in zip(own, _others(own), _others(hiddens), strict=True)]
            hiddens = self._apply_blocks(blocks, hiddens, links, temb, conditions.pop())
            if depth < len(self.upsamplers):
                hiddens = [upsample(h) for upsample, h in zip(self.upsamplers[depth], hiddens, strict=True)]

        # 6. post-process
        hiddens = [fusion(h, *o) for fusion, h, o in zip(self.fusion_out, hiddens, _others(hiddens), strict=True)]
        output = torch.cat([self.unpatchify(conv(h)) for conv, h in zip(self.conv_out, hiddens, strict=True)], dim=1)
        if self.input_gate is not None:
            inputs = [sample]
            if condition is not None:
                inputs.append(self._resize_condition(condition, sample.shape[-2:]))
            gates = self.input_gate(temb)[:, :, None, None].chunk(len(inputs), dim=1)
            output = output + sum(gate * x for gate, x in zip(gates, inputs, strict=True))

        if not return_dict:
            return (output,)
        return PairedUNet2DOutput(sample=output)

    def _embed(self, embedding: TimestepEmbedding, timestep, sample: torch.Tensor) -> torch.Tensor:
        """(B, 4 * block_out_channels[0]) features of one timestep for the batch or of one for each pair."""
        timesteps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        return embedding(self.time_proj(timesteps).to(sample.dtype))

    def _apply_blocks(self, blocks, hiddens, links, temb, condition):
        """One block per branch, each on its branch's features and on the skips in `links`."""
        outputs = []
        for block, hidden, skips in zip(blocks, hiddens, links, strict=True):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                outputs.append(self._gradient_checkpointing_func(block, hidden, skips, temb, condition))
            else:
                outputs.append(block(hidden, skips, temb, condition))
        return outputs

    def _resize_condition(self, condition: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The image channels with antialiased bilinear, the others with nearest resampling."""
        image, rest = condition[:, : self.config.image_channels], condition[:, self.config.image_channels :]
        # In float32: not every backend resizes half precision with antialiasing.
        image = F.interpolate(image.float(), size, mode="bilinear", antialias=True).to(condition.dtype)
        return torch.cat([image, F.interpolate(rest, size, mode="nearest-exact")], dim=1) if rest.shape[1] else image


def _others(hiddens) -> list[tuple[torch.Tensor, ...]]:
    """For each branch, the features of the others: what a link brings in."""
    return [tuple(h for j, h in enumerate(hiddens) if j != i) for i in range(len(hiddens))]
