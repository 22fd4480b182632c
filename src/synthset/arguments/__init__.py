"""Flags of every command, parsed and checked before torch, diffusers, datasets or accelerate are imported.

A command's dataclass holds its flags; its groups are the dataclasses that it inherits (see `base.Arguments`).
"""

from .datasets import (
    CopyPasteArguments,
    FilterArguments,
    PrepareArguments,
    PseudoLabelArguments,
    RenderArguments,
)
from .evaluation import ReportArguments, SelectionArguments
from .generation import GenerateArguments
from .hub import PushArguments
from .quickstart import QuickstartArguments
from .research import BenchmarkArguments, CompareArguments, Table1Arguments, Table2Arguments, TableArguments
from .segmentation import SegmentationArguments
from .training import PairedArguments, SRArguments, TrainingArguments

__all__ = [
    "BenchmarkArguments",
    "CompareArguments",
    "CopyPasteArguments",
    "FilterArguments",
    "GenerateArguments",
    "PairedArguments",
    "PrepareArguments",
    "PseudoLabelArguments",
    "PushArguments",
    "QuickstartArguments",
    "RenderArguments",
    "ReportArguments",
    "SRArguments",
    "SegmentationArguments",
    "SelectionArguments",
    "Table1Arguments",
    "Table2Arguments",
    "TableArguments",
    "TrainingArguments",
]
