"""Rows of seedlings on soil, with weeds of other shapes between them; the seedlings are the objects.

Lengths are in decimeters. Three shapes of plants: `feathered` as a carrot's leaf, `ovate` as a beet's, `blade` as that
of maize. The crop is one of them, its weeds are the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .scene import SUPERSAMPLING, Camera, Scene, grow, tilled_soil

GOLDEN_ANGLE = np.pi * (3 - 5**0.5)


class Leaves(NamedTuple):
    """Leaves of some plants: where they begin (N, 3), and their length, azimuth, elevation, age (0 young, 1 yellow) and
    brightness, (N,) each."""

    start: np.ndarray
    length: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    age: np.ndarray
    gain: np.ndarray


def rosettes(rng: np.random.Generator, places: np.ndarray, sizes: np.ndarray, count: int) -> Leaves:
    """`count` leaves for each plant at `places` (P, 2) with leaves of about `sizes` (P,), turned by the golden angle
    from one to the next; the outer ones are longer and lie lower."""
    plants, rank = np.repeat(np.arange(len(places)), count), np.tile(np.arange(count), len(places))
    inner = rank / max(1, count - 1)
    total = len(plants)
    turn = rng.uniform(0, 2 * np.pi, len(places))[plants] + rank * GOLDEN_ANGLE
    return Leaves(
        start=np.column_stack([places[plants], np.full(total, 0.03)]),
        length=sizes[plants] * (1 - 0.45 * inner) * rng.normal(1, 0.12, total).clip(0.6, 1.4),
        azimuth=turn + rng.normal(0, 0.2, total),
        elevation=0.25 + 0.75 * inner + rng.normal(0, 0.15, total),
        age=rng.normal(0.08, 0.06, len(places))[plants] + 0.12 * (1 - inner) * rng.random(total),
        gain=(rng.normal(1, 0.1, len(places))[plants] * rng.normal(1, 0.08, total)).clip(0.7, 1.35),
    )


def add_ovate(
    scene: Scene, rng: np.random.Generator, places: np.ndarray, sizes: np.ndarray, is_object: bool, count: int
) -> None:
    """A stalk and a blade that is widest in its middle, of some species with lobes."""
    leaves, u = rosettes(rng, places, sizes, count), np.linspace(0, 1, 15)
    points, across = grow(*leaves[:4], droop=rng.uniform(0.2, 1.0, len(leaves.start)), segments=14)
    stalk, slim = rng.uniform(0.2, 0.45), rng.uniform(0.25, 0.55)
    blade = np.clip((u - stalk) / (1 - stalk), 0, 1)
    outline = np.sin(np.pi * blade) ** rng.uniform(0.5, 0.9)
    outline *= 1 + rng.choice([0.0, 0.28]) * np.cos(2 * np.pi * rng.integers(2, 4) * blade)
    widths = leaves.length[:, None] * (0.05 * (u < stalk + 0.08) + slim * outline)
    age = leaves.age[:, None] + 0.15 * (u - 0.5) * rng.random((len(leaves.start), 1))
    stripes = (-1, -0.07, 0.07, 1)
    scene.add_ribbons(points, across, widths, age, leaves.gain, rng.uniform(0.05, 0.35), stripes, is_object=is_object)


def add_blades(
    scene: Scene, rng: np.random.Generator, places: np.ndarray, sizes: np.ndarray, is_object: bool, count: int
) -> None:
    """Long and narrow leaves that bend over."""
    leaves, u = rosettes(rng, places, 1.3 * sizes, max(2, count - 2)), np.linspace(0, 1, 11)
    points, across = grow(
        *leaves[:4],
        droop=rng.uniform(0.3, 1.6, len(leaves.start)),
        sway=rng.normal(0, 0.3, len(leaves.start)),
        twist=rng.normal(0, 0.6, len(leaves.start)),
        segments=10,
    )
    widths = leaves.length[:, None] * rng.uniform(0.06, 0.12) * np.minimum(1, 0.5 + 2 * u) * (1 - u**2.5)
    age = np.repeat(leaves.age[:, None], len(u), 1)
    stripes = (-1, -0.08, 0.08, 1)
    scene.add_ribbons(points, across, widths, age, leaves.gain, rng.uniform(0.2, 0.5), stripes, is_object=is_object)


def side_shoots(
    rng: np.random.Generator, leaves: Leaves, points: np.ndarray, nodes: range, shares: np.ndarray, spread: float
) -> Leaves:
    """Leaflets on both sides of `leaves`, whose curves are `points` (N, S + 1, 3): at each of `nodes` two, of `shares`
    (len(nodes),) of a leaf's length, `spread` radians off it, less toward its tip."""
    parent, rank, side = (x.ravel() for x in np.meshgrid(np.arange(len(points)), np.arange(len(nodes)), [-1, 1]))
    total = len(parent)
    return Leaves(
        start=points[parent, np.asarray(nodes)[rank]],
        length=leaves.length[parent] * shares[rank] * rng.normal(1, 0.1, total).clip(0.6, 1.4),
        azimuth=leaves.azimuth[parent] + side * spread * (1 - 0.5 * rank / len(nodes)) + rng.normal(0, 0.12, total),
        elevation=0.6 * leaves.elevation[parent] + rng.normal(0, 0.2, total),
        age=leaves.age[parent],
        gain=leaves.gain[parent] * rng.normal(1, 0.07, total),
    )


