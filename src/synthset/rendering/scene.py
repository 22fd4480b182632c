"""A scene in front of a camera, as polygons, and the photo and the mask of it.

Plants stand on soil at height 0, z up, under a pinhole camera. Every organ is a curve in space that becomes polygons;
the polygons are sorted by their distance to the camera and painted from far to near on one RGBA canvas at twice the
final size. The canvas' alpha channel is the visibility buffer: its lowest bit says "object", the other seven hold the
height above the soil, from which the shadows are cast. A pixel's label is thus what was painted there last, in the same
stroke as its color.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 2
Array = float | np.ndarray
Range = tuple[float, float]  # lowest and highest value


@dataclass(frozen=True)
class Sensor:
    """A camera's treatment of the light, apart from where it stands.

    Args:
        exposure: mean brightness of a photo, 0..255.
        warmth: mean and deviation of the white balance; 0.1 is 10 % more red and 10 % less blue.
        noise: factor on the sensor's noise.
        blur: radius by which the whole photo is blurred, as a share of its side.
        vignette: share of the light that the corners lack.
    """

    exposure: Range = (80, 115)
    warmth: tuple[float, float] = (0, 0.035)
    noise: float = 1.0
    blur: float = 0.0
    vignette: float = 0.0


class Camera:
    """A pinhole camera that looks at (0, 0, `target_height`) from `distance` meters away, `pitch` radians off the
    vertical, and sees `width` meters there on a canvas of `side` pixels."""

    def __init__(self, side: int, target_height: float, distance: float, pitch: float, width: float):
        sin, cos = np.sin(pitch), np.cos(pitch)
        self.side, self.width, self.focal = side, width, side * distance / width
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
    """Plants in front of a camera, as polygons with a color, a height and a distance each. Lengths are in meters, or in
    another unit in which plants are less than one high.

    Args:
        camera: where it is seen from.
        azimuth: of the sun, radians.
        elevation: of the sun, radians.
        diffuse: share of the light that comes from the whole sky, 0..1.
        canopy_height: what lies deeper gets less of the sky.
        green: color (3,) of an unripe plant, 0..255.
        straw: color (3,) of a ripe one.
    """

    camera: Camera
    azimuth: float
    elevation: float
    diffuse: float
    canopy_height: float
    green: np.ndarray
    straw: np.ndarray
    polygons: list = field(default_factory=list)
    fills: list = field(default_factory=list)
    depths: list = field(default_factory=list)

    @property
    def heading(self) -> np.ndarray:
        """Unit vector (2,) toward the sun on the ground."""
        return np.array([np.cos(self.azimuth), np.sin(self.azimuth)])

    @property
    def sun(self) -> np.ndarray:
        """Unit vector (3,) toward the sun."""
        return np.array([*(self.heading * np.cos(self.elevation)), np.sin(self.elevation)])

    def add(
        self,
        corners: np.ndarray,
        ripeness: Array,
        normals: np.ndarray,
        gain: Array,
        heights: Array,
        depths: np.ndarray,
        is_object: bool = False,
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
        alpha = np.clip(heights * 127, 0, 127).astype(np.uint8) * np.uint8(2) + np.uint8(is_object)
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
        is_object: bool = False,
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
                is_object,
            )

    def photograph(
        self, size: int, soil: np.ndarray, rng: np.random.Generator, sensor: Sensor | None = None
    ) -> tuple[Image.Image, Image.Image]:
        """Paints the scene on `soil`, uint8 (size, size, 3). Returns the photo (RGB) and the mask ("L", 0 and 1), both
        size x size; a pixel is the object where at least half of it shows it. Blur and noise are the photo's alone."""
        # 1. from far to near
        canvas = Image.fromarray(soil).resize((self.camera.side, self.camera.side), Image.Resampling.NEAREST)
        canvas.putalpha(0)
        draw = ImageDraw.Draw(canvas)
        for i in np.argsort(self.depths)[::-1]:
            draw.polygon(self.polygons[i], fill=self.fills[i])
        alpha = np.asarray(canvas.getchannel("A"))
        mask = np.asarray(Image.fromarray((alpha & 1) * 252).reduce(SUPERSAMPLING)) >= 126
        altitude = Image.fromarray(alpha >> 1).reduce(SUPERSAMPLING)
        image = np.asarray(canvas.convert("RGB").reduce(SUPERSAMPLING))

        # 2. shadows: from each pixel march toward the sun until a leaf crosses the ray; and what lies below its
        # surroundings sees little sky
        ground = np.asarray(altitude, dtype=np.float32) / 127
        shadow = np.zeros((size, size), dtype=bool)
        for rise in np.geomspace(0.02, 0.6, 7):
            away = self.heading * [1, -1] / np.tan(self.elevation) * rise * size / self.camera.width
            dx, dy = away.round().astype(int)
            rows, columns = (np.clip(np.arange(size) + d, 0, size - 1) for d in (dy, dx))
            above = ground[rows[:, None], columns] - ground
            shadow |= (above > 0.75 * rise) & (above < 1.35 * rise)
        shadow = np.asarray(Image.fromarray(shadow * np.uint8(255)).filter(ImageFilter.BoxBlur(size / 256)))
        sunk = np.asarray(altitude.filter(ImageFilter.BoxBlur(size / 40)), dtype=np.float32) / 127 - ground
        light = (1 - (1 - self.diffuse) / 450 * shadow) * (1 - 0.8 * np.clip(sunk, 0, 0.6))
        photo = Image.fromarray((image * light[..., None].astype(np.float32)).astype(np.uint8))

        # 3. the camera: focus on the top of the canopy, exposure, warmth, dark corners, noise
        sensor = sensor or Sensor()
        blurred = np.asarray(photo.filter(ImageFilter.BoxBlur(size / 200)), dtype=np.float32)
        sharp = np.clip(0.3 + ground / self.canopy_height, 0, 1)[..., None]
        image = blurred + sharp * (np.asarray(photo) - blurred)
        warmth = rng.normal(*sensor.warmth)
        exposure = rng.uniform(*sensor.exposure) / image.mean() * np.array([1 + warmth, 1, 1 - warmth])
        image *= exposure.astype(np.float32)
        if sensor.blur:
            soft = Image.fromarray(image.clip(0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(sensor.blur * size))
            image = np.array(soft, dtype=np.float32)
        if sensor.vignette:
            from_middle = np.linspace(-1, 1, size, dtype=np.float32) ** 2
            image *= (1 - sensor.vignette / 2 * (from_middle + from_middle[:, None]))[..., None]
        image += rng.standard_normal(image.shape, dtype=np.float32) * (sensor.noise * (1.5 + 0.03 * image))
        return Image.fromarray(image.clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8))


BROWN = (126, 106, 84)


def tilled_soil(
    scene: Scene, size: int, rng: np.random.Generator, brightness: Range, color: Sequence[float] = BROWN
) -> np.ndarray:
    """Clods in the light of the scene, uint8 (size, size, 3); `color` (3,) in 0..255 at brightness 1."""
    clods = sum(np.abs(noise(rng, size, cells)) * cells**-0.5 for cells in (9, 28, 80))
    down, right = np.gradient(clods * size / 256)
    slope = down * np.float32(scene.heading[1]) - right * np.float32(scene.heading[0])
    relief = 1 + float(3 / np.tan(scene.elevation)) * slope
    earth = (np.array(color) * rng.normal(1, 0.04, 3) * rng.uniform(*brightness)).astype(np.float32)
    return (earth * (relief * (0.6 + 0.7 * clods))[..., None]).clip(0, 255).astype(np.uint8)
