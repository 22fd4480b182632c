"""Pairs as a segmenter gets them: mixed, cropped and flipped to train on, whole photos at its scale to test on."""

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ..console import progress
from ..data import PairTensors, SplitNotFoundError, load_pairs, recorded_crop_size, resize_pair, train_transform
from ..data.dataset import cache_limit, raw_splits
from ..errors import InputError
from ..random import keyed_generator

logger = logging.getLogger(__name__)

_ORDER, _AUGMENTATION = range(2)


class PairSource:
    """The pairs of one dataset, and what must be known of them before training starts. Reads each of them once.

    Args:
        name: what the user calls it, with its flag, for messages: `--dataset generated/field`.
        pairs: what `load_pairs` returned.
        crop_size: side in pixels of the piece of a photo that every image shows, where that is known.

    Attributes:
        crop_size: as given.
        tensors: the pairs as tensors.
        sizes: (height, width) of every pair in pixels.
        digests: SHA-256 of every image's pixels.
        sha256: SHA-256 of all images and masks.
        has_objects: whether any mask has an object.

    Raises:
        InputError: there are no pairs, or one is unusable, such as a mask with other classes than 0 and 1 (or 255).
    """

    def __init__(self, name: str, pairs: datasets.Dataset, crop_size: int | None = None):
        if not len(pairs):
            raise InputError(f"{name} holds no pairs; add some or give another dataset")
        self.name, self.crop_size, self.tensors = name, crop_size, PairTensors(pairs)
        self.sizes: list[tuple[int, int]] = []
        self.digests: list[str] = []
        self.has_objects, whole = False, hashlib.sha256()
        for index in progress(range(len(pairs)), "reading pairs", unit="pair", leave=False, delay=1):
            image, mask = self.tensors[index]
            self.sizes.append(tuple(image.shape[-2:]))
            self.digests.append(hashlib.sha256(repr(image.shape).encode() + image.numpy().tobytes()).hexdigest())
            self.has_objects |= bool(mask.any())
            whole.update(self.digests[-1].encode() + mask.numpy().tobytes())
        self.sha256 = whole.hexdigest()

    def __len__(self) -> int:
        return len(self.tensors)


def load_source(
    flag: str,
    source: str,
    splits: Sequence[str],
    image_column: str | None,
    mask_column: str | None,
    crop_size: int | None = None,
) -> PairSource:
    """Loads the first of `splits` that `source` has.

    Args:
        flag: the one that gave `source`, for messages.
        source: as in `load_pairs`.
        image_column: the column of the user's own data, as in `load_pairs`. Generated data has `image`, whatever that
            is called: so a dataset, other than a raw folder, that lacks it is read by this name.
        mask_column: the same for the masks, and `mask`.
        crop_size: side in pixels of the pieces of photos to be trained on, which `source` must show if it records what
            it shows; any when not given.

    Raises:
        InputError: as `load_pairs` and [`PairSource`] do, and if objects are at another scale.
    """
    shown = recorded_crop_size(source)
    if shown is not None and crop_size not in (None, shown):
        raise InputError(
            f"{flag} {source} shows pieces of {shown} px of its photos, but --crop_size is {crop_size}, so its objects "
            f"would be {crop_size / shown:.3g} times as large as in the test photos; give --crop_size {shown}, or "
            f"pairs made with --crop_size {crop_size}"
        )
    for split in splits:
        try:
            pairs = load_own_or_generated(source, split, image_column, mask_column)
            break
        except SplitNotFoundError:
            if split == splits[-1]:
                raise
    logger.info(f"{flag} {source}: {len(pairs)} pairs, split {split}")
    return PairSource(f"{flag} {source}", pairs, shown)


def load_own_or_generated(
    source: str, split: str, image_column: str | None, mask_column: str | None
) -> datasets.Dataset:
    """`load_pairs` with the named columns, or if there are none such in a dataset, with `image` and `mask`."""
    try:
        return load_pairs(source, split, image_column, mask_column)
    except InputError as error:
        folder = Path(source).expanduser()
        raw = folder.is_dir() and (raw_splits(folder) or raw_splits(folder, image_column))
        if isinstance(error, SplitNotFoundError) or raw or not (image_column or mask_column):
            raise
        logger.info(f"{error}; taking image and mask")
    return load_pairs(source, split)


def check_stage(sources: Sequence[PairSource]) -> None:
    """Raises InputError if none of the masks that a stage trains on has an object."""
    if not any(source.has_objects for source in sources):
        raise InputError(
            f"{', '.join(source.name for source in sources)}: none of the {sum(map(len, sources))} masks has an "
            "object, so there is nothing to learn; give pairs with objects"
        )


def check_test(test: PairSource, training: Sequence[PairSource]) -> None:
    """Checks that `test` can tell how good a segmenter trained on `training` is.

    Raises:
        InputError: an image of `test` is among those trained on, pixel by pixel, or no test mask has an object.
    """
    if not test.has_objects:
        raise InputError(f"{test.name}: none of the {len(test)} masks has an object; give a test set with objects")
    for source in training:
        known = {digest: index for index, digest in enumerate(source.digests)}
        same = [(index, known[digest]) for index, digest in enumerate(test.digests) if digest in known]
        if same:
            raise InputError(
                f"{test.name}: {len(same)} of {len(test)} test images are also in {source.name} (number {same[0][0]} "
                f"is number {same[0][1]} there, counted from 0); remove them from one of the two"
            )


