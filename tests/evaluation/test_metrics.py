"""Metrics against values worked out by hand."""

import numpy as np
import pytest

from synthset.evaluation.metrics import boundary, boundary_f1, dice, psnr, sharpness, ssim


def plain(value, dtype=np.uint8):
    return np.full((16, 16, 3), value, dtype)


def checkerboard(low, high, side=16):
    cells = np.where(np.indices((side, side)).sum(0) % 2, high, low)
    return np.repeat(cells[..., None], 3, axis=-1)


def mask(*rows):
    return np.array([[character == "#" for character in row] for row in rows], dtype=np.uint8)


SQUARE = mask("......", ".###..", ".###..", ".###..", "......")
RIGHT = mask("......", "..###.", "..###.", "..###.", "......")  # one to the right
EMPTY, FULL = np.zeros_like(SQUARE), np.ones_like(SQUARE)
DOT = mask("#.....", "......", "......", "......", "......")
DOTS = mask("#.....", "......", "......", "......", ".....#")
TOP = mask("######", "######", "......", "......", "......")
LOWER_TOP = mask("######", "######", "######", "......", "......")


@pytest.mark.parametrize(
    ("image", "reference", "expected"),
    [
        (plain(51), plain(0), 13.9794),  # 51 / 255 = 0.2; -10 log10(0.04)
        (plain(0.2, float), plain(0), 13.9794),
        (plain(1), plain(0), 48.1308),  # 20 log10(255)
        (plain(51), plain(0.2, np.float32), np.inf),
    ],
)
def test_psnr(image, reference, expected):
    value = psnr(image, reference)
    assert value > 100 if expected == np.inf else value == pytest.approx(expected, abs=1e-4)
    assert psnr(reference, reference) == np.inf


@pytest.mark.parametrize(
    ("image", "reference", "expected"),
    [
        (plain(51), plain(51), 1.0),
        # equal variances of 0, so (2 * 0 * 0.2 + C1) / (0 ** 2 + 0.2 ** 2 + C1) with C1 = 0.01 ** 2
        (plain(51), plain(0), 0.0001 / 0.0401),
        # equal means, variance 0.01, covariance -0.01: (-0.02 + C2) / (0.02 + C2) with C2 = 0.03 ** 2
        (checkerboard(0.4, 0.6), checkerboard(0.6, 0.4), -0.0191 / 0.0209),
    ],
)
def test_ssim(image, reference, expected):
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-5)


def test_sharpness():
    # Laplacians of a 4 x 4 checkerboard, whose edge pixels are their own neighbors: 4 of +-4, 8 of +-3, 4 of +-2
    expected = (4 * 16 + 8 * 9 + 4 * 4) / 16
    assert sharpness(checkerboard(0.0, 1.0, side=4)) == pytest.approx(expected)
    assert sharpness(checkerboard(0, 255, side=4).astype(np.uint8)) == pytest.approx(expected)
    assert sharpness(checkerboard(0.0, 0.5, side=4)) == pytest.approx(expected / 4)
    assert sharpness(plain(99)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("drawn", "reference", "expected"),
    [
        (SQUARE, SQUARE * 255, 1.0),
        (SQUARE, RIGHT, 2 * 6 / 18),
        (DOT, DOTS, 2 * 1 / 3),
        (DOT, SQUARE, 0.0),
        (EMPTY, EMPTY, 1.0),
        (EMPTY, DOT, 0.0),
    ],
)
def test_dice(drawn, reference, expected):
    assert dice(drawn, reference) == dice(reference, drawn) == pytest.approx(expected)


def test_boundary_is_the_object_s_rim_inside_the_picture():
    assert (boundary(SQUARE) == mask("......", ".###..", ".#.#..", ".###..", "......")).all()
    corner = mask("###...", "###...", "......", "......", "......")
    assert (boundary(corner) == mask("..#...", "###...", "......", "......", "......")).all()
    assert not boundary(FULL).any()


@pytest.mark.parametrize(
    ("drawn", "reference", "tolerance", "expected"),
    [
        (SQUARE, SQUARE * 255, 0, 1.0),
        # rims of 8 pixels: columns 1 and 3 whole, column 2 without its middle; the other's 2 and 4 whole, 3 without.
        # Common are (top and bottom of) columns 2 and 3: 4 of 8.
        (SQUARE, RIGHT, 0, 0.5),
        (SQUARE, RIGHT, 1, 1.0),
        (DOT, DOTS, 1, 2 / 3),  # precision 1, recall 1/2
        (DOT, RIGHT, 2, 0.0),  # the nearest pixel is 5 ** 0.5 away
        (DOT, RIGHT, 2.3, 2 * 1 * 0.125 / 1.125),  # recall 1 of 8
        (EMPTY, EMPTY, 1, 1.0),
        (FULL, FULL * 255, 1, 1.0),
        (EMPTY, FULL, 1, 0.0),  # no boundary in either, and no pixel right
        (EMPTY, SQUARE, 1, 0.0),
        (FULL, SQUARE, 1, 0.0),
        (SQUARE, 1 - SQUARE, 1, 0.0),
        (TOP, 1 - TOP, 1, 0.0),  # boundaries side by side
        (TOP, 1 - TOP, 3, 0.0),
        (TOP, LOWER_TOP, 1, 1.0),
    ],
)
def test_boundary_f1(drawn, reference, tolerance, expected):
    assert boundary_f1(drawn, reference, tolerance) == pytest.approx(expected)
    assert boundary_f1(reference, drawn, tolerance) == pytest.approx(expected)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2.7])
def test_boundary_f1_pixel_by_pixel(tolerance):
    """Random masks, by the words of the docstring; where every pixel is wrong, nothing agrees."""
    rng = np.random.default_rng(0)

    def share(one, other):
        rims = [[tuple(place) for place in np.argwhere(boundary(mask))] for mask in (one, other)]
        agreeing = 0
        for row, column in rims[0]:
            beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [(r, c) for r, c in beside if 0 <= r < 9 and 0 <= c < 11]
            right = other[row, column] or any(not one[place] and not other[place] for place in inside)
            distances = [((row - r) ** 2 + (column - c) ** 2) ** 0.5 for r, c in rims[1]]
            agreeing += right and min(distances) <= tolerance
        return agreeing / len(rims[0])

    for density in (0.1, 0.5, 0.9):
        one, other = (rng.random((9, 11)) < density for _ in range(2))
        precision, recall = share(one, other), share(other, one)
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert boundary_f1(one, other, tolerance) == pytest.approx(expected)
        assert boundary_f1(one, ~one, tolerance) == 0
        assert boundary_f1(one, one, tolerance) == 1


def test_boundary_f1_has_a_tolerance_of_one_pixel():
    assert boundary_f1(SQUARE, RIGHT) == 1.0
    assert boundary_f1(SQUARE, np.roll(SQUARE, 2, axis=1)) < 1.0
