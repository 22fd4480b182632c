"""Pairs of which something is known, while the rest is drawn."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from diffusers.image_processor import PipelineImageInput

from ..image_processor import PairImageProcessor, to_uint8

Part: TypeAlias = Literal["image", "mask"]
Times: TypeAlias = tuple[torch.Tensor, dict[str, torch.Tensor]]  # a network's `timestep`, and `mask_timestep` by name


@dataclass(frozen=True)
class Known:
    """The known part of pairs.

    Args:
        sample: x_0, (B, C + M, H, W) float32, any values where it is not known.
        region: what of `sample` is known, bool (B, C + M, H, W).
        part: the part that is known everywhere, of which the network is told by its timestep 0; None for a region,
            which has the noise of the rest (Lugmayr et al. 2022, "RePaint", arXiv 2201.09865, equation 8).
    """

    sample: torch.Tensor
    region: torch.Tensor
    part: Part | None

    @classmethod
    def encode(
        cls,
        processor: PairImageProcessor,
        images: PipelineImageInput | None,
        masks: PipelineImageInput | None,
        known: PipelineImageInput | None,
    ) -> "Known":
        """Encodes what a pipeline was called with.

        Args:
            processor: of the network's samples.
            images, masks: as in `PairImageProcessor.preprocess`; one may be None.
            known: 0 where they are not known, as masks are given; None for everywhere.

        Raises:
            ValueError: nothing or everything is known, sizes or numbers differ, or masks hold other values than 0 and
                255, or 0 and 1.
        """
        if known is None and (images is None) == (masks is None):
            raise ValueError(
                "images and masks are both given, which leaves nothing to draw; give one, or known, 0 where to draw."
            )
        config = processor.config
        image = None if images is None else to_uint8(images, config.image_channels, "images")
        mask = None if masks is None else to_uint8(masks, config.mask_channels, "masks")
        where = None if known is None else to_uint8(known, 1, "known")
        given = {
            name: part for name, part in (("images", image), ("masks", mask), ("known", where)) if part is not None
        }
        if list(given) == ["known"]:
            raise ValueError("known is given without images or masks, of which it says where they are known.")
        first, (count, _, *size) = next(iter(given)), next(iter(given.values())).shape
        for name, part in given.items():
            if len(part) != count or list(part.shape[-2:]) != size:
                (n, _, y, x), (h, w) = part.shape, size
                raise ValueError(
                    f"{name} are {n} of {x} x {y} pixels, but {first} {count} of {w} x {h}; make them alike."
                )
        values = [] if mask is None else mask.unique().tolist()
        if not set(values) <= {0, 1} and not set(values) <= {0, 255}:
            raise ValueError(
                f"masks hold the values {', '.join(map(str, values[:8]))}; give 0 for the background and 255 or 1 for "
                "the object, the only class that the model knows."
            )
        everywhere = torch.ones(count, 1, *size, dtype=torch.uint8)
        where = (everywhere if where is None else where) > 0
        nowhere = torch.zeros_like(where)
        region = torch.cat(
            [
                (nowhere if image is None else where).expand(-1, config.image_channels, -1, -1),
                (nowhere if mask is None else where).expand(-1, config.mask_channels, -1, -1),
            ],
            dim=1,
        )
        image = everywhere.expand(-1, config.image_channels, -1, -1) if image is None else image
        sample = processor.encode(image, (everywhere if mask is None else mask) > 0)
        if known is not None:
            return cls(sample, region, None)
        return cls(sample, region, "mask" if images is None else "image")

    def repeat(self, count: int) -> "Known":
        """Each pair `count` times in a row."""
        sample, region = (tensor.repeat_interleave(count, dim=0) for tensor in (self.sample, self.region))
        return replace(self, sample=sample, region=region)

    def to(self, device: torch.device) -> "Known":
        return replace(self, sample=self.sample.to(device), region=self.region.to(device))

    def insert(self, sample: torch.Tensor, noise: torch.Tensor, alphas_cumprod: float) -> torch.Tensor:
        """Replaces in x_t, (B, C + M, H, W), what is known: without noise if the network is told so, else with `noise`,
        standard normal of that shape, at `alphas_cumprod`."""
        a = alphas_cumprod if self.part is None else 1.0
        return torch.where(self.region, a**0.5 * self.sample + (1 - a) ** 0.5 * noise, sample)

    def timesteps(self, timestep: torch.Tensor) -> Times:
        """The timesteps that the network is told, where that of what is drawn is `timestep`."""
        clean = torch.zeros_like(timestep)
        if self.part == "image":
            return clean, {"mask_timestep": timestep}
        if self.part == "mask":
            return timestep, {"mask_timestep": clean}
        return timestep, {}


def renew_noise(sample: torch.Tensor, x_0: torch.Tensor, noise: torch.Tensor, alphas_cumprod: float) -> torch.Tensor:
    """Replaces half of the noise's variance in x_t, so that what is drawn can follow what is known beside it.

    It is a step of the Ornstein-Uhlenbeck process that keeps N(sqrt(a) x_0, 1 - a), as a corrector that stays at its
    noise level (Song et al. 2021, arXiv 2011.13456, section 4.2); RePaint (arXiv 2201.09865, section 4.2) goes back in
    time instead, which a solver with a memory of steps can't.

    Args:
        sample: x_t, (B, C + M, H, W).
        x_0: predicted from it.
        noise: standard normal.
        alphas_cumprod: a.
    """
    mean = alphas_cumprod**0.5 * x_0
    return mean + 0.5**0.5 * (sample - mean) + (0.5 * (1 - alphas_cumprod)) ** 0.5 * noise
