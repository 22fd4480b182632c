"""Registries of the choices that flags, configurations and saved models name. Adding a choice is adding an entry.

Importing this module imports neither torch nor diffusers: an [`Import`] is carried out when its entry is looked up.
"""

import functools
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Import:
    """An object that is imported when it is looked up.

    Args:
        path: "module:attribute".
        settings: Keyword arguments bound to the object, a callable, if there are any.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        module, attribute = self.path.split(":")
        target = getattr(importlib.import_module(module), attribute)
        return functools.partial(target, **self.settings) if self.settings else target


class Registry:
    """Choices of one kind by name. Iterates over the names; a lookup returns the object.

    Args:
        kind: The argument that takes such a name, for error messages.
        entries: Name to object, or to its [`Import`].
    """

    def __init__(self, kind: str, entries: Mapping[str, Any]):
        self.kind, self._entries = kind, dict(entries)

    def __getitem__(self, name: str) -> Any:
        """Raises InputError for an unknown name."""
        if name not in self:
            raise InputError(f"{self.kind} is {name!r}; use one of {', '.join(self)}")
        entry = self._entries[name]
        return entry.load() if isinstance(entry, Import) else entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True)
class Variant:
    """Architecture of a [`PairedUNet2DModel`]: what image and mask share.

    Args:
        streams: 2 for an image stream and a mask stream, each with its own input convolution, decoder and output
            convolution; 1 for image and mask concatenated along the channels.
        encoders: Number of encoders and bottlenecks, 1 or `streams`. One encoder for two streams processes them as
            one batch.
        cross_attention: Whether the bottleneck has cross-attention between the two streams.
    """

    streams: int
    encoders: int
    cross_attention: bool

    @property
    def shared_encoder(self) -> bool:
        """True if one encoder processes both streams."""
        return self.encoders < self.streams


VARIANTS = Registry(
    "variant",
    {
        "two_encoder": Variant(streams=2, encoders=2, cross_attention=True),
        "shared_encoder": Variant(streams=2, encoders=1, cross_attention=True),
        "concat": Variant(streams=1, encoders=1, cross_attention=False),
    },
)

# classes, called (channels, num_skips); see synthset.models.skip_fusion
SKIP_FUSIONS = Registry(
    "skip_fusion",
    {
        "scale_u": Import("synthset.models.skip_fusion:ScaleU"),
        "zero_conv": Import("synthset.models.skip_fusion:ZeroConvSkips"),
        "concat": Import("synthset.models.skip_fusion:ConcatSkips"),
    },
)

# diffusers' schedulers with their settings; `make_scheduler` adds the settings of training
SCHEDULERS = Registry(
    "scheduler",
    {
        "ddpm": Import("diffusers:DDPMScheduler", {"clip_sample": True, "clip_sample_range": 1.0}),
        # DDIM is first-order DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095, section 4.1). diffusers' DDIMScheduler
        # always steps by 1000 // steps, so that step counts that do not divide 1000 leave noise in the sample.
        "ddim": Import("diffusers:DPMSolverMultistepScheduler", {"solver_order": 1}),
        "dpmsolver++": Import("diffusers:DPMSolverMultistepScheduler", {"solver_order": 2}),
        "unipc": Import("diffusers:UniPCMultistepScheduler", {"solver_order": 2}),
    },
)

# functions (args, network) -> torch.optim.Optimizer; see synthset.training.optimization
OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw": Import("synthset.training.optimization:adamw"),
        "muon": Import("synthset.training.optimization:muon"),
        "soap": Import("synthset.training.optimization:soap"),
    },
)

# functions that draw ln sigma of timesteps; see synthset.training.timesteps
TIMESTEP_DENSITIES = Registry(
    "timestep_density",
    {
        "uniform": Import("synthset.training.timesteps:uniform"),
        "lognormal": Import("synthset.training.timesteps:lognormal"),
        "logit_normal": Import("synthset.training.timesteps:logit_normal"),
        "mode": Import("synthset.training.timesteps:mode"),
    },
)

# functions (seed, size) -> (image, mask); see synthset.rendering
SCENES = Registry(
    "scene",
    {
        "wheat": Import("synthset.rendering.cereals:render_wheat"),
        "cereals": Import("synthset.rendering.cereals:render_cereals"),
        "barley": Import("synthset.rendering.cereals:render_barley"),
        "sorghum": Import("synthset.rendering.cereals:render_sorghum"),
        "seedlings": Import("synthset.rendering.seedlings:render_seedlings"),
    },
)

# The training target is c * x_0 + d * noise; an entry computes (c, d) from alpha and sigma of
# x_t = alpha * x_0 + sigma * noise. Losses, weights and x_0 follow from it; see synthset.pipelines.prediction_types.
PREDICTION_TYPES = Registry(
    "prediction_type",
    {
        "epsilon": lambda alpha, sigma: (0, 1),
        "v_prediction": lambda alpha, sigma: (-sigma, alpha),
        "sample": lambda alpha, sigma: (1, 0),
    },
)
