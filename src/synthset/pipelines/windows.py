"""Samples larger than those of training, by overlapping windows."""

from typing import Any

import torch

from ..models import PairedUNet2DModel
from ..models.paired_unet_2d import PairedUNet2DOutput
from ..tiles import tile_boxes


class WindowedUNet:
    """Runs a network in overlapping windows of a sample and blends its predictions (Bar-Tal et al. 2023,
    "MultiDiffusion", arXiv 2302.08113), each with a weight that falls linearly to a window's edge.

    Args:
        unet: the network.
        side: side of the windows in pixels, divisible by the network's `total_stride`; a quarter of it overlaps at
            least.
        batch_size: windows of all samples in the network at once, at least one of each.
    """

    def __init__(self, unet: PairedUNet2DModel, side: int, batch_size: int = 32):
        self.unet, self.side, self.batch_size = unet, side, batch_size

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **told: Any) -> PairedUNet2DOutput:
        """As the network: `sample` (B, C + M, H, W), no side below a window's; timesteps without dimensions."""
        side, count = self.side, len(sample)
        height, width = sample.shape[-2:]
        boxes = tile_boxes(height, width, side, overlap=side // 4)
        ramp = torch.linspace(1 - side, side - 1, side, device=sample.device).abs().sub(side + 1).neg() / side
        weight = ramp[:, None] * ramp
        total, weights = torch.zeros_like(sample, dtype=torch.float32), weight.new_zeros(height, width)
        step = max(1, self.batch_size // count)
        for start in range(0, len(boxes), step):
            part = boxes[start : start + step]
            windows = torch.cat([sample[..., top : top + side, left : left + side] for top, left in part])
            predicted = self.unet(windows, timestep, **told).sample.float().split(count)
            for (top, left), prediction in zip(part, predicted, strict=True):
                total[..., top : top + side, left : left + side] += weight * prediction
                weights[top : top + side, left : left + side] += weight
        return PairedUNet2DOutput(sample=total / weights)
