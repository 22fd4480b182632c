"""The device to compute on, and its name for reports of measurements."""

import re
from pathlib import Path

import torch

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # by `--mixed_precision`


def default_device() -> torch.device:
    """The accelerator if one is available, else the CPU."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """Returns the name of the device, and for a CPU the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    cpuinfo = Path("/proc/cpuinfo")  # Linux has it
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{model[1] if model else 'CPU'}, threads: {torch.get_num_threads()}"
