"""Runs a script with accelerate's FSDP, or without in a single process: `python fsdp_on_cpu.py SCRIPT ...`.

Accelerate shards on GPUs alone, though torch does on processors as well. It asks what kind of processes they are; here
it is told that they are those of GPUs. Validation takes 9 items, which two processes can't share evenly.
"""

import os
import runpy
import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from synthset.training.stream import ValidationItems

if "WORLD_SIZE" in os.environ:
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
ValidationItems.size = 9
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
