"""Discriminator of real and predicted pairs at a timestep (SynthSet, section 3, "Discriminator")."""

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as spectral_normalized

from .paired_unet_2d import FusionBlock2D


@dataclass
class PairedDiscriminator2DOutput(BaseOutput):
    """The output of [`PairedDiscriminator2DModel`].

    Args:
        logits: (B,), above 0 for pairs classified as real.
    """

    logits: torch.Tensor


class PairedDiscriminator2DModel(ModelMixin, ConfigMixin):
    r"""Classifies noisy pairs x_{t-1}, conditioned on t, as real or predicted.

    The encoder of `PairedUNet2DModel`'s `concat` variant, with its own time embedding, followed by global average
    pooling and a linear layer.

    Parameters:
        sample_size: Height and width of a sample in pixels; not used by the network.
        image_channels: Channels C of the image.
        mask_channels: Channels M of the mask.
        block_out_channels: Channels of each level, from `1 / patch_size` of the sample's resolution down; each level
            halves height and width.
        layers_per_block: ResNet blocks in each level.
        patch_size: Space-to-depth patch size in pixels, as in `PairedUNet2DModel`.
        norm_num_groups: Groups of every group normalization; must divide every entry of `block_out_channels`.
        norm_eps: Epsilon of every group normalization.
        act_fn: Activation, by diffusers' name.
        spectral_norm: Whether every convolution and linear layer has spectral normalization (Miyato et al. 2018, arXiv
            1802.05957).

    Raises:
        ValueError: `norm_num_groups` does not divide a width.
    """

    _no_split_modules = ["FusionBlock2D"]
    _skip_layerwise_casting_patterns = ["norm"]

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 128,
        image_channels: int = 3,
        mask_channels: int = 1,
        block_out_channels: tuple[int, ...] = (32, 64, 128, 256),
        layers_per_block: int = 1,
        patch_size: int = 1,
        norm_num_groups: int = 8,
        norm_eps: float = 1e-5,
        act_fn: str = "silu",
        spectral_norm: bool = False,
    ):
        super().__init__()
        if any(channels % norm_num_groups for channels in block_out_channels):
            raise ValueError(
                f"`norm_num_groups` must divide every entry of `block_out_channels`, but {norm_num_groups} does not "
                f"divide all of {list(block_out_channels)}"
            )
        first, last = block_out_channels[0], block_out_channels[-1]
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, 4 * first, act_fn=act_fn)
        self.patchify = nn.PixelUnshuffle(patch_size)
        in_channels = (image_channels + mask_channels) * patch_size**2
        self.conv_in = nn.Conv2d(in_channels, first, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            FusionBlock2D(
                in_channels,
                out_channels,
                num_skips=0,
                skip_fusion="concat",
                condition_channels=0,
                num_layers=layers_per_block,
                norm_num_groups=norm_num_groups,
                temb_channels=4 * first,
                eps=norm_eps,
                non_linearity=act_fn,
            )
            for in_channels, out_channels in zip((first, *block_out_channels), block_out_channels, strict=False)
        )
        self.downsamplers = nn.ModuleList(
            Downsample2D(channels, use_conv=True, name="op") for channels in block_out_channels[:-1]
        )
        self.act_out = get_activation(act_fn)
        self.linear_out = nn.Linear(last, 1)
        if spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    spectral_normalized(module)
        self.to_json_string()  # as in PairedUNet2DModel

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float | int, return_dict: bool = True
    ) -> PairedDiscriminator2DOutput | tuple[torch.Tensor]:
        r"""Classifies pairs.

        Args:
            sample: Pairs x_{t-1}, (B, C + M, H, W), image channels first, H and W divisible by `patch_size`.
            timestep: t, one for the batch or (B,).
            return_dict: Whether to return a [`PairedDiscriminator2DOutput`] or a plain tuple.
        """
        timesteps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        temb = self.time_embedding(self.time_proj(timesteps).to(sample.dtype))
        hidden = self.conv_in(self.patchify(sample))
        for level, block in enumerate(self.blocks):
            hidden = block(hidden, (), temb, None)
            if level < len(self.downsamplers):
                hidden = self.downsamplers[level](hidden)
        # no normalization before the pooling: it would remove the magnitude of the features
        logits = self.linear_out(self.act_out(hidden).mean(dim=(2, 3)))[:, 0]
        if not return_dict:
            return (logits,)
        return PairedDiscriminator2DOutput(logits=logits)