class TrainingPairs(Dataset):
    """Maps a position of the endless training stream to a pair.

    A pass over the stream is as long as all sources together. Without `mix` it holds every pair once. With it, pairs
    are drawn with replacement: from the first source with probability `mix`, else from all others alike. Which pair
    stands at a position, its crop and its flips are functions of `key` and the position.

    Args:
        sources: where the pairs come from.
        resolution: side in pixels of what the network gets.
        crop_size: side in pixels of the random crop that is resized to `resolution`. Of a smaller image, and of one
            that is known to be a crop itself, such as a generated one, the largest square.
        key: non-negative integers, such as a seed and a stage.
        mix: share of the first source.

    Items are uint8 tensors: an image (3, R, R) in 0..255 and a mask (1, R, R) in {0, 1}.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        resolution: int,
        crop_size: int,
        key: tuple[int, ...],
        mix: float | None = None,
    ):
        self.sources, self.resolution, self.crop_size, self.key, self.mix = sources, resolution, crop_size, key, mix
        self.places = [(number, index) for number, source in enumerate(sources) for index in range(len(source))]

    def __len__(self) -> int:
        return len(self.places)

    def place(self, position: int) -> tuple[int, int]:
        """The number of the source and the index in it of the pair at `position`."""
        epoch, i = divmod(position, len(self))
        return self.places[draw_order(self.key, epoch, tuple(map(len, self.sources)), self.mix)[i]]

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        number, index = self.place(position)
        source = self.sources[number]
        image, mask = source.tensors[index]
        whole = min(image.shape[-2:])
        transform = train_transform(self.resolution, min(self.crop_size, whole) if source.crop_size is None else whole)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(keyed_generator(*self.key, _AUGMENTATION, position).get_state())
            image, mask = transform(image, mask)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


@lru_cache(maxsize=2)
def draw_order(key: tuple[int, ...], epoch: int, sizes: tuple[int, ...], mix: float | None) -> list[int]:
    """The order of pass `epoch` over sources of `sizes` pairs, counted through: see [`TrainingPairs`]."""
    generator = keyed_generator(*key, _ORDER, epoch)
    if mix is None:
        return torch.randperm(sum(sizes), generator=generator).tolist()
    first, others = sizes[0], sum(sizes[1:])
    weights = torch.tensor([mix / first] * first + [(1 - mix) / others] * others)
    return torch.multinomial(weights, len(weights), replacement=True, generator=generator).tolist()


def tile_boxes(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """(top, left) of the fewest squares of `size` pixels a side that cover an image, evenly spread; they overlap where
    the image is no multiple of `size`. Of a 1024 x 1024 image with 512: its four quarters."""
    tops, lefts = (
        np.linspace(0, side - size, -(-side // size)).round().astype(int).tolist() for side in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]


def scaled_size(height: int, width: int, resolution: int, crop_size: int) -> tuple[int, int]:
    """Height and width of an image after it is resized so that `crop_size` pixels become `resolution`."""
    return round(height * resolution / crop_size), round(width * resolution / crop_size)


class TestPhotos(Dataset):
    """The photos of a test set at a segmenter's scale, where `crop_size` pixels are `resolution` (SynthSet, section 4,
    "External Evaluation": 512 -> 256).

    Photos at this scale are kept in memory, as many as fit into [`cache_limit`]: decoding and resizing one takes longer
    than scoring it.

    Args:
        source: the test set; no image has a side below `crop_size`.
        resolution: side in pixels of what the network gets.
        crop_size: side in pixels of what of a photo that is.

    Items are uint8 tensors: an image (3, H, W) in 0..255 and a mask (1, H, W) in {0, 1}, sizes by [`scaled_size`].

    Raises:
        InputError: the objects are so small that none is left.
    """

    __test__ = False  # for pytest, which takes every class called Test... for one of its own

    def __init__(self, source: PairSource, resolution: int, crop_size: int):
        self.source, self.resolution, self.crop_size = source, resolution, crop_size
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.room = cache_limit()
        if not any(self[index][1].any() for index in range(len(self))):
            raise InputError(
                f"{source.name}: no object is left when {crop_size} px become {resolution} px; raise --resolution or "
                "lower --crop_size"
            )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index not in self.kept:
            image, mask = self.source.tensors[index]
            height, width = image.shape[-2:]
            size = scaled_size(height, width, self.resolution, self.crop_size)
            image, mask = (x.as_subclass(torch.Tensor) for x in resize_pair(image, mask, size))
            num_bytes = image.nbytes + mask.nbytes
            if num_bytes > self.room:
                return image, mask
            self.kept[index], self.room = (image, mask), self.room - num_bytes
        return self.kept[index]
