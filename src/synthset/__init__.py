"""Joint image-mask diffusion: pairs of images and segmentation masks, learned from few and generated without limit."""

import diffusers
from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES

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

# diffusers loads components only from libraries in this table: without the entry `model_index.json` would name a
# module path, which `from_pretrained` refuses for Hub repositories. Pipeline classes it looks up in its own namespace.
LOADABLE_CLASSES["synthset"] = {"PairedUNet2DModel": ["save_pretrained", "from_pretrained"]}
ALL_IMPORTABLE_CLASSES.update(LOADABLE_CLASSES["synthset"])
diffusers.SynthSetPipeline, diffusers.SynthSetSRPipeline = SynthSetPipeline, SynthSetSRPipeline
