"""Rows of a rendered dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.writer import pair_features, write_pairs_shard
from ..registry import SCENES

FEATURES = pair_features(scene="string", scene_seed="int64", coverage="float32")
COLUMNS = {
    "scene": "what was rendered",
    "scene_seed": "seed of the scene: `synthset.registry.SCENES[scene](scene_seed, size)` renders the pair",
    "coverage": "share of object pixels in the mask, 0 to 1",
}
SEEDS_APART = 10**9  # of datasets with successive seeds; those of `demo` are far below


@dataclass(frozen=True)
class Renderer:
    """Maps a pair's number to its row; `scenes` take turns."""

    scenes: Sequence[str]
    resolution: int
    seed: int

    def __call__(self, number: int) -> dict:
        scene, scene_seed = self.scenes[number % len(self.scenes)], (self.seed + 1) * SEEDS_APART + number
        image, mask = SCENES[scene](scene_seed, self.resolution)
        coverage = float(np.mean(np.asarray(mask)))
        return {"image": image, "mask": mask, "scene": scene, "scene_seed": scene_seed, "coverage": coverage}

    def write_shard(self, path: Path, numbers: range) -> int:
        """Writes the pairs `numbers` as a parquet file; returns their number."""
        return write_pairs_shard(path, map(self, numbers), FEATURES)
