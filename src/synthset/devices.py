"""The device to compute on, its number format, and its name for reports of measurements."""

import re
from pathlib import Path

import torch

from .arguments.choices import MixedPrecision
from .errors import InputError

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # by `--mixed_precision`


def default_device() -> torch.device:
    """The accelerator if one is available, else the CPU."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")


def resolve_mixed_precision(mixed_precision: MixedPrecision) -> MixedPrecision:
    """`--mixed_precision` for the processor that accelerate will use; `auto` is bf16 where it computes in it natively.

    Raises:
        InputError: the processor does not compute in it.
    """
    if mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise InputError("--mixed_precision is fp16, which needs a GPU; give bf16, no or auto")
    if mixed_precision != "auto":
        return mixed_precision
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if has_bf16 else "no"


def describe_device(device: torch.device) -> str:
    """Returns the name of the device, and for a CPU the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    cpuinfo = Path("/proc/cpuinfo")  # Linux has it
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{model[1] if model else 'CPU'}, threads: {torch.get_num_threads()}"
