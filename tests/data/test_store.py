"""Pairs are decoded once, and are the same tensors whether in memory, in a file or decoded at each access."""

import logging
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import psutil
import pytest
import torch
from PIL import Image, ImageDraw
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.data import PairTensors, load_pairs, resize_pair, to_tv_tensors
from synthset.data.store import cache_limit
from synthset.errors import InputError
from synthset.training.components import build_streams

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the files, in a cache of this test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "synthset"


@pytest.fixture
def pairs(tmp_path):
    """Six photos of two sizes."""
    rows = random_pairs(3, (40, 32)) + random_pairs(3, (33, 47), seed=1)
    return load_pairs(str(write_raw_folder(tmp_path / "field", rows)))


def files(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock")) if folder.exists() else []


def same(one, other):
    return len(one) == len(other) and all(
        type(a) is type(b) and torch.equal(a, b)
        for index in range(len(one))
        for a, b in zip(one[index], other[index], strict=True)
    )


def test_processes_share_the_memory_that_is_free(monkeypatch):
    """5000 pairs of 256 px and 365 photos of 1024 px fit in where 8 GiB are free."""
    for free, processes, expected in ((8, 1, 2), (8, 2, 1), (64, 1, 4), (64, 8, 2)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free * 2**30))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert cache_limit() == expected * 2**30
    assert max(5000 * 256**2, 365 * 1024**2) * 4 < 2 * 2**30


@pytest.mark.parametrize("scale", [(), (32, 16), (32, 8), (30, 7)], ids=str)
def test_tensors_are_the_same_wherever_they_are_kept(pairs, cache, monkeypatch, caplog, scale):
    in_memory = PairTensors(pairs, *scale, cache_bytes=2**20)
    assert files(cache) == [] and not caplog.records
    with caplog.at_level(logging.INFO, "synthset"):
        in_file = PairTensors(pairs, *scale, cache_bytes=0)
    assert "decoded 6 photos once: " in caplog.text and f"GiB in {cache}/{files(cache)[0]}; delete it" in caplog.text
    assert same(in_memory, in_file) and same(in_memory, pickle.loads(pickle.dumps(in_file)))
    shutil.rmtree(cache)
    usage = namedtuple("usage", "total used free")(2**40, 2**40, 2**29)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    at_each_access = PairTensors(pairs, *scale, cache_bytes=0)
    assert files(cache) == []
    assert f"GiB in {cache}, which can't be written (0.5 GiB are free" in caplog.text
    assert "times slower; make room there, or set HF_DATASETS_CACHE" in caplog.text
    assert same(in_memory, at_each_access) and len(in_memory) == 6
    if scale in ((), (32, 16)):  # nothing to reduce
        assert same(in_memory, [to_tv_tensors(row) for row in pairs])
        assert [pair[0].stride() for pair in in_file] == [to_tv_tensors(row)[0].stride() for row in pairs]
        assert in_file.crop_size == (scale[0] if scale else None)
    else:
        assert in_file.crop_size == 2 * scale[1]
        assert all(min(mask.shape[1:]) >= in_file.crop_size for _, mask in in_file)


