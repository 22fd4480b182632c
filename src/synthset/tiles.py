"""Squares that cover an image."""

import numpy as np


def tile_boxes(height: int, width: int, size: int, overlap: int = 0) -> list[tuple[int, int]]:
    """Computes (top, left) of the fewest squares of side `size` that cover an image, evenly spaced.

    A 1024 x 1024 image has four tiles of 512 pixels. They overlap if a side of the image is not a multiple of `size`.

    Args:
        height, width: of the image in pixels, `size` or more.
        size: side of the squares.
        overlap: pixels in which neighbors overlap at least, below `size`.
    """
    tops, lefts = (
        np.linspace(0, side - size, 1 - (size - side) // (size - overlap)).round().astype(int).tolist()
        for side in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]
