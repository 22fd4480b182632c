"""Preview pictures show what they are given."""

import numpy as np
from PIL import Image

from synthset.visualization.previews import overlay, pair_grid

IMAGE = Image.new("RGB", (2, 2), (100, 100, 100))
MASK = Image.fromarray(np.array([[0, 1], [255, 0]], dtype=np.uint8))


def test_overlay_tints_the_mask_only():
    pixels = np.asarray(overlay(IMAGE, MASK, color=(200, 0, 100), opacity=0.5))
    assert pixels[0, 0].tolist() == pixels[1, 1].tolist() == [100, 100, 100]
    assert pixels[0, 1].tolist() == pixels[1, 0].tolist() == [150, 50, 100]


def test_grid_stacks_image_mask_and_overlay():
    grid = np.asarray(pair_grid([IMAGE] * 3, [MASK] * 3, columns=2, tile=4))
    assert grid.shape == (2 * (3 * 6 + 2) + 2, 2 * 6 + 2, 3)
    assert (grid[2:6, 2:6] == 100).all()
    assert grid[8, 2].tolist() == [0, 0, 0] and grid[8, 5].tolist() == [255, 255, 255]
    assert (grid[14:18, 2:6] == np.asarray(overlay(IMAGE, MASK).resize((4, 4), Image.Resampling.NEAREST))).all()
    assert (grid[22:26, 2:6] == 100).all() and (grid[22:26, 8:12] == 255).all()  # the third pair starts a new band


def test_captions_stand_above_their_pairs():
    plain = np.asarray(pair_grid([IMAGE] * 3, [MASK] * 3, columns=2, tile=96))
    captioned = np.asarray(pair_grid([IMAGE] * 3, [MASK] * 3, columns=2, tile=96, captions=["one", "two", "one"]))
    assert captioned.shape == (plain.shape[0] + 2 * 12, *plain.shape[1:])  # a strip of 96 / 8 on each band
    strip = captioned[2:14]
    assert (strip[:, 2:98] < 128).any() and (strip[:, 2:98] != strip[:, 100:196]).any()
    band = 3 * 98 + 2 + 12
    assert (captioned[2 + band : 14 + band, 2:98] == strip[:, 2:98]).all()
    assert (captioned[14:band] == plain[2 : band - 12]).all()
