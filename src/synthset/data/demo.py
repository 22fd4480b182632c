"""Built-in demo dataset: wheat canopies rendered from a seed, with pixel-exact masks of the heads.

A scene is a stand of tillers in meters (z up, soil at 0) under a pinhole camera about a meter above it. Every organ is
a curve in space that becomes polygons; the polygons are sorted by their distance to the camera and painted from far
to near on one RGBA canvas at twice the final size. The canvas' alpha channel is the visibility buffer: its lowest bit
says "head", the other seven hold the height above the soil, from which the shadows are cast. A pixel's label is thus
what was painted there last, in the same stroke as its color.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw, ImageFilter

from ..errors import InputError

SPLIT_SEEDS = {"train": range(0, 160), "validation": range(1000, 1040), "test": range(2000, 2040)}
SUPERSAMPLING = 2
Array = float | np.ndarray

# A spikelet's outline, (along, across) its axis in its lengths, base at the origin: a drop, its point away from the
# stem.
SPIKELET = np.array([(0, -0.1), (0.3, -0.25), (0.65, -0.21), (1, 0), (0.65, 0.21), (0.3, 0.25), (0, 0.1)])


class Camera:
    """A pinhole camera that looks at (0, 0, `target_height`) from `distance` meters away, `pitch` radians off the
    vertical, and sees `width` meters there on a canvas of `side` pixels."""

    def __init__(self, side: int, target_height: float, distance: float, pitch: float, width: float):
        sin, cos = np.sin(pitch), np.cos(pitch)
        self.side, self.focal = side, side * distance / width
        # Rows: the canvas' right, the canvas' down, the direction of view.
        self.axes = np.array([(1, 0, 0), (0, -cos, -sin), (0, sin, -cos)])
        self.position = np.array([0, 0, target_height]) - distance * self.axes[2]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) -> canvas pixels (..., 2) and distances (...) along the view, in meters."""
        right_down_depth = (points - self.position) @ self.axes.T
        depth = right_down_depth[..., 2]
        return self.side / 2 + self.focal * right_down_depth[..., :2] / depth[..., None], depth

    def unproject(self, pixels: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Canvas pixels (N, 2) -> the points (N, 3) seen there at `heights` (N,) above the soil."""
        rays = np.column_stack([(pixels - self.side / 2) / self.focal, np.ones(len(pixels))]) @ self.axes
        return self.position + rays * ((heights - self.position[2]) / rays[:, 2])[:, None]


def grow(
    start: np.ndarray,
    length: Array,
    azimuth: Array,
    elevation: Array,
    droop: Array,
    sway: Array = 0.0,
    twist: Array = 0.0,
    segments: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Curves that leave `start` (N, 3) at `elevation` radians above the horizon and bend down by `droop` on the way.

    `azimuth` turns by `sway`, the surface rolls around the curve by `twist`, both in radians. All but `segments` are
    arrays (N,) or numbers. Returns the points and the unit vectors across the surface, both (N, segments + 1, 3).
    """
    u = np.linspace(0, 1, segments + 1)
    length, azimuth, elevation, droop, sway, twist = (
        np.broadcast_to(x, len(start))[:, None] for x in (length, azimuth, elevation, droop, sway, twist)
    )
    azimuth, elevation, roll = azimuth + sway * u, elevation - droop * u**1.5, (twist * u)[..., None]
    sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
    along = np.stack([cos_e * cos_a, cos_e * sin_a, sin_e], -1)
    across = np.stack([-sin_a, cos_a, 0 * sin_a], -1)
    normal = np.stack([-sin_e * cos_a, -sin_e * sin_a, cos_e], -1)
    points = np.repeat(start[:, None], segments + 1, axis=1)
    points[:, 1:] += np.cumsum(along[:, :-1] * (length / segments)[..., None], axis=1)
    return points, across * np.cos(roll) + normal * np.sin(roll)


def noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise (side, side) of mean 0 and deviation near 1, with `cells` bumps along a side."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC, box=(1, 1, cells + 1, cells + 1)))


@dataclass
class Scene:
    """A stand of wheat in front of a camera, as polygons with a color, a height and a distance each.

    Args:
        camera: where it is seen from.
        sun: unit vector (3,) toward the sun.
        diffuse: share of the light that comes from the whole sky, 0..1.
        canopy_height: meters; what lies deeper gets less of the sky.
        green: color (3,) of an unripe plant, 0..255.
        straw: color (3,) of a ripe one.
    """

    camera: Camera
    sun: np.ndarray
    diffuse: float
    canopy_height: float
    green: np.ndarray
    straw: np.ndarray
    polygons: list = field(default_factory=list)
    fills: list = field(default_factory=list)
    depths: list = field(default_factory=list)

    def add(
        self,
        corners: np.ndarray,
        ripeness: Array,
        normals: np.ndarray,
        gain: Array,
        heights: Array,
        depths: np.ndarray,
        head: bool = False,
    ) -> None:
        """Adds the polygons that the camera can see.

        `corners` (..., P, 2) in canvas pixels; `normals` (..., 3); `ripeness`, `gain` (a factor on the brightness),
        `heights` and `depths` (...), or what broadcasts to it.
        """
        seen = ((corners.max(-2) > 0) & (corners.min(-2) < self.camera.side)).all(-1)
        ripeness, gain, heights, depths = (
            np.broadcast_to(x, seen.shape)[seen] for x in (ripeness, gain, heights, depths)
        )
        # A blade is thin: it shines through on the side away from the sun as much as it reflects on the other.
        light = self.diffuse + (1 - self.diffuse) * 1.5 * np.abs(normals[seen] @ self.sun)
        light *= gain * np.exp(-1.5 * np.clip(1 - heights / self.canopy_height, 0, 1))
        color = self.green + np.clip(ripeness, 0, 1)[:, None] * (self.straw - self.green)
        color = np.clip(color * light[:, None], 0, 255).astype(np.uint8)
        alpha = np.clip(heights * 127, 0, 127).astype(np.uint8) * np.uint8(2) + np.uint8(head)
        self.polygons += corners[seen].reshape(-1, 2 * corners.shape[-2]).tolist()
        # Pillow takes a color as one integer, red in its lowest byte.
        self.fills += np.column_stack([color, alpha]).view("<u4")[:, 0].tolist()
        self.depths += depths.tolist()

    def add_ribbons(
        self,
        points: np.ndarray,
        across: np.ndarray,
        widths: np.ndarray,
        ripeness: np.ndarray,
        gain: np.ndarray,
        fold: Array = 0.0,
        stripes: Sequence[float] = (-1, 0, 1),
        behind: float = 0.0,
    ) -> None:
        """Stems, leaves and awns: strips around N curves of `grow`, made of quadrilaterals.

        `widths` and `ripeness` (N, S + 1), widths in meters; `gain` (N,). The strip is folded up along its middle by
        `fold` radians and split across at `stripes`, places in -1..1; a stripe that holds the middle is the midrib,
        which is lighter. `behind` meters are added to the distances.
        """
        along = np.gradient(points, axis=1)
        up = np.cross(along / np.linalg.norm(along, axis=-1, keepdims=True), across)
        half = widths[..., None] / 2
        flat, raised = half * np.cos(fold) * across, half * np.sin(fold) * up
        pixels, depths = self.camera.project(np.stack([points + s * flat + abs(s) * raised for s in stripes]))
        for k, middle in enumerate(np.add(stripes[1:], stripes[:-1]) / 2):
            normals = np.cos(fold) * up - np.sign(middle) * np.sin(fold) * across
            near, far = pixels[k], pixels[k + 1]
            self.add(
                np.stack([near[:, :-1], near[:, 1:], far[:, 1:], far[:, :-1]], axis=-2),
                ripeness[:, :-1],
                normals[:, :-1],
                gain[:, None] * (1.25 if middle == 0 else 1),
                points[:, :-1, 2],
                depths[k, :, :-1] + behind,
            )

    def add_heads(self, points: np.ndarray, spikelets: np.ndarray, ripeness: np.ndarray, gain: np.ndarray) -> None:
        """Heads' bodies: a spikelet at every node of N curves (N, S + 1, 3), left and right in turn like a
        herringbone, and a row of them down the middle. `spikelets`, their lengths in meters, `ripeness` and `gain`
        are (N,)."""
        node = np.arange(points.shape[1])
        u = node / node[-1]
        pixels, depths = self.camera.project(points)
        scale = self.camera.focal / depths
        along = np.gradient(pixels, axis=1)
        length = np.linalg.norm(along, axis=-1) + 1e-6
        along /= length[..., None]
        aside = np.stack([-along[..., 1], along[..., 0]], -1)
        # Seen from its end a spikelet is short, but not flat.
        spacing = np.linalg.norm(points[:, 1] - points[:, 0], axis=-1)[:, None]
        along *= np.clip(length / (spacing * scale), 0.45, 1)[..., None]
        unit = scale * spikelets[:, None] * np.minimum(1, 0.72 + 1.6 * u) * np.minimum(1, 1.62 - u)
        for zigzag, every in ((np.where(node % 2, 1, -1), 1), (0 * node, 2)):
            angle = (0.5 * zigzag * (1 - 0.5 * u))[:, None]
            # The dark gap around a spikelet, the spikelet, the light on its back.
            for layer, (size, gain_of_layer) in enumerate(((1, 0.58), (0.78, 1.02), (0.4, 1.25))):
                x, y = SPIKELET.T * size + [[(1 - size) / 2], [0]]
                x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle) + angle / 3
                offsets = x[..., None] * along[:, :, None] + y[..., None] * aside[:, :, None]
                outward = 0.75 * (zigzag[:, None] * aside) @ self.camera.axes[:2] - 0.66 * self.camera.axes[2]
                # A spikelet covers the base of the next one up, the middle row covers the others.
                order = depths.mean(1, keepdims=True) + 1e-4 * (node - 2.5 * (zigzag == 0)) - 1e-5 * layer
                self.add(
                    (pixels[:, :, None] + unit[..., None, None] * offsets)[:, ::every],
                    ripeness[:, None],
                    outward[:, ::every],
                    gain[:, None] * gain_of_layer,
                    points[:, ::every, 2],
                    order[:, ::every],
                    head=True,
                )


