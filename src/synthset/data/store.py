"""Decoded pairs as tensors: decoded once, and kept in memory or in a file."""

import hashlib
import logging
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import datasets
import numpy as np
import PIL
import psutil
import torch
from filelock import FileLock
from PIL import Image
from torchvision import tv_tensors

from .. import __version__
from ..console import progress
from ..output_dir import atomic_path
from .dataset import pairs_digest
from .scale import image_sizes

logger = logging.getLogger(__name__)

Planes = tuple[torch.Tensor, int, int]  # uint8 image (H, W, 3) and mask (H, W), flat and joined; height; width

OVERSAMPLING = 2  # pixels of a reduced photo per pixel of the training resolution, along a side
FORMAT = 1  # of the files; raised when the same pairs are decoded to other values
MARGIN = 2**30  # bytes of the disk that stay free
SECONDS_PER_CROP = 0.001  # to cut 256 pixels out of memory and resize them to 128, on one core


def cache_limit() -> int:
    """Memory limit in bytes for the pairs of one dataset in one process: a quarter of the available memory, divided by
    the number of processes launched on this machine, and at most 4 GiB."""
    return min(2**32, psutil.virtual_memory().available // (4 * int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


class PairTensors(torch.utils.data.Dataset):
    """Dataset of pairs as uint8 tv_tensors, for a `DataLoader`.

    Decoding a photo takes far longer than cropping and resizing it, so all pairs are decoded once. They are kept in
    memory if they fit into `cache_bytes`, and else in a file in the cache of datasets, which processes share and the
    next run on the same pairs finds. If the disk has no room for it, pairs are decoded at each access, with a warning.
    The tensors are the same in all three cases.

    For crops of `crop_size` pixels that are resized to `resolution`, photos are kept reduced, if that makes them
    smaller: such that the crops have `OVERSAMPLING` times `resolution` pixels. Images are reduced by a Lanczos filter;
    resized further, they differ from images resized at once by less than half a gray level on average. Masks keep the
    upper left of the pixels that become one. As [`resize_pair`] keeps the lower right of four, both together keep the
    center one, as without a reduction.

    Items are tuples of `tv_tensors.Image` (3, H, W) in 0..255 and `tv_tensors.Mask` (1, H, W) in {0, 1}, which must not
    be changed in place.

    Args:
        pairs: dataset of `load_pairs`.
        crop_size: side in pixels of the crops that will be taken; photos are kept whole when not given.
        resolution: side in pixels that the crops will be resized to.
        cache_bytes: limit in bytes for pairs in memory; [`cache_limit`] when not given.

    Attributes:
        crop_size: side in pixels of these crops in the tensors.

    Raises:
        InputError: a pair is invalid.
    """

    def __init__(
        self,
        pairs: datasets.Dataset,
        crop_size: int | None = None,
        resolution: int | None = None,
        cache_bytes: int | None = None,
    ):
        self.pairs, self.crop_size, self.scale = pairs, crop_size, Fraction(1)
        if crop_size is not None and resolution is not None:
            self.crop_size = min(crop_size, OVERSAMPLING * resolution)
            self.scale = Fraction(self.crop_size, crop_size)
        self.sizes = image_sizes(pairs)
        num_bytes = sum(4 * width * height for width, height in map(self.reduced, self.sizes))
        self.decoded: list[Planes] | PairFile | None
        if num_bytes <= (cache_limit() if cache_bytes is None else cache_bytes):
            self.decoded = list(self.decode_all())
        else:
            self.decoded = self.open_file(num_bytes)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        planes, height, width = self.decode(index) if self.decoded is None else self.decoded[index]
        image, mask = planes[: 3 * height * width].view(height, width, 3), planes[3 * height * width :]
        return tv_tensors.Image(image.permute(2, 0, 1)), tv_tensors.Mask(mask.view(1, height, width))

    def reduced(self, size: tuple[int, int]) -> tuple[int, int]:
        """Computes (width, height) of the tensors of a photo of `size`."""
        width, height = (max(1, round(side * self.scale)) for side in size)
        return width, height

    def decode(self, index: int) -> Planes:
        """Reads pair `index` from the dataset."""
        row = self.pairs[index]
        image, mask = row["image"], np.asarray(row["mask"])
        width, height = self.reduced(image.size)
        if image.size != (width, height):
            rows, columns = np.arange(height) * image.height // height, np.arange(width) * image.width // width
            image, mask = image.resize((width, height), Image.Resampling.LANCZOS), mask[rows][:, columns]
        return torch.from_numpy(np.concatenate([np.asarray(image).ravel(), mask.ravel()])), height, width

    def decode_all(self) -> Iterator[Planes]:
        """Reads all pairs in order, by threads; few are in memory at a time."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        largest = max((4 * width * height for width, height in self.sizes), default=1)
        threads = max(1, min(cores, cache_limit() // (4 * largest)))  # pixels are there up to four times
        ahead: deque[Future[Planes]] = deque()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without holding the interpreter's lock
            try:
                for index in progress(range(len(self)), "decoding pairs", unit="pair", leave=False, delay=1):
                    ahead.append(pool.submit(self.decode, index))
                    if len(ahead) > threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def open_file(self, num_bytes: int) -> "PairFile | None":
        """Opens the file of these pairs in the cache of datasets, and writes it first if there is none; None if it
        can't be written.

        The name of the file is a digest of the content of the pairs and of how they are decoded: files that were
        replaced, but kept their names and dates, would otherwise go unnoticed.
        """
        folder = Path(datasets.config.HF_DATASETS_CACHE) / "synthset"
        made_by = f"{FORMAT} {__version__} {PIL.__version__} {self.scale}"
        key = hashlib.sha256(f"{made_by} {pairs_digest(self.pairs)}".encode()).hexdigest()[:32]
        path, lock = folder / key, FileLock(folder / f".{key}.lock")
        kept = f"{num_bytes / 2**30:.3g} GiB in {path}; delete it when you no longer train on them"
        try:
            if path.exists():
                logger.info(f"{len(self)} photos are decoded already: {kept}")
                return PairFile(path, len(self))
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            with lock:  # another process that writes this file is waited for
                if not path.exists():
                    free = shutil.disk_usage(folder).free
                    if num_bytes + MARGIN > free:
                        raise OSError(f"{free / 2**30:.3g} GiB are free, and {MARGIN / 2**30:.3g} must stay so")
                    PairFile.write(path, self.decode_all())
                    logger.info(f"decoded {len(self)} photos once: {kept}")
            return PairFile(path, len(self))
        except OSError as error:  # of the disk; what is wrong with a pair is an InputError
            start = time.perf_counter()
            self.decode(0)
            slower = (time.perf_counter() - start + SECONDS_PER_CROP) / SECONDS_PER_CROP
            logger.warning(
                f"the decoded photos would take {num_bytes / 2**30:.3g} GiB in {folder}, which can't be written "
                f"({error.strerror or error}): they are decoded at each access, which makes reading a pair about "
                f"{slower:.0f} times slower; make room there, or set HF_DATASETS_CACHE to a folder on another disk"
            )
            return None


class PairFile:
    """File of decoded pairs, mapped into memory: the pairs one after the other, and then height and width of each.

    Args:
        path: file of [`PairFile.write`].
        count: number of pairs.

    Raises:
        OSError: the file can't be read, or was shortened.
    """

    def __init__(self, path: Path, count: int):
        self.path, self.count = path, count
        if path.stat().st_size < 16 * count:
            raise OSError(f"{path} is damaged; delete it")
        contents = np.memmap(path, mode="r")
        self.sizes = np.frombuffer(contents[len(contents) - 16 * count :], "<i8").reshape(count, 2).tolist()
        self.ends = [0, *np.cumsum([4 * height * width for height, width in self.sizes]).tolist()]
        if self.ends[-1] + 16 * count != len(contents):
            raise OSError(f"{path} is damaged; delete it")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.contents = torch.from_numpy(contents)

    @staticmethod
    def write(path: Path, pairs: Iterable[Planes]) -> None:
        """Writes `pairs` to `path`, which appears when it is complete and on the disk."""
        sizes = []
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for planes, height, width in pairs:
                file.write(planes.numpy().data)
                sizes.append((height, width))
            file.write(np.array(sizes, "<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def __getitem__(self, index: int) -> Planes:
        height, width = self.sizes[index]
        return self.contents[self.ends[index] : self.ends[index + 1]], height, width

    def __reduce__(self) -> tuple:
        return PairFile, (self.path, self.count)  # a process that is not forked maps the file itself


def remove_leftovers(folder: Path) -> None:
    """Removes unfinished files of processes that were killed."""
    for temporary in folder.glob(".*.tmp"):
        try:
            with FileLock(temporary.with_suffix(".lock"), timeout=0):
                temporary.unlink(missing_ok=True)
        except OSError:  # a process that writes it still runs, or it is another user's
            pass