@pytest.mark.parametrize("reason", ["Not a directory|File exists", "File too large"])
def test_a_file_that_cannot_be_written_is_no_error(pairs, cache, caplog, reason):
    """No folder, and a disk that is full after all."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if reason == "File too large":
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    else:
        cache.parent.write_text("a file where the folder should be")
    try:
        tensors = PairTensors(pairs, cache_bytes=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(tensors, PairTensors(pairs)) and files(cache) == []
    assert re.search(rf"can't be written \(({reason})\): they are decoded at each access", caplog.text)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduced_masks_are_those_of_a_single_reduction(tmp_path, factor):
    """Crop of 2 R in the reduced photo = crop of 2 R `factor` in the photo, resized to R."""
    resolution = 6
    rows = random_pairs(1, (24 * factor, 20 * factor))
    pairs = load_pairs(str(write_raw_folder(tmp_path / "field", rows)))
    tensors = PairTensors(pairs, 2 * resolution * factor, resolution)
    assert tensors.crop_size == 12
    for top, left in ((0, 0), (3, 5), (8, 12)):
        small = [x[:, top : top + 12, left : left + 12] for x in tensors[0]]
        part = slice(top * factor, (top + 12) * factor), slice(left * factor, (left + 12) * factor)
        large = [x[(slice(None), *part)] for x in to_tv_tensors(pairs[0])]
        masks = [resize_pair(*pair, (resolution, resolution))[1] for pair in (small, large)]
        assert torch.equal(*masks)
        # the center, as resize_pair says: of 2 f pixels, number f
        assert torch.equal(masks[0][0], large[1][0][factor :: 2 * factor, factor :: 2 * factor])


@pytest.mark.parametrize("crop_size, resolution", [(512, 128), (500, 120), (96, 16)])
def test_reduced_photos_stay_aligned_with_their_masks(tmp_path, crop_size, resolution):
    """A white disk on black: its centers in image and mask, and the image's gray, as without a reduction."""
    shape = Image.new("L", (crop_size + 131, crop_size + 75))
    ImageDraw.Draw(shape).ellipse([0.3 * crop_size] * 2 + [0.8 * crop_size] * 2, fill=1)
    photo = Image.merge("RGB", [shape.point(lambda value: value * 255)] * 3)
    pairs = load_pairs(str(write_raw_folder(tmp_path / "field", [{"image": photo, "mask": shape}])))
    images = []
    for tensors in (PairTensors(pairs, crop_size, resolution), PairTensors(pairs)):
        side = tensors.crop_size or crop_size
        image, mask = resize_pair(*(x[:, :side, :side] for x in tensors[0]), (resolution, resolution))
        centers = [np.argwhere(x.numpy() > limit).mean(0) for x, limit in ((image[0], 127), (mask[0], 0))]
        assert np.abs(centers[0] - centers[1]).max() < 0.2  # pixels of the resolution
        images.append(image.float())
    assert (images[0] - images[1]).abs().mean() < 2  # of 255, all at the edge


def test_a_file_is_found_by_the_content_of_its_pairs(pairs, cache, tmp_path, monkeypatch, caplog):
    expected = PairTensors(pairs)
    PairTensors(pairs, cache_bytes=0)
    assert len(files(cache)) == 1
    with monkeypatch.context() as undecoded, caplog.at_level(logging.INFO, "synthset"):
        undecoded.setattr(PairTensors, "decode", None)
        assert same(PairTensors(pairs, cache_bytes=0), expected)
        moved = load_pairs(str(shutil.copytree(tmp_path / "field", tmp_path / "moved")))
        assert same(PairTensors(moved, cache_bytes=0), expected)
    assert "6 photos are decoded already" in caplog.text and len(files(cache)) == 1

    # other pairs: a photo that was replaced under its name and date, a selection, another scale
    photo = tmp_path / "moved" / "images" / "001.png"
    times = photo.stat().st_mtime_ns, photo.stat().st_mtime_ns
    random_pairs(1, (40, 32), seed=9)[0]["image"].save(photo)
    os.utime(photo, ns=times)
    changed = PairTensors(load_pairs(str(tmp_path / "moved")), cache_bytes=0)
    assert not torch.equal(changed[1][0], expected[1][0]) and torch.equal(changed[0][0], expected[0][0])
    assert same(PairTensors(pairs.select([4, 1]), cache_bytes=0), [expected[4], expected[1]])
    PairTensors(pairs, 32, 8, cache_bytes=0)
    assert len(files(cache)) == 4


def test_a_damaged_file_is_not_used(pairs, cache, caplog):
    expected = PairTensors(pairs)
    PairTensors(pairs, cache_bytes=0)
    (path,) = (cache / name for name in files(cache))
    contents = path.read_bytes()
    for damage in (contents[:-1], contents[:50], b"", b"\xff" * len(contents)):
        path.write_bytes(damage)
        caplog.clear()
        assert same(PairTensors(pairs, cache_bytes=0), expected)
        assert f"{path} is damaged; delete it" in caplog.text


