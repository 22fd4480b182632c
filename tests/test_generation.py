import json

import datasets
import numpy as np
import pytest
from PIL import Image

from synthset.data import export_imagefolder, pair_features, write_pairs_shard
from synthset.generation import COLUMNS, consistency


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
