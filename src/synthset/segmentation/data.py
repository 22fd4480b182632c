"""Data of segmenters: mixed and augmented training pairs, and whole test photos at the scale of the training data."""

import hashlib
import io
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors

from ..console import progress
from ..data import ObjectCropPair, PairTensors, SplitNotFoundError, load_pairs, recorded_crop_size, resize_pair
from ..data.dataset import is_raw_folder
from ..data.scale import scaled_size
from ..data.store import cache_limit
from ..errors import InputError
from ..random import keyed_generator
from .augmentation import AUGMENTATIONS

logger = logging.getLogger(__name__)

_ORDER, _AUGMENTATION = range(2)
IGNORED = 2  # in a mask to learn from: the pixel does not count


class PairSource:
    """Pairs of one dataset with the properties that are checked before training. Reads every pair once.

    Args:
        name: name for error messages, with its flag: `--dataset generated/field`.
        pairs: dataset of `load_pairs`.
        crop_size: side in pixels of the part of a photo that every image shows, if known.

    Attributes:
        crop_size: as given.
        tensors: the pairs as tensors.
        sizes: (height, width) of every pair in pixels.
        digests: SHA-256 of every image's pixels.
        ignored: PNG files of where masks don't count, from the column `ignore`, one of every pair; None without it.
        sha256: SHA-256 of all images and masks, and of what is ignored.
        has_objects: true if any mask has an object.

    Raises:
        InputError: there are no pairs, or one is invalid, such as a mask with classes other than 0 and 1 (or 255).
    """

    def __init__(self, name: str, pairs: datasets.Dataset, crop_size: int | None = None):
        if not len(pairs):
            raise InputError(f"{name} holds no pairs; add some or give another dataset")
        self.name, self.crop_size, self.tensors = name, crop_size, PairTensors(pairs)
        self.sizes: list[tuple[int, int]] = []
        self.digests: list[str] = []
        self.has_objects, whole = False, hashlib.sha256()
        self.ignored: list[bytes] | None = None
        if "ignore" in pairs.column_names:
            column = pairs.with_format(None).cast_column("ignore", datasets.Image(decode=False))["ignore"]
            self.ignored = [value["bytes"] or Path(value["path"]).read_bytes() for value in column]
        for index in progress(range(len(pairs)), "reading pairs", unit="pair", leave=False, delay=1):
            image, mask = self.tensors[index]
            self.sizes.append(tuple(image.shape[-2:]))
            self.digests.append(hashlib.sha256(repr(image.shape).encode() + image.numpy().tobytes()).hexdigest())
            self.has_objects |= bool(mask.any())
            whole.update(self.digests[-1].encode() + self.training_mask(index).numpy().tobytes())
        self.sha256 = whole.hexdigest()

    def __len__(self) -> int:
        return len(self.tensors)

    def training_mask(self, index: int) -> tv_tensors.Mask:
        """The mask of a pair, uint8 (1, H, W), with `IGNORED` where it does not count."""
        mask = self.tensors[index][1]
        if self.ignored is None:
            return mask
        with Image.open(io.BytesIO(self.ignored[index])) as region:
            ignored = torch.from_numpy(np.asarray(region.convert("L")) > 0)[None]
        if ignored.shape != mask.shape:
            raise InputError(
                f"{self.name}: ignore of pair {index} is {region.width} x {region.height} pixels, but its mask "
                f"{mask.shape[2]} x {mask.shape[1]}; make them alike"
            )
        return tv_tensors.Mask(torch.where(ignored, IGNORED, mask.as_subclass(torch.Tensor)))


def load_source(
    flag: str,
    source: str,
    splits: Sequence[str],
    image_column: str | None,
    mask_column: str | None,
    crop_size: int | None = None,
    max_samples: int = 0,
) -> PairSource:
    """Loads the first existing split of `splits` of `source`.

    Args:
        flag: flag of `source`, for error messages.
        source: as in `load_pairs`.
        image_column: image column of the user's own data, as in `load_pairs`. A dataset, other than a raw folder,
            without this column is read by `image`, the column of generated data.
        mask_column: mask column, likewise; `mask` in generated data.
        crop_size: side in pixels of the crops to train on. If `source` records its crop size, it must be the same. Not
            checked when not given.
        max_samples: number of pairs to keep, the first ones; 0 keeps all.

    Raises:
        InputError: as `load_pairs` and [`PairSource`], there are fewer pairs than `max_samples`, or objects are at
            another scale.
    """
    shown = recorded_crop_size(source)
    if shown is not None and crop_size not in (None, shown):
        raise InputError(
            f"{flag} {source} was made with --crop_size {shown}, but --crop_size is {crop_size}, so its objects would "
            f"be {crop_size / shown:.3g} times as large as in the test photos; give --crop_size {shown}, or pairs made "
            f"with --crop_size {crop_size}"
        )
    for split in splits:
        try:
            pairs = load_own_or_generated(source, split, image_column, mask_column)
            break
        except SplitNotFoundError:
            if split == splits[-1]:
                raise
    if max_samples:
        if max_samples > len(pairs):
            raise InputError(
                f"{flag} {source} holds {len(pairs)} pairs, but --max_train_samples is {max_samples} for it; lower "
                "that, or give more pairs"
            )
        pairs = pairs.select(range(max_samples))
    logger.info(f"{flag} {source}: {len(pairs)} pairs, split {split}")
    return PairSource(f"{flag} {source}", pairs, shown)


