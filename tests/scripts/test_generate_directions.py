"""`generate_dataset.py --refine_masks` and `--masks_from`, in this process."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset import PairedUNet2DModel, SynthSetPipeline, keyed_generator
from synthset.arguments import GenerateArguments
from synthset.cli import parse_arguments
from synthset.data import load_pairs
from synthset.data.warped_masks import WarpedMasks
from synthset.errors import InputError
from synthset.evaluation.metrics import dice

SIDE = 16


def save_model(folder, mask_timestep=True):
    torch.manual_seed(0)
    config = {"block_out_channels": [8], "layers_per_block": 1, "attention_head_dim": 8}
    unet = PairedUNet2DModel(SIDE, mask_timestep=mask_timestep, **config)
    SynthSetPipeline(unet, DDPMScheduler(), 24).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def generate(tmp_path_factory):
    script, model = runs.load_script("generate_dataset.py"), save_model(tmp_path_factory.mktemp("model"))

    def run(output_dir, **changes):
        settings = {"num_samples": 5, "num_inference_steps": 3, "scheduler": "dpmsolver++", "batch_size": 4, "seed": 7}
        settings["mixed_precision"] = "no"  # as the pipeline below computes
        flags = {"model": model, "output_dir": output_dir, **settings, **changes}
        script.main(parse_arguments(script.GenerateArguments, [f"--{name}={value}" for name, value in flags.items()]))
        return load_pairs(str(output_dir)), json.loads((output_dir / "generation.json").read_text())

    return run


def test_refined_masks_are_votes_of_masks_drawn_for_the_stored_image(generate, tmp_path):
    plain, settings = generate(tmp_path / "plain")
    assert not [name for name in settings if "mask" in name or "refine" in name]
    refined, settings = generate(tmp_path / "refined", refine_masks=3, refine_num_inference_steps=2)
    assert settings["refine_masks"] == 3 and settings["refine_num_inference_steps"] == 2
    pipeline = SynthSetPipeline.from_pretrained(settings["model"])
    pipeline.scheduler = runs.load_script("generate_dataset.py").make_scheduler(
        "dpmsolver++", pipeline.scheduler.config, 3
    )
    for before, row in zip(plain, refined, strict=True):
        assert np.array_equal(row["image"], before["image"])
        assert np.array_equal(np.asarray(row["first_mask"]), np.asarray(before["mask"]) * 255)
        generators = [keyed_generator(7, row["number"], 2, k) for k in range(3)]
        votes = pipeline(images=row["image"], num_draws=3, num_inference_steps=2, generator=generators).votes
        assert np.array_equal(row["mask"], votes.mask[0])
        assert row["agreement"] == pytest.approx(dice(np.asarray(row["first_mask"]), np.asarray(row["mask"])))
        assert row["coverage"] == pytest.approx(np.mean(row["mask"]))
    assert "each mask the vote of 3" in (tmp_path / "refined" / "README.md").read_text()


def test_images_are_drawn_for_warped_masks(generate, tmp_path):
    data = write_raw_folder(tmp_path / "real", random_pairs(4, (40, 32)))
    flags = {"masks_from": data, "condition_scale": 2.0}
    pairs, settings = generate(tmp_path / "drawn", **flags)
    assert len(settings["masks_from_sha256"]) == 64 and settings["condition_scale"] == 2
    assert all(set(row["mask_source"].split("+")) <= set("0123") for row in pairs)
    assert len({row["mask"].tobytes() for row in pairs}) == 5
    more, _ = generate(tmp_path / "drawn", **flags, num_samples=7)
    assert all(np.array_equal(a["mask"], b["mask"]) for a, b in zip(pairs, more, strict=False))
    assert "drawn for warped masks of" in (tmp_path / "drawn" / "README.md").read_text()


def test_masks_of_generated_pairs_are_whole_crops(generate, tmp_path):
    generate(tmp_path / "plain")
    pairs, _ = generate(tmp_path / "again", masks_from=tmp_path / "plain")
    assert len(pairs) == 5 and pairs[0]["mask"].size == (SIDE, SIDE)


def test_warped_masks_keep_objects():
    """A disk stays about as large; it is somewhere else, bent, and often there are two."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disk = (((y - 30) ** 2 + (x - 34) ** 2) < 81).to(torch.uint8)[None]
    pairs = [(torch.zeros(3, 64, 64, dtype=torch.uint8), disk)] * 3
    masks = WarpedMasks(pairs, 32, 64, seed=0)
    drawn = [masks(number) for number in range(60)]
    assert all((np.asarray(masks(n)[0]) == np.asarray(drawn[n][0])).all() for n in (3, 40))
    one = [(np.asarray(mask) > 0).mean() for mask, source in drawn if "+" not in source]
    two = [(np.asarray(mask) > 0).mean() for mask, source in drawn if "+" in source]
    real = disk.float().mean().item()
    assert 35 < len(one) < 55 and 0.6 * real < np.mean(one) < 1.5 * real and np.mean(two) > 1.3 * np.mean(one)
    assert {int(value) for mask, _ in drawn for value in np.unique(mask)} == {0, 255}


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"masks_split": "validation"}, "--masks_split is validation, which means nothing without --masks_from"),
        ({"condition_scale": 2.0}, "--condition_scale is 2.0, which means nothing without --masks_from"),
        ({"refine_masks": 0}, "--refine_masks is 0; give 1 or more"),
    ],
)
def test_refuses_flags(flags, message):
    with pytest.raises(InputError, match=message):
        GenerateArguments(model="none", output_dir="none", **flags)


def test_refuses_models_and_masks_that_do_not_fit(generate, tmp_path):
    joint = save_model(tmp_path / "joint", mask_timestep=False)
    for flags in ({"refine_masks": 2}, {"masks_from": "demo"}):
        with pytest.raises(InputError, match=r"--model .* was trained to draw pairs alone; train it with"):
            generate(tmp_path / "none", model=joint, **flags)
    with pytest.raises(InputError, match="--guidance_model is .*joint, which was trained to draw pairs alone"):
        generate(tmp_path / "none", masks_from="demo", guidance_model=joint)
    small = write_raw_folder(tmp_path / "small", random_pairs(2, (20, 20)))
    with pytest.raises(InputError, match=r"small shows 20 pixels of photos, but --model was trained on crops of 24"):
        generate(tmp_path / "none", masks_from=small)
    assert not (tmp_path / "none").exists()
