"""`train_paired.py --joint_share`, in this process."""

import json

import numpy as np
import pytest
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import write_raw_folder
from testing_utils.runs import same, weights

from synthset import SynthSetPipeline, make_scheduler
from synthset.errors import InputError
from synthset.evaluation.metrics import dice

SHARES = {"joint_share": 0.5, "independent_share": 0.2}
FLAGS = {"variant": "concat", "num_validation_images": 1, "num_divergence_images": 0, "report_to": [], **SHARES}


def train(data, folder, **changes):
    script = runs.load_script("train_paired.py")
    script.main(
        script.PairedArguments(**{**runs.TINY, **FLAGS, **changes, "dataset": str(data), "output_dir": str(folder)})
    )


def measured(folder, name):
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


def test_a_resumed_run_is_the_uninterrupted_one(data, tmp_path):
    """To the bit; three losses are measured, and the shares stay the same."""
    train(data, tmp_path / "straight", max_train_steps=2, checkpointing_steps=1)
    train(data, tmp_path / "resumed", max_train_steps=1, checkpointing_steps=1)
    train(data, tmp_path / "resumed", max_train_steps=2, checkpointing_steps=1)
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert same(straight, resumed) and straight["other_time_embedding.linear_2.weight"].any()
    for name in ("validation_loss", "validation_loss_image_given", "validation_loss_mask_given"):
        assert len(measured(tmp_path / "straight", name)) == 1
        assert measured(tmp_path / "straight", name) == measured(tmp_path / "resumed", name)[-1:]
    with pytest.raises(InputError, match=r"joint_share 0.5 \(now 1.0\).*another --output_dir"):
        train(data, tmp_path / "resumed", max_train_steps=3, joint_share=1.0, independent_share=0.0, new_leg=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"joint_share": 0.0}, "--joint_share is 0.0; give a number above 0"),
        ({"joint_share": 0.9}, "--joint_share is 0.9 and --independent_share 0.2, together more than 1"),
        ({"gan_weight": 0.25}, "--gan_weight is 0.25 and --joint_share 0.5, and the discriminator judges pairs"),
    ],
)
def test_refuses(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        train(tmp_path, tmp_path / "run", **changes)


@pytest.mark.slow
def test_learns_to_draw_masks_of_images_and_images_for_masks(tmp_path):
    """Of bright disks on dark ground, and of pairs of both, from one network."""
    rng = np.random.default_rng(0)
    rows, (y, x) = [], np.mgrid[:32, :32]
    for _ in range(64):
        (top, left), radius = rng.uniform(4, 28, 2), rng.uniform(4, 9)
        disk = (y - top) ** 2 + (x - left) ** 2 < radius**2
        ground = rng.normal(60, 15, (32, 32, 3)) + disk[..., None] * np.array([120, 100, 20])
        rows.append(
            {
                "image": Image.fromarray(ground.clip(0, 255).astype(np.uint8)),
                "mask": Image.fromarray(disk.astype(np.uint8)),
            }
        )
    data = write_raw_folder(tmp_path / "data", rows[:48])
    recipe = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "lr_scheduler": "cosine"}
    train(
        data,
        tmp_path / "run",
        **recipe,
        **{"resolution": 32, "crop_size": 32, "patch_size": 2, "block_out_channels": [16, 32], "input_skip": True},
        **{"max_train_steps": 800, "batch_size": 16, "learning_rate": 2e-3, "checkpointing_steps": 400},
    )
    pipeline = SynthSetPipeline.from_pretrained(tmp_path / "run")
    pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, 20)
    pipeline.set_progress_bar_config(disable=True)
    images, masks = [row["image"] for row in rows[48:]], [row["mask"] for row in rows[48:]]

    drawn = pipeline(images=images, num_draws=3, num_inference_steps=20)
    scores = [dice(vote, np.asarray(mask)) for vote, mask in zip(drawn.votes.mask, masks, strict=True)]
    assert np.mean(scores) > 0.85

    def contrast(pairs):
        """How much brighter the object is than the ground, of pairs that have both."""
        found = [(np.asarray(i)[..., 0], np.asarray(m) > 0) for i, m in zip(pairs.images, pairs.masks, strict=True)]
        return np.mean([red[on].mean() - red[~on].mean() for red, on in found if 0 < on.mean() < 1])

    assert contrast(pipeline(masks=masks, num_inference_steps=20)) > 60
    assert contrast(pipeline(batch_size=16, num_inference_steps=20)) > 60