def load_own_or_generated(
    source: str, split: str, image_column: str | None, mask_column: str | None
) -> datasets.Dataset:
    """Calls `load_pairs` with the named columns, or with `image` and `mask` if a dataset lacks the named ones."""
    try:
        return load_pairs(source, split, image_column, mask_column)
    except InputError as error:
        folder = Path(source).expanduser()
        raw = folder.is_dir() and (is_raw_folder(folder) or is_raw_folder(folder, image_column))
        if isinstance(error, SplitNotFoundError) or raw or not (image_column or mask_column):
            raise
        logger.info(f"{error}; using image and mask")
    return load_pairs(source, split)


def check_stage(sources: Sequence[PairSource]) -> None:
    """Raises InputError if no training mask of a stage has an object."""
    if not any(source.has_objects for source in sources):
        raise InputError(
            f"{', '.join(source.name for source in sources)}: none of the {sum(map(len, sources))} masks has an "
            "object; give pairs with objects"
        )


def check_test(test: PairSource, training: Sequence[PairSource]) -> None:
    """Checks that `test` is valid for segmenters trained on `training`.

    Raises:
        InputError: `test` and `training` share an image with equal pixels, or no test mask has an object.
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
    """Training dataset whose indices are positions in an endless stream.

    An epoch is as long as all sources together. Without `mix`, it holds every pair once. With `mix`, pairs are drawn
    with replacement: from the first source with probability `mix`, else uniformly from all others. The pair at a
    position, its crop and its augmentation are functions of `key` and the position.

    Args:
        sources: datasets to draw from.
        resolution: side in pixels of the input of the network.
        crop_size: side in pixels of the random crop that is resized to `resolution`. The largest square is used for
            smaller images, and for images that are crops themselves, such as generated ones.
        key: non-negative integers, such as seed and stage.
        mix: share of pairs from the first source.
        augment: name in `AUGMENTATIONS`.
        object_share: share of crops that [`ObjectCropPair`] places, 0 to 1.

    Items are uint8 tensors: an image (3, R, R) in 0..255 and a mask (1, R, R) in {0, 1, IGNORED}.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        resolution: int,
        crop_size: int,
        key: tuple[int, ...],
        mix: float | None = None,
        augment: str = "flips",
        object_share: float = 0.0,
    ):
        self.sources, self.resolution, self.crop_size, self.key, self.mix = sources, resolution, crop_size, key, mix
        self.transform, self.object_share = AUGMENTATIONS[augment], object_share
        self.places = [(number, index) for number, source in enumerate(sources) for index in range(len(source))]

    def __len__(self) -> int:
        return len(self.places)

    def place(self, position: int) -> tuple[int, int]:
        """Returns the source of the pair at `position`, as its index in `sources`, and the index in this source."""
        epoch, i = divmod(position, len(self))
        return self.places[draw_order(self.key, epoch, tuple(map(len, self.sources)), self.mix)[i]]

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        number, index = self.place(position)
        source = self.sources[number]
        image, mask = source.tensors[index][0], source.training_mask(index)
        whole = min(image.shape[-2:])
        crop_size = min(self.crop_size, whole) if source.crop_size is None else whole
        transform = self.transform(self.resolution, crop_size)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(keyed_generator(*self.key, _AUGMENTATION, position).get_state())
            if self.object_share:
                image, mask = ObjectCropPair(crop_size, self.object_share)(image, mask)
            image, mask = transform(image, mask)
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


@lru_cache(maxsize=2)
def draw_order(key: tuple[int, ...], epoch: int, sizes: tuple[int, ...], mix: float | None) -> list[int]:
    """Draws the order of an epoch over sources of `sizes` pairs, numbered consecutively, see [`TrainingPairs`]."""
    generator = keyed_generator(*key, _ORDER, epoch)
    if mix is None:
        return torch.randperm(sum(sizes), generator=generator).tolist()
    first, others = sizes[0], sum(sizes[1:])
    weights = torch.tensor([mix / first] * first + [(1 - mix) / others] * others)
    return torch.multinomial(weights, len(weights), replacement=True, generator=generator).tolist()


class TestPhotos(Dataset):
    """Photos of a test set, resized by the factor `resolution / crop_size` to the scale of the training data (SynthSet,
    section 4, "External Evaluation": 512 -> 256).

    Resized photos are cached up to [`cache_limit`], because decoding and resizing takes longer than scoring.

    Args:
        source: the test set; no image has a side below `crop_size`.
        resolution: side in pixels of the input of the network.
        crop_size: side in pixels of the crops of photos that it corresponds to.

    Items are uint8 tensors: an image (3, H, W) in 0..255 and a mask (1, H, W) in {0, 1}, sizes by [`scaled_size`].

    Raises:
        InputError: no object is left after resizing.
    """

    __test__ = False  # pytest would collect the class by its name

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
