"""Joint image-mask diffusion: pairs of images and segmentation masks, learned from few and generated without limit.

What `__all__` lists is imported when it is first used, so that importing the package takes no time.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import InputError
    from .image_processor import PairImageProcessor
    from .models import PairedDiscriminator2DModel, PairedUNet2DModel
    from .pipelines import SynthSetPipeline, SynthSetPipelineOutput, SynthSetSRPipeline, make_scheduler
    from .random import keyed_generator

__version__ = "0.1.0.dev0"

__all__ = [
    "InputError",
    "PairImageProcessor",
    "PairedDiscriminator2DModel",
    "PairedUNet2DModel",
    "SynthSetPipeline",
    "SynthSetPipelineOutput",
    "SynthSetSRPipeline",
    "keyed_generator",
    "make_scheduler",
]

_MODULES = {
    "InputError": "errors",
    "PairImageProcessor": "image_processor",
    "PairedDiscriminator2DModel": "models",
    "PairedUNet2DModel": "models",
    "SynthSetPipeline": "pipelines",
    "SynthSetPipelineOutput": "pipelines",
    "SynthSetSRPipeline": "pipelines",
    "keyed_generator": "random",
    "make_scheduler": "pipelines",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _RegisterWithDiffusers(MetaPathFinder):
    """Imports `synthset.pipelines` as soon as diffusers' pipelines have been imported: it adds SynthSet's classes to
    those that `DiffusionPipeline.from_pretrained` loads."""

    module = "diffusers.pipelines.pipeline_utils"

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                import_module(".pipelines", __name__)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # of this one loader
        return spec


if _RegisterWithDiffusers.module in sys.modules:
    import_module(".pipelines", __name__)
else:
    sys.meta_path.insert(0, _RegisterWithDiffusers())
