"""Datasets of numbered pairs that are written shard by shard, hidden from loaders until complete, and extensible."""

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import torch

from ..console import progress
from ..errors import InputError
from .writer import export_imagefolder, read_rows, verify_shard

HIDDEN = ".unfinished"


@dataclass(frozen=True)
class GrowingDataset:
    """A folder of pairs 0 to `num_samples` - 1, written in shards that are distributed over processes.

    Each shard is first written as a parquet file to the sub-folder `.unfinished/data`, which neither `load_pairs` nor
    `datasets.load_dataset` reads. Once all shards are complete, the pairs are moved to `data/`, or to `images/`,
    `masks/` and `metadata.jsonl`. The caller then writes README.md, which marks the dataset as finished. With a larger
    `num_samples`, the pairs are moved back and complete shards are kept.

    Args:
        folder: folder of the dataset.
        num_samples: total number of pairs.
        samples_per_shard: pairs per shard.
        image_columns: columns of images for PNG files, `image` first; empty for parquet files.
    """

    folder: Path
    num_samples: int
    samples_per_shard: int
    image_columns: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[Path, range]:
        """Maps the file of every shard, in the hidden folder, to the numbers of its pairs."""
        numbers = range(self.num_samples)
        starts = numbers[:: self.samples_per_shard]
        name = f"train-{{:05d}}-of-{len(starts):05d}.parquet"
        data = self.folder / HIDDEN / "data"
        return {data / name.format(k): numbers[i : i + self.samples_per_shard] for k, i in enumerate(starts)}

    @property
    def published(self) -> bool:
        """True if the pairs were moved to where loaders find them."""
        return (self.folder / self._names[-1]).is_dir()

    def prepare(self) -> None:
        """Prepares existing pairs to be continued. Called in one process, before any process calls `missing`.

        Raises:
            InputError: the folder holds more than `num_samples` pairs.
        """
        hidden = self.folder / HIDDEN
        ends = [self._exported(self.folder), self._exported(hidden)]
        for shard in [*self.folder.glob("data/train-*.parquet"), *hidden.glob("data/train-*.parquet")]:
            ends.append(self._index(shard) * self.samples_per_shard + pq.read_metadata(shard).num_rows)
        if max(ends) > self.num_samples:
            raise InputError(
                f"--num_samples is {self.num_samples}, but {self.folder} has pairs up to {max(ends)} already; give "
                f"{max(ends)} or more, or choose another --output_dir"
            )
        if self.published and self._count() == self.num_samples:
            shutil.rmtree(hidden, ignore_errors=True)
            return
        (self.folder / "README.md").unlink(missing_ok=True)
        hidden.mkdir(exist_ok=True)
        for name in reversed(self._names):
            if (self.folder / name).exists():
                os.replace(self.folder / name, hidden / name)
        parts = list(self.parts.items())
        for file in sorted(hidden.glob("data/*")):
            if file.suffix == ".parquet":
                shard, numbers = parts[self._index(file)]
                if pq.read_metadata(file).num_rows == len(numbers):
                    os.replace(file, shard)
                    continue
            file.unlink()  # the last part of a smaller dataset, or a temporary file of a killed process

    def missing(self, rank: int = 0, world_size: int = 1) -> list[tuple[Path, range]]:
        """Shards that process `rank` of `world_size` has to write, each with [`write_pairs_shard`]."""
        exported = self._exported(self.folder / HIDDEN)
        mine = list(self.parts.items())[rank::world_size]
        return [
            (shard, numbers)
            for shard, numbers in mine
            if not self.published and numbers.stop > exported and not shard.exists()
        ]

    def publish(self) -> None:
        """Moves the pairs to where loaders find them. Called in one process, when no shard is missing.

        Raises:
            InputError: a shard can't be read back, see [`verify_shard`].
        """
        hidden = self.folder / HIDDEN
        if self.published:
            return
        for shard in self.parts:
            if shard.exists():
                verify_shard(shard)
        if self.image_columns and self._exported(hidden) < self.num_samples:
            kept = self._exported(hidden) // self.samples_per_shard
            shards = list(self.parts)[kept:]
            export_imagefolder(shards, hidden, kept * self.samples_per_shard)
        for name in self._names:
            if (hidden / name).exists():
                os.replace(hidden / name, self.folder / name)
        shutil.rmtree(hidden)

    def rows(self, columns: list[str], stop: int) -> list[dict]:
        """Reads `columns` of the first `stop` published pairs; images are {"bytes": PNG file}."""
        if not self.image_columns:
            shards = [self.folder / "data" / shard.name for shard in self.parts][: -(-stop // self.samples_per_shard)]
            return list(islice(read_rows(shards, columns), stop))
        rows = []
        for line in (self.folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:stop]:
            row = json.loads(line)
            for column in self.image_columns:
                path = row["file_name" if column == "image" else f"{column}_file_name"]
                row[column] = {"bytes": (self.folder / path).read_bytes()} if column in columns else None
            rows.append({column: row[column] for column in columns})
        return rows

    @property
    def _names(self) -> list[str]:
        """Files and folders to move, in this order. Loaders recognize the dataset only once the last one is there."""
        return (
            ["metadata.jsonl", *(f"{name}s" for name in reversed(self.image_columns))]
            if self.image_columns
            else ["data"]
        )

    def _count(self) -> int:
        """Number of published pairs."""
        if self.image_columns:
            return self._exported(self.folder)
        return sum(pq.read_metadata(shard).num_rows for shard in self.folder.glob("data/train-*.parquet"))

    @staticmethod
    def _exported(folder: Path) -> int:
        """Number of pairs in `folder` that are exported as PNG files."""
        metadata = folder / "metadata.jsonl"
        return len(metadata.read_text(encoding="utf-8").splitlines()) if metadata.exists() else 0

    @staticmethod
    def _index(shard: Path) -> int:
        """Index of a shard, from its name `train-NUMBER-of-COUNT.parquet`."""
        return int(shard.name.split("-")[1])


def write_missing(pairs: GrowingDataset, write_shard: Callable[[Path, range], int], num_workers: int) -> None:
    """Writes the missing shards of a dataset.

    Args:
        pairs: the dataset.
        write_shard: writes the pairs of these numbers to a file and returns their number; pickled for processes.
        num_workers: processes beside this one; 0 writes in this one.
    """
    missing = pairs.missing()
    bar = progress(description="pairs", total=sum(len(part) for _, part in missing), unit="pair")
    # spawn: a forked process would inherit locks of the threads that decoded images
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, spawn, _start_worker) if num_workers else ThreadPoolExecutor(1)
    with bar, pool:
        try:
            for done in as_completed(pool.submit(write_shard, *task) for task in missing):
                bar.update(done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    """Initializes a worker process: limits it to one thread, and ends it when its parent is killed, because it would
    otherwise wait for work forever."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
