"""Training scripts run as users run them, and what they leave compared."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
LAUNCH = f"-m accelerate.commands.launch --main_process_port 0 --config_file {ROOT / 'accelerate_configs'}/"
TINY = {
    "resolution": 16,
    "crop_size": 24,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "batch_size": 4,
    "max_train_steps": 12,
    "checkpointing_steps": 3,
    "validation_steps": 0,
    "num_validation_images": 2,
    "num_divergence_images": 3,
    "validation_num_inference_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 0,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "checkpoints_total_limit": 5,
    "mixed_precision": "no",
    "report_to": "none",
}


def command(script, data, output_dir, launch="", **changes):
    """The command line of `scripts/SCRIPT` with the flags `TINY`, `changes` in them, without those that are None;
    `launch` is the launcher's."""
    flags = {"dataset": data, "output_dir": output_dir, **TINY, **changes}
    flags = {name: value for name, value in flags.items() if value is not None}
    script = str(ROOT / "scripts" / script)
    return [sys.executable, *launch.split(), script, *(f"--{name}={value}" for name, value in flags.items())]


def load_script(name):
    """`scripts/NAME` as a module."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), ROOT / "scripts" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(script, data, output_dir, launch="", preexec_fn=None, timeout=None, **changes):
    """Runs that command line with one thread, for at most `timeout` seconds."""
    return subprocess.run(
        command(script, data, output_dir, launch, **changes),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=preexec_fn,
        timeout=timeout,
    )


def weights(output_dir, part="unet"):
    return load_file(output_dir / part / "diffusion_pytorch_model.safetensors")


def same(a, b, **tolerance):
    """Whether two state dicts are equal, to the bit where no tolerance is given."""
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)
    return a.keys() == b.keys()


def refused(result, *words):
    """Whether a script ended with one line that has `words`, and no traceback."""
    assert result.returncode not in (0, None) and result.returncode > 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    assert all(word in lines[0] for word in words), lines[0]
    return True
