"""One gate for every way in: nothing that is loaded runs anything. An attack that got through would leave a mark."""

import json
import shutil
import sys

import datasets
import pytest
import torch
from diffusers import DDPMScheduler
from testing_utils.publishing import write_pipeline

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.data import load_pairs
from synthset.errors import InputError
from synthset.pipelines.loading import load_pipeline
from synthset.pipelines.safety import require_safe, require_safe_folder
from synthset.segmentation import Segmenter, build_segmenter, load_segmenter

CODE = """
from pathlib import Path
from diffusers import DDPMScheduler
Path({mark!r}).touch()
class Evil(DDPMScheduler): pass
class SynthSetPipeline: pass
"""


class Pickled:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A pipeline and a segmenter, as SynthSet saves them."""
    folder = tmp_path_factory.mktemp("models")
    write_pipeline(folder / "pipeline")
    build_segmenter("unet", "resnet18", None, 32, 32).save_pretrained(folder / "segmenter")
    return folder


def entry(folder, **changes):
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))


def add(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content) if isinstance(content, str) else torch.save(content, folder / name)


ATTACKS = {  # name: what is put into the pipeline's folder, and what its model_index.json says
    "component": ("scheduler/evil.py", {"scheduler": ["evil", "Evil"]}),
    "network": ("unet/evil.py", {"unet": ["evil", "Evil"]}),
    "further component": ("more/evil.py", {"more": ["evil", "Evil"]}),
    "pipeline": ("evil.py", {"_class_name": ["evil", "SynthSetPipeline"]}),
    "module elsewhere": ("../elsewhere/evil.py", {"scheduler": ["evil", "Evil"]}),
    "another library": (None, {"unet": ["os", "system"]}),
    "not a scheduler": (None, {"scheduler": ["diffusers", "DiffusionPipeline"]}),
    "not a list": (None, {"scheduler": {"library": "evil"}}),
    "pickle": ("unet/diffusion_pytorch_model.bin", {}),
    "capital letters": ("scheduler/evil.PY", {}),
    "deep": ("unet/a/b/evil.pyc", {}),
    "library": ("unet/evil.so", {}),
    "unheard of": ("unet/weights.dill", {}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_local_pipeline_runs_nothing(models, tmp_path, monkeypatch, attack):
    name, entries = ATTACKS[attack]
    folder, mark = tmp_path / "model", str(tmp_path / "ran")
    shutil.copytree(models / "pipeline", folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    if name:
        add(folder, name, CODE.format(mark=mark) if "py" in name.lower().split(".")[-1] else Pickled(mark))
    entry(folder, **entries)
    for load in (
        lambda: SynthSetPipeline.from_pretrained(folder),
        lambda: load_pipeline(SynthSetPipeline, str(folder)),
        lambda: require_safe_folder(folder),
    ):
        with pytest.raises(InputError, match=r"model holds |model has .* in model_index.json; |which holds a \['evil'"):
            load()
    # a network or a schedule by itself is read from the file that it is, whatever lies beside it
    PairedUNet2DModel.from_pretrained(folder, subfolder="unet")
    DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert not (tmp_path / "ran").exists()
    sys.modules.pop("evil", None)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "evil.py", "predictions.npy"])
def test_a_local_segmenter_runs_nothing(models, tmp_path, name):
    folder, mark = tmp_path / "model", str(tmp_path / "ran")
    shutil.copytree(models / "segmenter", folder)
    Segmenter.from_pretrained(folder)
    add(folder, name, CODE.format(mark=mark) if name.endswith(".py") else Pickled(mark))
    for load in (lambda: Segmenter.from_pretrained(folder), lambda: load_segmenter(str(folder))):
        with pytest.raises(InputError, match=f"model holds {name}"):
            load()
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError):
        load_segmenter(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_network_alone_is_not_unpickled(models, tmp_path):
    mark = str(tmp_path / "ran")
    shutil.copytree(models / "pipeline" / "unet", tmp_path / "unet")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    add(tmp_path, "unet/diffusion_pytorch_model.bin", Pickled(mark))
    with pytest.raises(OSError, match="safetensors"):
        PairedUNet2DModel.from_pretrained(tmp_path / "unet")
    assert not (tmp_path / "ran").exists()


def test_a_dataset_with_a_script_runs_nothing(tmp_path):
    folder, mark = tmp_path / "pairs", str(tmp_path / "ran")
    add(folder, "pairs.py", CODE.format(mark=mark))
    with pytest.raises(RuntimeError, match="scripts are no longer supported"):
        datasets.load_dataset(str(folder))
    with pytest.raises(InputError, match="holds no pairs"):
        load_pairs(str(folder))
    (folder / "train-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="can't be loaded"):
        load_pairs(str(folder))
    assert not (tmp_path / "ran").exists()


def test_what_may_lie_beside_weights():
    kept = "README.md LICENSE .gitattributes unet/model-00001-of-00002.safetensors previews/step-1.png metrics.jsonl"
    require_safe("model", [*kept.split(), "unet/model.safetensors.index.json", "train.log"])
    for name in ("unet/model.bin", "a/b/c.pkl", "run", "x.safetensors.py", ".evil.py", "model.ckpt", "handler.PY"):
        with pytest.raises(InputError, match=f"model holds {name};"):
            require_safe("model", [name])
