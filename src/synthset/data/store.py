"""Decoded pairs as tensors."""

import os
from concurrent.futures import ThreadPoolExecutor

import datasets
import psutil
import torch
from torchvision import tv_tensors

from ..console import progress
from .scale import image_sizes
from .transforms import to_tv_tensors


def cache_limit() -> int:
    """Memory limit in bytes for the pairs of one dataset in one process: a quarter of the available memory, divided by
    the number of processes launched on this machine, and at most 4 GiB."""
    return min(2**32, psutil.virtual_memory().available // (4 * int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class PairTensors(torch.utils.data.Dataset):
    """Dataset of pairs as uint8 tv_tensors, for a `DataLoader`.

    Decoding a photo takes longer than cropping and resizing it, so all pairs are decoded once if they fit into
    `cache_bytes`, and otherwise at each access. `DataLoader` workers share the cache. Items are tuples of
    `tv_tensors.Image` (3, H, W) in 0..255 and `tv_tensors.Mask` (1, H, W) in {0, 1}.

    Args:
        pairs: dataset of `load_pairs`.
        cache_bytes: limit in bytes for the decoded pairs; [`cache_limit`] when not given.
    """

    def __init__(self, pairs: datasets.Dataset, cache_bytes: int | None = None):
        self.pairs = pairs
        self.cache = None
        limit = cache_limit() if cache_bytes is None else cache_bytes
        if sum(width * height * 4 for width, height in image_sizes(pairs)) <= limit:
            with ThreadPoolExecutor() as pool:
                options = {"total": len(pairs), "unit": "pair", "leave": False, "delay": 1}
                self.cache = list(progress(pool.map(self.decode, range(len(pairs))), "decoding pairs", **options))

    def __len__(self) -> int:
        return len(self.pairs)

    def decode(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Reads pair `index` from the dataset."""
        return to_tv_tensors(self.pairs[index])

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return self.decode(index) if self.cache is None else self.cache[index]