def test_an_invalid_pair_leaves_no_file(pairs, cache, tmp_path):
    (tmp_path / "field" / "masks" / "003.png").write_bytes(b"no mask")
    with pytest.raises(InputError, match=r"masks/003\.png can't be read as an image"):
        PairTensors(pairs, cache_bytes=0)
    assert files(cache) == []


class SlowTensors(PairTensors):
    """Decodes one pair in 0.1 seconds, and notes which process did."""

    log: Path

    def decode(self, index):
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {index}\n")
        time.sleep(0.1)
        return super().decode(index)


def test_killed_while_the_file_is_written(pairs, cache, tmp_path, monkeypatch):
    """Nothing half-written is read, and what was left is removed by the next process, also of other pairs."""
    monkeypatch.setattr(SlowTensors, "log", tmp_path / "log", raising=False)
    for again in (pairs, pairs.select(range(5))):
        shutil.rmtree(cache, ignore_errors=True)
        process = fork.Process(target=SlowTensors, args=(pairs,), kwargs={"cache_bytes": 0})
        process.start()
        deadline = time.monotonic() + 20
        while not (files(cache) and (cache / files(cache)[0]).exists()) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        (left,) = files(cache)
        assert left.startswith(".") and left.endswith(".tmp")
        assert same(PairTensors(again, cache_bytes=0), PairTensors(again))
        assert len(files(cache)) == 1 and not files(cache)[0].startswith(".")


def test_processes_that_start_together_decode_once(pairs, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(SlowTensors, "log", tmp_path / "log", raising=False)
    processes = [fork.Process(target=SlowTensors, args=(pairs,), kwargs={"cache_bytes": 0}) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(index) for _, index in lines) == list(range(6)) and len({pid for pid, _ in lines}) == 1
    assert [process.exitcode for process in processes] == [0, 0, 0] and len(files(cache)) == 1


def test_few_photos_are_in_memory_while_they_are_decoded(tmp_path, monkeypatch):
    """However many there are: no more are read than the threads, and one, are ahead of what is written."""
    pairs = load_pairs(str(write_raw_folder(tmp_path / "field", random_pairs(40, (8, 8)))))
    tensors, started = PairTensors(pairs), []
    monkeypatch.setattr(tensors, "decode", lambda index: started.append(index))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    for done, _ in enumerate(tensors.decode_all(), start=1):
        time.sleep(0.002)
        assert len(started) <= done + 5
    assert sorted(started) == list(range(40))
    tensors.sizes = [(40000, 40000)] * 40  # too large for several at a time
    started.clear()
    next(tensors.decode_all())
    time.sleep(0.01)
    assert len(started) <= 2


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_pair_tensors_in_a_data_loader(tmp_path, num_workers, cache_bytes):
    pairs = load_pairs(str(write_raw_folder(tmp_path, random_pairs(5, size=(40, 32)))))
    tensors = PairTensors(pairs, cache_bytes=cache_bytes)
    loader = torch.utils.data.DataLoader(tensors, batch_size=2, num_workers=num_workers)
    batches = list(loader)
    assert [tuple(image.shape) for image, _ in batches] == [(n, 3, 32, 40) for n in (2, 2, 1)]
    assert torch.equal(batches[1][1][1], tensors[3][1])


def test_training_reduces_photos_and_keeps_its_flags(pairs):
    """The stream's crops of 32 px are 16 px of the tensors; validation reads no more pairs than it uses."""
    args = SimpleNamespace(
        crop_size=32,
        resolution=8,
        overfit=None,
        num_train_timesteps=1000,
        seed=0,
        num_validation_images=2,
        streaming=False,
        object_crops=0.0,
        image_std=None,
        mask_scale=1.0,
    )
    many = pairs.select([index % 6 for index in range(300)])
    stream, items = build_streams(args, pairs, many)
    assert args.crop_size == 32 and stream.pairs.crop_size == items.pairs.crop_size == 16
    assert (len(stream.pairs), len(items.pairs), len(items)) == (6, 256, 256)
    assert stream[7]["sample"].shape == items[255]["sample"].shape == (4, 8, 8)
    assert [tuple(stream.pairs[i][1].shape) for i in (0, 5)] == [(1, 16, 20), (1, 24, 16)]
