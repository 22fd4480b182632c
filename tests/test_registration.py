"""A saved pipeline names `synthset`, and a new process that imports `synthset` loads it, by either class."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetSRPipeline

LOAD = """
import sys, torch, diffusers, synthset
cls = {"DiffusionPipeline": diffusers.DiffusionPipeline, "SynthSetPipeline": synthset.SynthSetPipeline}[sys.argv[2]]
pipeline = cls.from_pretrained(sys.argv[1], **eval(sys.argv[3]))
assert type(pipeline) is synthset.SynthSetPipeline, type(pipeline)
assert type(pipeline.unet) is synthset.PairedUNet2DModel, type(pipeline.unet)
pair = pipeline(num_inference_steps=1, generator=torch.Generator().manual_seed(0), output_type="pt")
print(pipeline.unet.dtype, pipeline.scheduler.config.prediction_type, pair.images.sum().item())
"""

LOAD_SR = """
import sys, torch, diffusers, synthset
pipeline = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1])
assert type(pipeline) is synthset.SynthSetSRPipeline, type(pipeline)
assert type(pipeline.unet) is synthset.PairedUNet2DModel, type(pipeline.unet)
pair = torch.full((1, 3, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
pair = pipeline(*pair, num_inference_steps=1, noise_level=7, generator=torch.Generator().manual_seed(0))
print(*pair.images.shape, pair.images.sum().item())
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    unet = PairedUNet2DModel(sample_size=8, block_out_channels=[8, 16], layers_per_block=1, norm_num_groups=4)
    pipeline = SynthSetPipeline(unet, DDPMScheduler(prediction_type="v_prediction"))
    directory = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(directory)
    return pipeline, directory


def test_model_index_names_the_package(saved):
    index = json.loads((saved[1] / "model_index.json").read_text())
    assert index["_class_name"] == "SynthSetPipeline"
    assert index["unet"] == ["synthset", "PairedUNet2DModel"]
    assert index["scheduler"] == ["diffusers", "DDPMScheduler"]


@pytest.mark.parametrize(
    ("cls", "kwargs", "dtype"),
    [
        ("SynthSetPipeline", "{}", "torch.float32"),
        ("DiffusionPipeline", "{'device_map': 'cpu'}", "torch.float32"),
        ("DiffusionPipeline", "{'torch_dtype': torch.bfloat16}", "torch.bfloat16"),
    ],
)
def test_loads_in_a_new_process(saved, cls, kwargs, dtype):
    pipeline, directory = saved
    command = [sys.executable, "-c", LOAD, str(directory), cls, kwargs]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found_dtype, prediction_type, total = result.stdout.split()
    assert (found_dtype, prediction_type) == (dtype, "v_prediction")
    here = pipeline(num_inference_steps=1, generator=torch.Generator().manual_seed(0), output_type="pt")
    assert float(total) == pytest.approx(here.images.sum().item(), rel=1e-4 if dtype == "torch.float32" else 0.05)


def test_replaced_unet_keeps_its_library(saved):
    pipeline, _ = saved
    pipeline.unet = pipeline.unet
    assert pipeline.config.unet == ("synthset", "PairedUNet2DModel")


def test_super_resolution(tmp_path):
    """Its settings are in `model_index.json` too, and come back."""
    torch.manual_seed(0)
    unet = PairedUNet2DModel(
        variant="concat",
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        condition_channels=4,
        condition_noise=True,
    )
    pipeline = SynthSetSRPipeline(unet, DDIMScheduler(timestep_spacing="trailing"), scale_factor=4, max_noise_level=7)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {key: value for key, value in index.items() if key != "_diffusers_version"} == {
        "_class_name": "SynthSetSRPipeline",
        "unet": ["synthset", "PairedUNet2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "scale_factor": 4,
        "max_noise_level": 7,
        "crop_size": None,
    }
    result = subprocess.run([sys.executable, "-c", LOAD_SR, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    *shape, total = result.stdout.split()
    assert shape == ["1", "3", "16", "16"]
    pair = torch.full((1, 3, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
    here = pipeline(*pair, num_inference_steps=1, noise_level=7, generator=torch.Generator().manual_seed(0))
    assert float(total) == pytest.approx(here.images.sum().item(), rel=1e-4)
