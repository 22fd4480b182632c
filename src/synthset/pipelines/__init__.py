"""Sampling: the diffusers pipelines and the schedulers they are known to work with."""

from ..registry import SCHEDULERS
from .pipeline_output import SynthSetPipelineOutput
from .pipeline_synthset import SynthSetPipeline
from .pipeline_synthset_sr import SynthSetSRPipeline
from .schedulers import make_scheduler

__all__ = ["SCHEDULERS", "SynthSetPipeline", "SynthSetPipelineOutput", "SynthSetSRPipeline", "make_scheduler"]
