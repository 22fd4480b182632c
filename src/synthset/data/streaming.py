"""Pairs read over the network as they are needed, for datasets larger than the disk."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import datasets
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from ..errors import InputError
from .dataset import PAPER_CROP_SIZE, load_or_explain, pick_split, undecoded_pairs
from .folder import decode_pair
from .transforms import to_tv_tensors

BUFFER_SIZE = 1000  # undecoded pairs in memory, datasets' own choice
MAX_VALIDATION = 256  # as many as validation looks at


class StreamedPairs(Dataset):
    """A streamed dataset as an endless sequence of pairs, every pass over it in another order.

    The order of a pass follows from the seed and the pass: the files are shuffled (unless some pairs are held out), and
    the pairs within a window of `BUFFER_SIZE`. Reading on is cheap. To go elsewhere, as a resumed run does, a pass is
    read again from its beginning, undecoded, up to the place: so a run resumes exactly where it was, and reads at most
    one pass over the dataset twice for it. That holds as long as the dataset and the version of `datasets` stay the
    same.

    Args:
        source: what the user calls the dataset, for messages.
        rows: undecoded pairs.
        num_pairs: how many they are.
        seed: non-negative.

    Items are as in `PairTensors`. Their place is the one in the stream, 0 and up without end.
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
                f"{self.source} ends after {i} pairs, but its card promises {self.num_pairs}; push it again with "
                "scripts/push_to_hub.py"
            )
        return self.decode(row, f"pair {i} of pass {epoch} over {self.source}")

    def first(self, count: int) -> Iterator[tuple[tv_tensors.Image, tv_tensors.Mask]]:
        """The first `count` pairs as they are stored, or all where there are fewer. The stream stays where it is."""
        for i, row in enumerate(read(self.stored.take(count), self.source)):
            yield self.decode(row, f"pair {i} of {self.source}")

    def decode(self, row: dict, name: str) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """An undecoded row as tensors; `name` is what an error calls it."""
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
    """`rows` from the Hub, with one line for what befalls the connection, after the clients have tried for long."""
    try:
        yield from rows
    except Exception as error:  # of the Hub's client, of datasets, and of two HTTP libraries
        raise InputError(
            f"{source} can't be read on ({type(error).__name__}: {' '.join(str(error).split())}); the checkpoints are "
            "unharmed: run the same command again to continue from the last"
        ) from error


class StreamedSplits(NamedTuple):
    """Training and validation pairs of a streamed dataset; of photos to validate on, their centers."""

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

    Validation pairs are the first of the split `validation`, `MAX_VALIDATION` at most. Where there is no such split,
    they are the first `validation_fraction` of `train`, as many at most, which training leaves out. They are decoded
    once, here, and of each the central square that validation looks at is kept: 256 photos of 12 million pixels would
    take 12 GB.

    Args:
        source: the id of a dataset on the Hub, or a folder of parquet files.
        image_column: as in `load_train_validation`.
        mask_column: as in `load_train_validation`.
        validation_fraction: as in `load_train_validation`.
        seed: decides the order.
        crop_size: side of that square in pixels; the largest that [`choose_crop_size`] would choose when not given.
            Photos with a smaller side keep all of it.

    Raises:
        InputError: there is no such dataset, split or column, its card does not say how many pairs it has, or one of
            the validation pairs is unusable.
    """

    def load(name: str) -> datasets.IterableDatasetDict:
        return datasets.load_dataset(name, streaming=True)

    splits = load_or_explain(load, source, "--streaming is for datasets on the Hub, and this can't be opened")
    train = undecoded_pairs(pick_split(splits, "train", source), source, image_column, mask_column)
    info = train.info.splits
    if not info or not info["train"].num_examples:
        raise InputError(
            f"{source} does not say in its card how many pairs the split train has (dataset_info), which --streaming "
            "needs; leave --streaming out, or push it again with scripts/push_to_hub.py"
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
        validation.append(tuple(x.clone() for x in center(image, mask)))  # a crop alone would keep the whole photo
    return StreamedSplits(StreamedPairs(source, train, num_pairs - held_out, seed), validation)
