"""Streaming of pairs from the Hub, for datasets larger than the disk."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import datasets
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..errors import InputError
from ..sources.decoding import decode_pair
from .dataset import load_or_explain, pick_split, undecoded_pairs
from .scale import PAPER_CROP_SIZE
from .transforms import to_tv_tensors

BUFFER_SIZE = 1000  # undecoded pairs in the shuffle buffer, the default of datasets
MAX_VALIDATION = 256  # pairs that validation uses


class StreamedPairs(Dataset):
    """Streamed dataset as an endless sequence of pairs, shuffled anew in every epoch.

    The order of an epoch is a function of the seed and the epoch: files are shuffled (unless some pairs are held out),
    and pairs are shuffled within a buffer of `BUFFER_SIZE`. Sequential reading is fast. For another position, as in a
    resumed run, the epoch is read again from its beginning without decoding. A run thus resumes exactly where it
    stopped and reads at most one epoch twice, if the dataset and the version of `datasets` have not changed.

    Args:
        source: name of the dataset for error messages.
        rows: undecoded pairs.
        num_pairs: number of pairs.
        seed: non-negative.

    Items are as in `PairTensors`. Their index is the position in the stream, from 0 without end.
    """

    def __init__(self, source: str, rows: datasets.IterableDataset, num_pairs: int, seed: int):
        self.source, self.num_pairs, self.stored = source, num_pairs, rows
        self.rows = rows.shuffle(seed=seed, buffer_size=BUFFER_SIZE)
        self.smallest_side = 0  # of images in pixels; smaller ones are refused
        self.epoch, self.next = -1, 0
        self.iterator: Iterator[dict] = iter(())

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, position: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        epoch, i = divmod(position, self.num_pairs)
        if epoch != self.epoch or i < self.next:
            self.rows.set_epoch(epoch)
            self.epoch, self.next, self.iterator = epoch, 0, read(self.rows, self.source)
        row = next(islice(self.iterator, i - self.next, None), None)
        self.next = i + 1
        if row is None:
            raise InputError(
                f"{self.source} ends after {i} pairs, but its card says {self.num_pairs}; push it again with "
                "synthset push"
            )
        return self.decode(row, f"pair {i} of epoch {epoch} of {self.source}")

    def first(self, count: int) -> Iterator[tuple[tv_tensors.Image, tv_tensors.Mask]]:
        """Yields the first `count` pairs as stored, or all if there are fewer. The position of the stream is kept."""
        for i, row in enumerate(read(self.stored.take(count), self.source)):
            yield self.decode(row, f"pair {i} of {self.source}")

    def decode(self, row: dict, name: str) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Decodes a row into tensors; `name` identifies it in error messages."""
        image, mask = decode_row(row, name)
        if min(image.shape[1:]) < self.smallest_side:
            raise InputError(
                f"{name} is {image.shape[2]} x {image.shape[1]} pixels, smaller than --crop_size {self.smallest_side}; "
                "lower it in a new --output_dir"
            )
        return image, mask


def decode_row(row: dict, name: str) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Decodes an undecoded row into tensors, see `to_tv_tensors`; `name` identifies it in error messages."""
    return to_tv_tensors(decode_pair(row, name=lambda column: f"the {column} of {name}"))


def read(rows: Iterable[dict], source: str) -> Iterator[dict]:
    """Yields `rows` from the Hub; connection errors, after the retries of the clients, become an `InputError`."""
    try:
        yield from rows
    except Exception as error:  # of the Hub's client, of datasets, and of two HTTP libraries
        raise InputError(
            f"reading {source} failed ({type(error).__name__}: {' '.join(str(error).split())}); run the same command "
            "again to continue from the last checkpoint"
        ) from error


class StreamedSplits(NamedTuple):
    """Training pairs and center-cropped validation pairs of a streamed dataset."""

    train: StreamedPairs
    validation: list[tuple[tv_tensors.Image, tv_tensors.Mask]]


def stream_train_validation(
    source: str,
    image_column: str | None,
    mask_column: str | None,
    validation_fraction: float,
    seed: int,
    crop_size: int | None = None,
) -> StreamedSplits:
    """Opens a dataset without storing it.

    Validation pairs are the first of the split `validation`, at most `MAX_VALIDATION`. Without such a split, they are
    the first `validation_fraction` of `train`, at most `MAX_VALIDATION`, which are excluded from training. They are
    decoded once, and only the center crop that validation uses is kept: 256 photos of 12 megapixels would take 12 GB.

    Args:
        source: id of a dataset on the Hub, or a folder of parquet files.
        image_column: as in `load_train_validation`.
        mask_column: as in `load_train_validation`.
        validation_fraction: as in `load_train_validation`.
        seed: seed of the shuffling.
        crop_size: side of the center crop in pixels; the largest that [`choose_crop_size`] would choose when not given.
            Smaller sides are kept whole.

    Raises:
        InputError: the dataset, split or column does not exist, the card does not give the number of pairs, or a
            validation pair is invalid.
    """

    def load(name: str) -> datasets.IterableDatasetDict:
        return datasets.load_dataset(name, streaming=True)

    splits = load_or_explain(load, source, "--streaming is for datasets on the Hub, and this one can't be opened")
    train = undecoded_pairs(pick_split(splits, "train", source), source, image_column, mask_column)
    info = train.info.splits
    if not info or not info["train"].num_examples:
        raise InputError(
            f"{source} does not say in its card how many pairs the split train has (dataset_info), which --streaming "
            "needs; leave --streaming out, or push it again with synthset push"
        )
    num_pairs, held_out = info["train"].num_examples, 0
    if "validation" in splits:
        rows = undecoded_pairs(splits["validation"], source, image_column, mask_column).take(MAX_VALIDATION)
    else:
        held_out = min(MAX_VALIDATION, math.ceil(validation_fraction * num_pairs))
        if held_out == num_pairs:
            raise InputError(f"{source} has {num_pairs} pairs, which leaves none for training; add pairs")
        rows, train = train.take(held_out), train.skip(held_out)
    validation = []
    for i, row in enumerate(read(rows, source)):
        image, mask = decode_row(row, f"validation pair {i} of {source}")
        center = v2.CenterCrop([min(side, crop_size or PAPER_CROP_SIZE) for side in image.shape[1:]])
        validation.append(tuple(x.clone() for x in center(image, mask)))  # a view would keep the whole photo in memory
    return StreamedSplits(StreamedPairs(source, train, num_pairs - held_out, seed), validation)