def render_pair(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """Renders one photo of a wheat canopy and the mask of its heads.

    The season (green to ripe), the stand, the camera and the light all come from `seed`. The mask is 1 where at least
    half of a pixel shows a head's body. Awns, the bristles, are not part of the mask; a leaf, a stem or another head's
    awn in front of a head hides it. Blur and sensor noise are added to the image only.

    Args:
        seed: non-negative; the pair is a function of `seed` and `size` alone.
        size: side in pixels.

    Returns:
        The image (RGB) and the mask ("L", 0 background and 1 head), both size x size.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))

    # 1. season, camera, light
    season = rng.uniform(-0.15, 1.15)  # below 0 all is green, above 1 all is straw
    ripe = min(max(season, 0), 1)
    canopy_height, width = rng.uniform(0.65, 0.85), rng.uniform(0.34, 0.46)
    camera = Camera(
        side=size * SUPERSAMPLING,
        target_height=0.8 * canopy_height,
        distance=rng.uniform(0.8, 1.2),
        pitch=rng.uniform(0, 0.75),
        width=width,
    )
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.3)
    heading = np.array([np.cos(azimuth), np.sin(azimuth)])
    scene = Scene(
        camera,
        sun=np.array([*(heading * np.cos(elevation)), np.sin(elevation)]),
        diffuse=rng.uniform(0.3, 0.8),
        canopy_height=canopy_height,
        green=np.array([92, 122, 68]) * rng.normal(1, [0.06, 0.02, 0.08]),
        straw=np.array([206, 176, 118]) * rng.normal(1, [0.03, 0.03, 0.08]),
    )

    # 2. tillers: evenly spread over the image at the height of their tops, their feet drawn toward their row
    count = int(rng.integers(45, 75))
    heights = rng.normal(canopy_height, 0.07, count)
    feet = camera.unproject(camera.side * rng.uniform(-0.15, 1.15, (count, 2)), heights) * [1, 1, 0]
    row_angle, row_distance = rng.uniform(0, np.pi), rng.uniform(0.12, 0.17)
    across_rows = np.array([np.cos(row_angle), np.sin(row_angle), 0])
    place = feet @ across_rows / row_distance
    feet += 0.6 * row_distance * (np.round(place) - place)[:, None] * across_rows
    lean = rng.uniform(0, 2 * np.pi, count)
    ripeness = season + rng.normal(0, 0.13, count)
    vigor = rng.normal(1, 0.12, count).clip(0.7, 1.3)
    stems, across = grow(feet, heights, lean, 1.5, droop=rng.uniform(0, 0.3, count), segments=10)
    thickness = np.full(stems.shape[:2], 0.0045)
    scene.add_ribbons(stems, across, thickness, np.repeat(ripeness[:, None], 11, 1), vigor, fold=-0.7)

    # 3. leaves: four on a stem; the lower and the tips ripen first, and shrivel
    tiller, node = np.repeat(np.arange(count), 4), np.tile([3, 5, 7, 9], count)
    leaves = len(tiller)
    points, across = grow(
        stems[tiller, node],
        length=rng.uniform(0.14, 0.3, leaves) * (1 - 0.2 * ripe),
        azimuth=rng.uniform(0, 2 * np.pi, leaves),
        elevation=rng.uniform(0.6, 1.4, leaves) - 0.3 * ripe,
        droop=rng.uniform(0.3, 2.2, leaves) + 0.5 * ripe,
        sway=rng.normal(0, 0.4, leaves),
        twist=rng.normal(0, 0.8 + 0.8 * ripe, leaves),
        segments=8,
    )
    u = np.linspace(0, 1, 9)
    widths = rng.uniform(0.009, 0.017, (leaves, 1)) * (1 - 0.35 * ripe) * np.minimum(1, 0.6 + 2 * u) * (1 - u**2.5)
    aging = (ripeness[tiller] + rng.normal(0, 0.12, leaves) + 0.03 * (7 - node))[:, None]
    aging = aging + 0.3 * ripe * (u - 0.4) + rng.normal(0, 0.03, (leaves, 9))
    scene.add_ribbons(
        points,
        across,
        widths,
        aging,
        gain=rng.normal(1, 0.12, leaves).clip(0.7, 1.3),
        fold=rng.uniform(0.15, 0.5),
        stripes=(-1, -0.08, 0.08, 1),
    )

    # 4. heads on some of the tillers, and their awns, which some varieties lack
    heads = min(count, int(rng.gamma(2.2, 11)))
    points, across = grow(
        stems[:heads, -1],
        length=rng.uniform(0.075, 0.11, heads),
        azimuth=lean[:heads],
        elevation=rng.uniform(0.2, 1.3, heads),
        droop=rng.uniform(0.1, 0.9, heads) + ripe * rng.uniform(0, 0.9, heads),
        segments=17,
    )
    tone = vigor[:heads] * rng.normal(1, 0.08, heads)
    scene.add_heads(points, rng.uniform(0.018, 0.023, heads), ripeness[:heads] + 0.05, tone)
    if rng.random() < 0.75:
        head, node = np.repeat(np.arange(heads), 12), np.tile(np.arange(6, 18), heads)
        awns = len(head)
        axis = points[head, node] - points[head, node - 1]
        root = points[head, node] + 2 * axis + across[head, node] * rng.uniform(-0.006, 0.006, (awns, 1))
        awn_points, awn_across = grow(
            root,
            length=rng.uniform(0.03, 0.07) * rng.uniform(0.7, 1.2, awns),
            azimuth=np.arctan2(axis[:, 1], axis[:, 0]) + rng.normal(0, 0.22, awns),
            elevation=np.arctan2(axis[:, 2], np.hypot(axis[:, 0], axis[:, 1])) + rng.normal(0, 0.22, awns),
            droop=0.2,
            segments=2,
        )
        thickness, aging = np.full((awns, 3), 0.0004), np.repeat(ripeness[head, None] + 0.1, 3, 1)
        # Behind their own head, which they would cut to slices.
        scene.add_ribbons(awn_points, awn_across, thickness, aging, tone[head], stripes=(-1, 1), behind=0.05)

    # 5. soil, then everything else from far to near
    clods = sum(np.abs(noise(rng, size, cells)) * cells**-0.5 for cells in (9, 28, 80))
    down, right = np.gradient(clods * size / 256)
    relief = 1 + float(3 / np.tan(elevation)) * (down * np.float32(heading[1]) - right * np.float32(heading[0]))
    earth = (np.array([126, 106, 84]) * rng.normal(1, 0.04, 3) * rng.uniform(0.5, 1)).astype(np.float32)
    soil = (earth * (relief * (0.6 + 0.7 * clods))[..., None]).clip(0, 255).astype(np.uint8)
    canvas = Image.fromarray(soil).resize((camera.side, camera.side), Image.Resampling.NEAREST)
    canvas.putalpha(0)
    draw = ImageDraw.Draw(canvas)
    for i in np.argsort(scene.depths)[::-1]:
        draw.polygon(scene.polygons[i], fill=scene.fills[i])
    alpha = np.asarray(canvas.getchannel("A"))
    mask = np.asarray(Image.fromarray((alpha & 1) * 252).reduce(SUPERSAMPLING)) >= 126
    altitude = Image.fromarray(alpha >> 1).reduce(SUPERSAMPLING)
    image = np.asarray(canvas.convert("RGB").reduce(SUPERSAMPLING))

    # 6. shadows: from each pixel march toward the sun until a leaf or a head crosses the ray; and what lies
    # below its surroundings sees little sky
    ground = np.asarray(altitude, dtype=np.float32) / 127
    shadow = np.zeros((size, size), dtype=bool)
    for rise in np.geomspace(0.02, 0.6, 7):
        dx, dy = (heading * [1, -1] / np.tan(elevation) * rise * size / width).round().astype(int)
        rows, columns = (np.clip(np.arange(size) + d, 0, size - 1) for d in (dy, dx))
        above = ground[rows[:, None], columns] - ground
        shadow |= (above > 0.75 * rise) & (above < 1.35 * rise)
    shadow = np.asarray(Image.fromarray(shadow * np.uint8(255)).filter(ImageFilter.BoxBlur(size / 256)))
    sunk = np.asarray(altitude.filter(ImageFilter.BoxBlur(size / 40)), dtype=np.float32) / 127 - ground
    light = (1 - (1 - scene.diffuse) / 450 * shadow) * (1 - 0.8 * np.clip(sunk, 0, 0.6))
    photo = Image.fromarray((image * light[..., None].astype(np.float32)).astype(np.uint8))

    # 7. the camera: focus on the top of the canopy, exposure, warmth, noise
    blurred = np.asarray(photo.filter(ImageFilter.BoxBlur(size / 200)), dtype=np.float32)
    sharp = np.clip(0.3 + ground / canopy_height, 0, 1)[..., None]
    image = blurred + sharp * (np.asarray(photo) - blurred)
    warmth = rng.normal(0, 0.035)
    exposure = rng.uniform(80, 115) / image.mean() * np.array([1 + warmth, 1, 1 - warmth])
    image *= exposure.astype(np.float32)
    image += rng.standard_normal(image.shape, dtype=np.float32) * (1.5 + 0.03 * image)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8))


@lru_cache
def demo_pairs(split: str = "train") -> Dataset:
    """The demo dataset: 160 train, 40 validation and 40 test pairs of 256 x 256 pixels, in memory.

    Args:
        split: "train", "validation" or "test"; they share no seed.

    Returns:
        A dataset with the columns `image` (RGB) and `mask` ("L", 0 background and 1 head). It is rendered on the
        first call, in a few seconds, and kept for the life of the process.

    Raises:
        InputError: `split` is none of the three.
    """
    if split not in SPLIT_SEEDS:
        raise InputError(f"the demo dataset has no split {split!r}; use one of {', '.join(SPLIT_SEEDS)}.")
    rows: dict[str, list] = {"image": [], "mask": []}
    for seed in SPLIT_SEEDS[split]:
        for column, image in zip(rows, render_pair(seed), strict=True):
            png = io.BytesIO()
            image.save(png, "PNG", compress_level=1)
            rows[column].append({"bytes": png.getvalue(), "path": None})
    return Dataset.from_dict(rows, features=Features({"image": ImageFeature(), "mask": ImageFeature()}))