def add_feathered(
    scene: Scene, rng: np.random.Generator, places: np.ndarray, sizes: np.ndarray, is_object: bool, count: int
) -> None:
    """A midrib with leaflets on both sides, which are lobed on both sides themselves."""
    fineness, spread = rng.uniform(0.05, 0.11), rng.uniform(0.6, 1.0)
    leaves = rosettes(rng, places, 1.1 * sizes, count)
    shares = [0.4 * np.sin(np.pi * np.linspace(0.2, 0.95, 7)) + 0.05, np.linspace(0.42, 0.2, 3)]
    for level, (segments, nodes) in enumerate(((12, range(4, 11)), (6, range(2, 5)), (4, range(0)))):
        points, across = grow(*leaves[:4], droop=rng.uniform(0.2, 0.6, len(leaves.start)), segments=segments)
        u = np.linspace(0, 1, segments + 1)
        if level == 0:
            widths = np.full((len(points), segments + 1), 0.02)
        else:
            widths = leaves.length[:, None] * fineness * (1 + level) * np.sin(np.pi * (0.15 + 0.75 * u))
        ages = np.repeat(leaves.age[:, None], segments + 1, 1)
        scene.add_ribbons(points, across, widths, ages, leaves.gain, stripes=(-1, 1), is_object=is_object)
        if nodes:
            leaves = side_shoots(rng, leaves, points, nodes, shares[level], spread)


Plant = Callable[[Scene, np.random.Generator, np.ndarray, np.ndarray, bool, int], None]
SHAPES: dict[str, Plant] = {"feathered": add_feathered, "ovate": add_ovate, "blade": add_blades}


