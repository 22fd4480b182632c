"""Sampling: the diffusers pipelines and the schedulers they are known to work with."""

import diffusers
from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES

from ..registry import SCHEDULERS
from .pipeline_output import SynthSetPipelineOutput
from .pipeline_synthset import SynthSetPipeline
from .pipeline_synthset_sr import SynthSetSRPipeline
from .schedulers import make_scheduler

__all__ = ["SCHEDULERS", "SynthSetPipeline", "SynthSetPipelineOutput", "SynthSetSRPipeline", "make_scheduler"]

# diffusers loads components only from libraries in this table: without the entry `model_index.json` would name a
# module path, which `from_pretrained` refuses for Hub repositories. Pipeline classes it looks up in its own namespace.
LOADABLE_CLASSES["synthset"] = {"PairedUNet2DModel": ["save_pretrained", "from_pretrained"]}
ALL_IMPORTABLE_CLASSES.update(LOADABLE_CLASSES["synthset"])
diffusers.SynthSetPipeline, diffusers.SynthSetSRPipeline = SynthSetPipeline, SynthSetSRPipeline
