"""The model that comes with the package."""

import hashlib
import re

import pytest
import torch
from testing_utils.runs import ROOT

from synthset import SynthSetPipeline, SynthSetSRPipeline
from synthset.errors import InputError
from synthset.pipelines.loading import load_pipeline
from synthset.publishing.cards import card_license, describe
from synthset.resources import MODELS

FOLDER = MODELS["starter"]
WEIGHTS = FOLDER / "unet" / "diffusion_pytorch_model.safetensors"


def test_it_opens_by_its_name_and_draws(monkeypatch, tmp_path):
    """From any folder, with no network: the tests have none."""
    monkeypatch.chdir(tmp_path)
    pipeline = SynthSetPipeline.from_pretrained("starter")
    assert pipeline.unet.dtype == torch.float32
    pairs = pipeline(batch_size=2, num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    assert [image.size for image in pairs.images] == [(64, 64)] * 2
    assert pairs.images[0].tobytes() != pairs.images[1].tobytes()


def test_it_is_small_and_its_card_knows_its_weights():
    assert WEIGHTS.stat().st_size < 8e6
    card = (FOLDER / "README.md").read_text()
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in re.findall(r"[0-9a-f]{64}", card)
    assert card_license("starter") == card_license(FOLDER) == "apache-2.0"
    assert str(ROOT) not in card and "comes with" not in describe("somebody/else")


def test_a_folder_of_that_name_comes_first(monkeypatch, tmp_path):
    (tmp_path / "starter").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="starter"):
        load_pipeline(SynthSetPipeline, "starter")
    assert card_license("starter") is None and describe("starter", kind="") == "`starter`"


def test_it_is_no_super_resolution_model():
    with pytest.raises(InputError, match="holds a SynthSetPipeline"):
        load_pipeline(SynthSetSRPipeline, "starter")
