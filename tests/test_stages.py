import json

import datasets
import numpy as np
import pytest
from diffusers import DDPMScheduler, DiffusionPipeline
from PIL import Image

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetPipelineOutput, SynthSetSRPipeline
from synthset.data import export_imagefolder, pair_features, write_pairs_shard
from synthset.errors import InputError
from synthset.pipelines.schedulers import make_scheduler
from synthset.registry import SCHEDULERS
from synthset.stages import COLUMNS, check_guidance, check_stages, consistency, draw_rows


def flat_row(gray, low_res_gray, object_width):
    """A pair of 8 x 8 pixels, gray, with an object at the left, enlarged from 4 x 4 that are all object."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :object_width] = 255
    return {
        "image": Image.new("RGB", (8, 8), (gray,) * 3),
        "mask": Image.fromarray(mask),
        "low_res_image": Image.new("RGB", (4, 4), (low_res_gray,) * 3),
        "low_res_mask": Image.new("L", (4, 4), 255),
    }


@pytest.mark.parametrize(
    ("row", "psnr", "dice", "consistent"),
    [
        (flat_row(100, 100, 8), 100, 1, True),  # equal
        (flat_row(110, 100, 8), 28.1308, 1, True),  # 20 log10(255 / 10)
        (flat_row(151, 100, 8), 13.9794, 1, False),  # 20 log10(5)
        (flat_row(100, 100, 6), 100, 6 / 7, True),  # 12 of 16 pixels: 2 * 12 / (12 + 16)
        (flat_row(100, 100, 4), 100, 2 / 3, False),  # 8: 2 * 8 / (8 + 16)
    ],
)
def test_consistency(row, psnr, dice, consistent):
    found = consistency(row, min_psnr=20, min_dice=0.8)
    assert found["consistency_psnr"] == pytest.approx(psnr, abs=1e-4)
    assert found["consistency_dice"] == pytest.approx(dice)
    assert found["consistent"] is consistent


def test_equal_pairs_survive_parquet_and_json(tmp_path):
    row = flat_row(100, 100, 8)
    row |= consistency(row, min_psnr=20, min_dice=0.8)
    dtypes = {name: dtype for name, (flag, dtype, _) in COLUMNS.items() if flag == "consistency"}
    shard = tmp_path / "shards" / "train-00000-of-00001.parquet"
    write_pairs_shard(shard, [row], pair_features(**dtypes))
    export_imagefolder([shard], tmp_path / "folder")
    for folder in ("shards", "folder"):
        stored = datasets.load_dataset(str(tmp_path / folder), split="train")[0]
        assert (stored["consistency_psnr"], stored["consistency_dice"], stored["consistent"]) == (100, 1, True)
    line = (tmp_path / "folder" / "metadata.jsonl").read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def saved_stages(folder, crop_size, sr_crop_size):
    """Two tiny stages as they are after saving and loading, the crops that they were trained on given."""
    widths = {"block_out_channels": (8, 16), "layers_per_block": 1, "attention_head_dim": 8}
    small = PairedUNet2DModel(sample_size=16, **widths)
    large = PairedUNet2DModel(sample_size=32, condition_channels=4, variant="concat", **widths)
    SynthSetPipeline(small, DDPMScheduler(), crop_size=crop_size).save_pretrained(folder / "small")
    SynthSetSRPipeline(large, DDPMScheduler(), crop_size=sr_crop_size).save_pretrained(folder / "large")
    return [DiffusionPipeline.from_pretrained(folder / name) for name in ("small", "large")]


def test_stages_of_other_scales_are_refused(tmp_path):
    stages = saved_stages(tmp_path, 512, 256)
    assert [stage.config.crop_size for stage in stages] == [512, 256]
    with pytest.raises(InputError, match="--model was trained on crops of 512 .* --sr_model on crops of 256; give"):
        check_stages(*stages, noise_level=0)


@pytest.mark.parametrize("crop_sizes", [(256, 256), (None, 256), (None, None)])
def test_stages_of_one_scale_or_of_an_unknown_one_go_together(tmp_path, crop_sizes):
    check_stages(*saved_stages(tmp_path, *crop_sizes), noise_level=0)
    for name in ("small", "large"):  # a model of an earlier version says nothing of its crop
        index = tmp_path / name / "model_index.json"
        index.write_text(json.dumps({k: v for k, v in json.loads(index.read_text()).items() if k != "crop_size"}))
    stages = [DiffusionPipeline.from_pretrained(tmp_path / name) for name in ("small", "large")]
    assert [stage.config.crop_size for stage in stages] == [None, None]
    check_stages(*stages, noise_level=0)


def small_pipeline(crop_size=24, scheduler=None, **config):
    config = {"sample_size": 8, "block_out_channels": (8, 8), "layers_per_block": 1, "attention_head_dim": 8} | config
    pipeline = SynthSetPipeline(PairedUNet2DModel(**config), scheduler or DDPMScheduler(), crop_size)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("guide", "found"),
    [
        ({"sample_size": 16}, "sample_size 16 (--model: 8)"),
        ({"image_channels": 4}, "image_channels 4 (--model: 3)"),
        ({"crop_size": 32}, "crop_size 32 (--model: 24)"),
        (
            {"scheduler": DDPMScheduler(1000, beta_schedule="scaled_linear", prediction_type="sample")},
            "beta_schedule scaled_linear (--model: linear), prediction_type sample (--model: epsilon)",
        ),
    ],
)
def test_a_guide_for_other_pairs_is_refused(guide, found):
    with pytest.raises(InputError) as error:
        check_guidance(small_pipeline(), small_pipeline(**guide))
    assert str(error.value) == (
        f"--guidance_model was trained with {found}; give an earlier checkpoint of --model's run"
    )


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_guide_may_be_smaller_and_the_sampler_another(sampler):
    pipeline, guide = small_pipeline(), small_pipeline(None, block_out_channels=(8,), augment_dim=9)
    pipeline.scheduler = make_scheduler(sampler, pipeline.scheduler.config, 10)
    check_guidance(pipeline, guide)


def test_masks_are_smoothed_by_the_majority_of_nine():
    """Lone pixels and holes go, edges stay; at the border those of the nine count that are there."""
    drawn = ["........", ".#......", "........", "...#####", "...#####", "...##.##", "...#####", "...#####"]
    smooth = [*["........"] * 3, "....####", *["...#####"] * 4]  # at the corner of the square, 4 of 9

    def picture(rows):
        return np.array([[255 * (pixel == "#") for pixel in row] for row in rows], np.uint8)

    class Drawing:
        def __call__(self, **arguments):
            assert arguments["guidance_scale"] == 2
            masks = [Image.fromarray(picture(drawn))]
            return SynthSetPipelineOutput(images=[Image.new("RGB", (8, 8))], masks=masks)

    for mask_filter, expected in ((None, drawn), ("majority", smooth)):
        (row,) = draw_rows(Drawing(), 0, [3], 1, lambda: None, mask_filter, guidance_scale=2)
        np.testing.assert_array_equal(row["mask"], picture(expected))
        assert row["coverage"] == pytest.approx((picture(expected) > 0).mean())
