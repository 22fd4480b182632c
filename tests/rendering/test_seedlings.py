import numpy as np
import pytest

from synthset.rendering import seedlings
from synthset.rendering.seedlings import SHAPES, render_seedlings


def arrays(seed, size=128):
    return [np.asarray(picture) for picture in render_seedlings(seed, size)]


def test_a_pair_is_a_function_of_its_seed():
    first, again, other = (render_seedlings(seed, 64) for seed in (3, 3, 4))
    for picture, same, different in zip(first, again, other, strict=True):
        assert picture.tobytes() == same.tobytes() and picture.tobytes() != different.tobytes()
    assert (first[0].mode, first[1].mode, first[0].size) == ("RGB", "L", (64, 64))


def test_size_changes_the_sampling_and_not_the_scene():
    (large, mask), (small, small_mask) = arrays(1, 256), arrays(1, 128)
    halved = mask.reshape(128, 2, 128, 2).mean((1, 3)) > 0.5
    assert 2 * (halved & (small_mask > 0)).sum() / (halved.sum() + small_mask.sum()) > 0.85
    assert large.shape == (256, 256, 3) and small.shape == (128, 128, 3)


def test_masks_show_the_crop_and_not_the_weeds(monkeypatch):
    """Without the crop no pixel is the object; plants are greener than the soil, the object's and others."""
    pairs = [arrays(seed) for seed in range(12)]
    greens = []
    for image, mask in pairs:
        excess = image.astype(int) @ np.array([-1, 2, -1])
        if 0.02 < mask.mean() < 0.98:
            greens.append((np.median(excess[mask == 1]), np.median(excess[mask == 0])))
    assert len(greens) > 6 and sum(plant > soil + 15 for plant, soil in greens) >= 0.9 * len(greens)
    others = {name: lambda *a, add=add: None if a[4] else add(*a) for name, add in SHAPES.items()}
    monkeypatch.setattr(seedlings, "SHAPES", others)
    weeds = [arrays(seed) for seed in range(12)]
    assert not any(mask.any() for _, mask in weeds)
    green = [(image.astype(int) @ np.array([-1, 2, -1]) > 40).mean() for image, _ in weeds]
    assert np.mean(green) > 0.005


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_crop_and_a_weed(shape, monkeypatch):
    found = []

    def record(*args):
        found.append(args[4])

    monkeypatch.setattr(seedlings, "SHAPES", {**dict.fromkeys(SHAPES, lambda *_: None), shape: record})
    for seed in range(30):
        render_seedlings(seed, 32)
    assert {True, False} <= set(found)


def test_coverage_varies():
    coverage = [arrays(seed, 64)[1].mean() for seed in range(60)]
    assert min(coverage) < 0.02 and max(coverage) > 0.25 and 0.04 < np.mean(coverage) < 0.25
