"""The diffs of docs/extend.md, each applied to a copy of the source and then used in a process of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = dict(
    re.findall(
        r"^## (.+?)\n.*?^```diff\n(.*?)^```", (ROOT / "docs" / "extend.md").read_text(), re.MULTILINE | re.DOTALL
    )
)

pytestmark = pytest.mark.slow

TRAIN = """
import torch
from diffusers import DDPMScheduler
from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.training import objectives

def train(prediction_type="epsilon", **config):
    torch.manual_seed(0)
    model = PairedUNet2DModel(8, block_out_channels=(8, 16), norm_num_groups=4, **config)
    scheduler, optimizer = DDPMScheduler(prediction_type=prediction_type), torch.optim.SGD(model.parameters(), 1e-3)
    noise, sample = torch.randn(2, 4, 4, 8, 8)
    batch = {"sample": sample, "noise": noise, "timestep": torch.tensor([0, 300, 700, 999])}
    losses = []
    for _ in range(3):
        prediction = objectives.predict(model, scheduler, batch)
        losses.append(objectives.diffusion_loss(prediction, scheduler, batch, snr_gamma=5.0).mean())
        losses[-1].backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[0] > losses[1] > losses[2]
    return SynthSetPipeline(model, scheduler)
"""

EXACT = """
import torch
from diffusers import DDPMScheduler
from synthset import SynthSetPipeline, make_scheduler
from testing_utils.pipelines import GaussianDenoiser

def sample(name, prediction_type):
    training, target = DDPMScheduler(prediction_type=prediction_type), torch.rand(4, 8, 8) * 2 - 1

    class Denoiser(GaussianDenoiser):
        def answer(self, sample, timestep, mean):
            if self.prediction_type != "flow":
                return super().answer(sample, timestep, mean)
            self.prediction_type = "epsilon"
            output = super().answer(sample, timestep, mean)
            self.prediction_type, output.sample = "flow", output.sample - mean
            return output

    pipeline = SynthSetPipeline(Denoiser.build(training, target), make_scheduler(name, training.config, 20))
    ends = []
    pipeline(num_inference_steps=20, callback_on_step_end=lambda p, i, t, x: ends.append(x["sample"]))
    torch.testing.assert_close(ends[-1][0], target, atol=1e-4, rtol=0)
"""

USES = {
    "A variant": TRAIN
    + """
model = train(variant="links_only").unet
assert len(model.conv_in) == 2 and len(model.down_blocks[0]) == 2 and not model.cross_attentions
""",
    "A skip fusion": TRAIN
    + """
model = train(skip_fusion="gated").unet
assert type(model.up_blocks[0][0].fusion).__name__ == "GatedSkips"
""",
    "A data format": """
from pathlib import Path
import numpy as np
from PIL import Image
from synthset.data import load_pairs

for i in range(3):
    Path(str(i)).mkdir()
    Image.fromarray(np.full((8, 12, 3), 10 * i, np.uint8)).save(f"{i}/photo.jpg")
    Image.fromarray(np.eye(8, 12, dtype=np.uint8) * 255).save(f"{i}/mask.png")
pairs = load_pairs(".")
assert len(pairs) == 3 and pairs[1]["image"].size == (12, 8) and np.asarray(pairs[1]["mask"]).sum() == 8
""",
    "A sampler": EXACT + """sample("euler", "epsilon")\n""",
    "An objective": TRAIN
    + EXACT
    + """
pipeline = train("flow")
pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler.config, 4)
assert pipeline(num_inference_steps=4, output_type="pt").images.isfinite().all()
for name in ("ddpm", "ddim", "dpmsolver++", "unipc"):
    sample(name, "flow")
""",
}


def test_every_diff_is_used():
    assert SECTIONS.keys() == USES.keys()


@pytest.mark.parametrize("section", SECTIONS)
def test_diff_applies_and_works(section, tmp_path):
    clone, folder = tmp_path / "clone", tmp_path / "folder"
    folder.mkdir()
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    applied = subprocess.run(["git", "apply", "-"], cwd=clone, input=SECTIONS[section], capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr
    path = os.pathsep.join([str(clone / "src"), str(ROOT / "tests")])
    code = f"import synthset; assert synthset.__file__.startswith({str(clone)!r})\n" + USES[section]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