def litter(soil: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lays cracks, stones and straw on the soil, uint8 (size, size, 3)."""
    size = len(soil)
    canvas = Image.fromarray(soil).resize((size * SUPERSAMPLING,) * 2, Image.Resampling.BILINEAR)
    draw, side = ImageDraw.Draw(canvas), size * SUPERSAMPLING
    mean = soil.mean((0, 1))
    for _ in range(rng.integers(0, 5)):  # cracks
        steps = rng.normal(0, 0.35, 24).cumsum() + rng.uniform(0, 2 * np.pi)
        path = rng.uniform(0, side, 2) + np.column_stack([np.cos(steps), np.sin(steps)]).cumsum(0) * side / 30
        draw.line([tuple(p) for p in path], tuple((0.45 * mean).astype(int)), int(rng.integers(1, 3)) * side // 256)
    for _ in range(rng.integers(0, 60)):  # stones, lit from above left
        radius = side * rng.uniform(0.003, 0.006) * (1 + 3 * rng.random() ** 6)
        outline = np.linspace(0, 2 * np.pi, 9)[:-1]
        shape = np.column_stack([np.cos(outline), np.sin(outline)]) * radius * rng.uniform(0.7, 1.3, (8, 1))
        center, tone = rng.uniform(0, side, 2), mean * 0.4 + rng.uniform(80, 150) * rng.normal(1, 0.03, 3)
        for shift, gain in ((0.25 * radius, 0.5), (0.0, 1.0), (-0.25 * radius, 1.12)):
            scale = 1 if gain < 1.1 else 0.6
            corners = [tuple(corner) for corner in center + shape * scale + shift]
            draw.polygon(corners, tuple((tone * gain).clip(0, 255).astype(int)))
    for _ in range(rng.integers(0, 14)):  # straw
        start, angle, length = rng.uniform(0, side, 2), rng.uniform(0, np.pi), side * rng.uniform(0.02, 0.12)
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        tone = np.array([196, 172, 128]) * rng.uniform(0.6, 1.1)
        draw.line([tuple(start), tuple(end)], tuple(tone.clip(0, 255).astype(int)), max(1, side // 200))
    return np.asarray(canvas.filter(ImageFilter.BoxBlur(0.5)).reduce(SUPERSAMPLING))


def render_seedlings(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """Renders one photo of rows of seedlings among weeds, and the mask of the seedlings.

    The crop, its age and its rows, the weeds, the soil, the camera and the light all come from `seed`.

    Args:
        seed: non-negative; the pair is a function of `seed` and `size` alone.
        size: side in pixels.

    Returns:
        The image (RGB) and the mask ("L", 0 background and 1 seedling), both size x size.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1)))

    # 1. camera and light
    width = rng.uniform(2.2, 5.5)
    camera = Camera(
        side=size * SUPERSAMPLING,
        target_height=0.0,
        distance=rng.uniform(8, 16),
        pitch=rng.uniform(0, 0.3),
        width=width,
    )
    scene = Scene(
        camera,
        azimuth=rng.uniform(0, 2 * np.pi),
        elevation=rng.uniform(0.6, 1.4),
        diffuse=rng.uniform(0.4, 0.95),
        canopy_height=0.5,
        green=np.array([74, 118, 50]) * rng.normal(1, [0.08, 0.04, 0.12]) * rng.uniform(0.9, 1.35),
        straw=np.array([190, 170, 90]) * rng.normal(1, [0.03, 0.03, 0.08]),
    )

    # 2. crop: plants along parallel rows
    crop = str(rng.choice(list(SHAPES)))
    size_of_crop = rng.uniform(0.35, 1.0)
    angle, spacing = rng.uniform(0, np.pi), rng.uniform(2.2, 4.5)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    reach = 0.8 * width
    places = []
    for row in np.arange(-3, 4) * spacing + rng.uniform(0, spacing):
        steps = rng.uniform(0.5, 1.5, 80).cumsum() * rng.uniform(0.45, 0.9) * (0.6 + size_of_crop)
        steps = steps[steps < 2 * reach] - reach
        spots = row * across + steps[:, None] * along + rng.normal(0, 0.06, (len(steps), 2))
        places.append(spots[rng.random(len(spots)) < rng.uniform(0.5, 1)])
    spots = np.concatenate(places)
    spots = spots[(np.abs(spots) < reach).all(1)]
    if len(spots):
        sizes = size_of_crop * rng.normal(1, 0.2, len(spots)).clip(0.4, 1.5)
        SHAPES[crop](scene, rng, spots, sizes, True, int(rng.integers(3, 7)))

    # 3. weeds: anywhere, of the other shapes, mostly smaller, some in tufts
    for shape in [name for name in SHAPES if name != crop]:
        count = int(rng.gamma(1.2, 4) * (width / 3.5) ** 2)
        if not count:
            continue
        spots = rng.uniform(-reach, reach, (count, 2))
        tufted = rng.random(count) < 0.4
        spots[tufted] = spots[0] + rng.normal(0, 0.4, (tufted.sum(), 2))
        sizes = rng.uniform(0.15, 0.8) * rng.normal(1, 0.35, count).clip(0.3, 2)
        SHAPES[shape](scene, rng, spots, sizes, False, int(rng.integers(3, 7)))

    # 4. soil
    soil = tilled_soil(scene, size, rng, brightness=(0.55, 1.25))
    gray = soil.mean(-1, keepdims=True)
    soil = (gray + rng.uniform(0.2, 1) * (soil - gray)).astype(np.uint8)
    return scene.photograph(size, litter(soil, rng), rng)
