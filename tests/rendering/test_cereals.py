from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from synthset.data.demo import demo_pairs
from synthset.rendering import cereals
from synthset.rendering.cereals import (
    BARLEY,
    SORGHUM,
    Cereal,
    any_cereal,
    photograph_canopy,
    render_barley,
    render_cereals,
    render_sorghum,
    render_wheat,
)
from synthset.rendering.scene import Scene, Sensor


def dice(prediction, mask):
    return 2 * (prediction & mask).sum() / (prediction.sum() + mask.sum())


def pixels(split):
    """All pixels of a split: colors (N, 3) in 0..255 and labels (N,)."""
    pairs = demo_pairs(split)
    images, masks = [np.stack([np.asarray(picture) for picture in pairs[column]]) for column in ("image", "mask")]
    return images.reshape(-1, 3), masks.reshape(-1).astype(bool)


@pytest.mark.parametrize("render", [render_wheat, render_cereals, render_barley, render_sorghum])
def test_a_pair_is_a_function_of_its_seed(render):
    first, again, other = (render(seed) for seed in (3, 3, 4))
    for picture, same, different in zip(first, again, other, strict=True):
        assert picture.tobytes() == same.tobytes()
        assert picture.tobytes() != different.tobytes()


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("render", [render_wheat, render_cereals, render_barley, render_sorghum])
def test_sizes_modes_and_mask_values(render, size):
    image, mask = render(5, size)
    assert (image.mode, image.size) == ("RGB", (size, size))
    assert (mask.mode, mask.size) == ("L", (size, size))
    assert set(np.unique(mask)) == {0, 1}


def test_size_changes_the_sampling_and_not_the_scene():
    (large, large_mask), (small, small_mask) = render_wheat(7, 256), render_wheat(7, 128)
    halved = np.asarray(large_mask).reshape(128, 2, 128, 2).mean((1, 3)) > 0.5
    assert dice(halved, np.asarray(small_mask) > 0) > 0.9
    assert np.corrcoef(np.asarray(large.reduce(2)).ravel(), np.asarray(small).ravel())[0, 1] > 0.9


def test_the_mask_is_where_the_heads_are_painted(monkeypatch):
    image, mask = (np.asarray(picture) for picture in render_wheat(8))
    monkeypatch.setattr(cereals, "add_heads", lambda *_: None)
    bare, empty = (np.asarray(picture) for picture in render_wheat(8))
    assert empty.max() == 0
    change = np.abs(image.astype(int) - bare).sum(-1)
    assert np.median(change[mask == 1]) > 3 * np.median(change[mask == 0])


def test_heads_of_sorghum_are_full_and_part_of_the_mask(monkeypatch):
    image, mask = (np.asarray(picture) for picture in render_sorghum(2))
    monkeypatch.setattr(cereals, "add_panicles", lambda *_: None)
    bare, empty = (np.asarray(picture) for picture in render_sorghum(2))
    assert empty.max() == 0 and mask.mean() > 0.02
    change = np.abs(image.astype(int) - bare).sum(-1)
    assert np.median(change[mask == 1]) > 3 * np.median(change[mask == 0])
    holes = binary_fill_holes(mask) & (mask == 0)  # leaves in front cut a head and leave no hole
    assert holes.sum() < 0.01 * mask.sum()


def test_the_mask_leaves_out_what_leaves_and_stems_hide(monkeypatch):
    visible = [np.asarray(render_wheat(seed)[1]) for seed in range(4)]
    monkeypatch.setattr(Scene, "add_ribbons", lambda *_, **__: None)
    whole = [np.asarray(render_wheat(seed)[1]) for seed in range(4)]
    assert all((v <= w).all() for v, w in zip(visible, whole, strict=True))
    assert np.sum(visible) < 0.95 * np.sum(whole)


def test_coverage_varies_around_a_seventh():
    coverage = [np.asarray(mask).mean() for mask in demo_pairs("validation")["mask"]]
    assert min(coverage) < 0.06
    assert max(coverage) > 0.2
    assert 0.1 < np.mean(coverage) < 0.2


def test_color_alone_does_not_give_the_mask_away():
    """A table of 16 x 16 x 16 colors holds each color's share of head pixels in one split; the share's best
    threshold there is then used on another split. No function of a pixel's color can do much better."""
    (fit_colors, fit_labels), (colors, labels) = pixels("validation"), pixels("test")
    fit_cells, cells = (x // 16 @ np.array([256, 16, 1]) for x in (fit_colors.astype(int), colors.astype(int)))
    heads, total = np.bincount(fit_cells[fit_labels], minlength=4096), np.bincount(fit_cells, minlength=4096)
    share = heads / np.maximum(total, 1)
    thresholds = np.linspace(0.05, 0.6, 23)
    best = max(thresholds, key=lambda threshold: dice(share[fit_cells] > threshold, fit_labels))
    assert dice(share[cells] > best, labels) < 0.5
    # All heads is the score to compare with: color adds little to it.
    assert dice(np.ones_like(labels), labels) > 0.15


def test_the_fields_are_like_none_of_the_cereals():
    """What the starter model learned from does not contain the field that the quickstart shows it."""
    varieties = [any_cereal(np.random.default_rng(seed)) for seed in range(300)]
    assert {variety.panicle for variety in varieties} == {(0, 0)} and SORGHUM.panicle[0] > 0
    redness = [variety.soil[0] / variety.soil[1] for variety in varieties]
    assert max(redness) < BARLEY.soil[0] / BARLEY.soil[1]
    assert max(variety.awn[1] for variety in varieties) < BARLEY.awn[0]
    assert min(variety.slenderness for variety in varieties) > BARLEY.slenderness
    warmth, deviation = varieties[0].sensor.warmth
    assert warmth + 3 * deviation < BARLEY.sensor.warmth[0]
    assert len({variety.head for variety in varieties}) == 300


def test_sensors_show_in_the_image_and_not_in_the_mask():
    """A dark rim, a warmer light and a blur change the photo alone."""
    plain = Cereal()
    for change, seen in {
        Sensor(vignette=0.8): lambda a, b: b[:20].mean() < 0.7 * a[:20].mean(),
        Sensor(warmth=(0.3, 0)): lambda a, b: b[..., 0].mean() > 1.2 * a[..., 0].mean(),
        Sensor(blur=0.02): lambda a, b: np.abs(np.diff(b, axis=0)).mean() < 0.7 * np.abs(np.diff(a, axis=0)).mean(),
    }.items():
        (image, mask), (changed, same) = (
            photograph_canopy(np.random.default_rng(1), replace(plain, sensor=sensor), 128)
            for sensor in (plain.sensor, change)
        )
        assert mask.tobytes() == same.tobytes()
        assert seen(*(np.asarray(picture, dtype=float) for picture in (image, changed)))
