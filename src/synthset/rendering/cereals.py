"""Canopies of cereals at any season, whose heads are the objects."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .scene import BROWN, SUPERSAMPLING, Camera, Range, Scene, Sensor, grow, tilled_soil


@dataclass(frozen=True)
class Cereal:
    """A stand of a cereal and how it is photographed. The defaults are wheat.

    A range is drawn from evenly, once a photo or once a plant; lengths are in meters, angles in radians. For a cereal
    that is more than a meter high, all lengths are in two meters.

    Args:
        season: 0 is the end of green, 1 the beginning of all straw.
        height: of the canopy.
        tillers: stems in view.
        heads: shape and scale of the gamma distribution of the heads in view.
        leaf_width: widest place of a leaf.
        head: length of a head.
        panicle: radius of a head that is a panicle, a crowd of grains, over its length; 0 for a spike of spikelets.
        earliness: how much riper than the rest of the plant heads are; of spikes, the lowest value.
        spikelet: length of a spikelet, or of a grain of a panicle.
        slenderness: width of a spikelet over that of wheat.
        nodding: how far a ripe head bends down.
        awned: share of photos with awns, the bristles.
        awn: their length.
        green: color (3,) of unripe plants, 0..255.
        straw: color (3,) of ripe ones.
        soil: color (3,) of the soil, 0..255.
        soil_brightness: factor on it.
        view: width of what the camera sees.
        distance: from the camera to the heads.
        pitch: of the camera, 0 looks straight down.
        sun: its elevation.
        diffuse: share of the light that comes from the whole sky, 0..1.
        sensor: of the camera.
    """

    season: Range = (-0.15, 1.15)
    height: Range = (0.65, 0.85)
    tillers: tuple[int, int] = (45, 75)
    heads: tuple[float, float] = (2.2, 11)
    leaf_width: Range = (0.009, 0.017)
    head: Range = (0.075, 0.11)
    panicle: Range = (0, 0)
    earliness: Range = (0.05, 0.05)
    spikelet: Range = (0.018, 0.023)
    slenderness: float = 1.0
    nodding: Range = (0, 0.9)
    awned: float = 0.75
    awn: Range = (0.03, 0.07)
    green: tuple[float, float, float] = (92, 122, 68)
    straw: tuple[float, float, float] = (206, 176, 118)
    soil: tuple[float, float, float] = BROWN
    soil_brightness: Range = (0.5, 1)
    view: Range = (0.34, 0.46)
    distance: Range = (0.8, 1.2)
    pitch: Range = (0, 0.75)
    sun: Range = (0.6, 1.3)
    diffuse: Range = (0.3, 0.8)
    sensor: Sensor = Sensor()


WHEAT = Cereal()

# One field, as one would photograph it on one evening: two-row barley before harvest on red soil, by a phone. Nothing
# that `any_cereal` grows has so slender heads, so long awns, so red a soil, or so warm a light.
BARLEY = Cereal(
    season=(0.45, 0.75),
    height=(0.6, 0.75),
    heads=(6, 4),
    head=(0.07, 0.1),
    spikelet=(0.018, 0.021),
    slenderness=0.7,
    nodding=(0.5, 1.6),
    awned=1.0,
    awn=(0.1, 0.14),
    green=(112, 120, 56),
    straw=(222, 186, 104),
    soil=(150, 84, 56),
    view=(0.3, 0.36),
    pitch=(0.2, 0.6),
    sun=(0.4, 0.6),
    diffuse=(0.3, 0.5),
    sensor=Sensor(exposure=(95, 125), warmth=(0.14, 0.02), noise=1.8, blur=0.002, vignette=0.3),
)

# Another field: grain sorghum, whose red heads ripen above green leaves. In units of two meters.
SORGHUM = Cereal(
    season=(-0.1, 0.25),
    height=(0.5, 0.7),
    tillers=(16, 26),
    heads=(8, 1.6),
    leaf_width=(0.026, 0.042),
    head=(0.09, 0.14),
    panicle=(0.16, 0.26),
    earliness=(0.5, 1.0),
    spikelet=(0.0045, 0.006),
    nodding=(0, 0.5),
    awned=0.0,
    green=(84, 122, 62),
    straw=(178, 100, 62),
    soil=(120, 96, 70),
    view=(0.36, 0.46),
    distance=(0.8, 1.1),
    pitch=(0.1, 0.6),
)

# A spikelet's outline, (along, across) its axis in its lengths, base at the origin: a drop, its point away from the
# stem.
SPIKELET = np.array([(0, -0.1), (0.3, -0.25), (0.65, -0.21), (1, 0), (0.65, 0.21), (0.3, 0.25), (0, 0.1)])


def add_heads(
    scene: Scene,
    points: np.ndarray,
    spikelets: np.ndarray,
    ripeness: np.ndarray,
    gain: np.ndarray,
    slenderness: float = 1.0,
) -> None:
    """Heads' bodies: a spikelet at every node of N curves (N, S + 1, 3), left and right in turn like a
    herringbone, and a row of them down the middle. `spikelets`, their lengths in meters, `ripeness` and `gain`
    are (N,); `slenderness` is a spikelet's width over that of wheat."""
    node = np.arange(points.shape[1])
    u = node / node[-1]
    pixels, depths = scene.camera.project(points)
    scale = scene.camera.focal / depths
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
            x, y = SPIKELET.T * [[size], [size * slenderness]] + [[(1 - size) / 2], [0]]
            x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle) + angle / 3
            offsets = x[..., None] * along[:, :, None] + y[..., None] * aside[:, :, None]
            outward = 0.75 * (zigzag[:, None] * aside) @ scene.camera.axes[:2] - 0.66 * scene.camera.axes[2]
            # A spikelet covers the base of the next one up, the middle row covers the others.
            order = depths.mean(1, keepdims=True) + 1e-4 * (node - 2.5 * (zigzag == 0)) - 1e-5 * layer
            scene.add(
                (pixels[:, :, None] + unit[..., None, None] * offsets)[:, ::every],
                ripeness[:, None],
                outward[:, ::every],
                gain[:, None] * gain_of_layer,
                points[:, ::every, 2],
                order[:, ::every],
                is_object=True,
            )


def add_panicles(
    scene: Scene,
    rng: np.random.Generator,
    points: np.ndarray,
    radii: np.ndarray,
    grains: np.ndarray,
    ripeness: np.ndarray,
    gain: np.ndarray,
) -> None:
    """Heads' bodies: grains all around N curves (N, S + 1, 3), widest below their middle. `radii` and `grains`, the
    lengths of grains, in meters, `ripeness` and `gain` are (N,)."""
    heads, segments, count = len(points), points.shape[1] - 1, 700
    place = rng.uniform(0, 1, (heads, count))
    node = (place * segments).astype(int).clip(max=segments - 1)
    row = np.arange(heads)[:, None]
    along = points[row, node + 1] - points[row, node]
    center = points[row, node] + (place * segments - node)[..., None] * along
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    aside = np.cross(along, [0.0, 0.0, 1.0]) + 1e-6
    aside /= np.linalg.norm(aside, axis=-1, keepdims=True)
    angle = rng.uniform(0, 2 * np.pi, (heads, count, 1))
    outward = np.cos(angle) * aside + np.sin(angle) * np.cross(aside, along)
    # The first ones are branches within, large and dark, through which nothing shows.
    within = np.arange(count) < 80
    radius = radii[:, None] * np.sin(np.pi * place**0.75) ** 0.6
    center += (radius * np.where(within, 0.4, rng.uniform(0.8, 1, (heads, count))))[..., None] * outward
    pixels, depths = scene.camera.project(center)
    size_of = np.where(within, 0.45 * radius, grains[:, None] * rng.uniform(0.4, 0.55, (heads, count)))
    unit = scene.camera.focal / depths * size_of
    turn = np.arange(8) * np.pi / 4
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    tone = gain[:, None] * np.where(within, 0.6, rng.normal(1, 0.1, (heads, count)).clip(0.7, 1.3))
    # The dark gap around a grain, the grain, the light on its back.
    for layer, (size, gain_of_layer) in enumerate(((1.25, 0.5), (1, 1), (0.45, 1.3))):
        corners = pixels[:, :, None] + (size * unit)[..., None, None] * circle
        order = depths - 1e-4 * layer
        scene.add(corners, ripeness[:, None], outward, tone * gain_of_layer, center[..., 2], order, is_object=True)


def add_leaves(
    scene: Scene, rng: np.random.Generator, cereal: Cereal, stems: np.ndarray, ripeness: np.ndarray, ripe: float
) -> None:
    """Four leaves on each of N stems (N, S + 1, 3) of `ripeness` (N,), in a stand whose ripeness is `ripe`, 0 to 1.
    The lower ones and the tips ripen first, and shrivel."""
    tiller, node = np.repeat(np.arange(len(stems)), 4), np.tile([3, 5, 7, 9], len(stems))
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
    widths = (
        rng.uniform(*cereal.leaf_width, (leaves, 1)) * (1 - 0.35 * ripe) * np.minimum(1, 0.6 + 2 * u) * (1 - u**2.5)
    )
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


def add_awns(
    scene: Scene,
    rng: np.random.Generator,
    cereal: Cereal,
    points: np.ndarray,
    across: np.ndarray,
    ripeness: np.ndarray,
    tone: np.ndarray,
) -> None:
    """Twelve awns on each of N heads along curves (N, S + 1, 3); `ripeness` and `tone` are (N,) or longer."""
    head, node = np.repeat(np.arange(len(points)), 12), np.tile(np.arange(6, 18), len(points))
    awns = len(head)
    axis = points[head, node] - points[head, node - 1]
    root = points[head, node] + 2 * axis + across[head, node] * rng.uniform(-0.006, 0.006, (awns, 1))
    awn_points, awn_across = grow(
        root,
        length=rng.uniform(*cereal.awn) * rng.uniform(0.7, 1.2, awns),
        azimuth=np.arctan2(axis[:, 1], axis[:, 0]) + rng.normal(0, 0.22, awns),
        elevation=np.arctan2(axis[:, 2], np.hypot(axis[:, 0], axis[:, 1])) + rng.normal(0, 0.22, awns),
        droop=0.2,
        segments=2,
    )
    thickness, aging = np.full((awns, 3), 0.0004), np.repeat(ripeness[head, None] + 0.1, 3, 1)
    # Behind their own head, which they would cut to slices.
    scene.add_ribbons(awn_points, awn_across, thickness, aging, tone[head], stripes=(-1, 1), behind=0.05)


def photograph_canopy(rng: np.random.Generator, cereal: Cereal, size: int) -> tuple[Image.Image, Image.Image]:
    """Renders one photo of a canopy and the mask of its heads, both size x size.

    The mask is 1 where at least half of a pixel shows a head's body. Awns are not part of the mask; a leaf, a stem or
    another head's awn in front of a head hides it. Blur and sensor noise are added to the image only.
    """
    # 1. season, camera, light
    season = rng.uniform(*cereal.season)
    ripe = min(max(season, 0), 1)
    canopy_height, width = rng.uniform(*cereal.height), rng.uniform(*cereal.view)
    camera = Camera(
        side=size * SUPERSAMPLING,
        target_height=0.8 * canopy_height,
        distance=rng.uniform(*cereal.distance),
        pitch=rng.uniform(*cereal.pitch),
        width=width,
    )
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(*cereal.sun)
    scene = Scene(
        camera,
        azimuth=azimuth,
        elevation=elevation,
        diffuse=rng.uniform(*cereal.diffuse),
        canopy_height=canopy_height,
        green=np.array(cereal.green) * rng.normal(1, [0.06, 0.02, 0.08]),
        straw=np.array(cereal.straw) * rng.normal(1, [0.03, 0.03, 0.08]),
    )

    # 2. tillers: evenly spread over the image at the height of their tops, their feet drawn toward their row
    count = int(rng.integers(*cereal.tillers))
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

    add_leaves(scene, rng, cereal, stems, ripeness, ripe)

    # 3. heads on some of the tillers, and their awns, which some varieties lack
    heads = min(count, int(rng.gamma(*cereal.heads)))
    points, across = grow(
        stems[:heads, -1],
        length=rng.uniform(*cereal.head, heads),
        azimuth=lean[:heads],
        elevation=rng.uniform(0.2, 1.3, heads),
        droop=rng.uniform(0.1, 0.9, heads) + ripe * rng.uniform(*cereal.nodding, heads),
        segments=17,
    )
    tone = vigor[:heads] * rng.normal(1, 0.08, heads)
    spikelets = rng.uniform(*cereal.spikelet, heads)
    if cereal.panicle[1]:
        radii = np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1) * rng.uniform(*cereal.panicle, heads)
        add_panicles(scene, rng, points, radii, spikelets, ripeness[:heads] + rng.uniform(*cereal.earliness), tone)
    else:
        add_heads(scene, points, spikelets, ripeness[:heads] + cereal.earliness[0], tone, cereal.slenderness)
    if rng.random() < cereal.awned:
        add_awns(scene, rng, cereal, points, across, ripeness, tone)

    soil = tilled_soil(scene, size, rng, cereal.soil_brightness, cereal.soil)
    return scene.photograph(size, soil, rng, cereal.sensor)


def any_cereal(rng: np.random.Generator) -> Cereal:
    """A variety, a soil and a camera between those of wheat and well beyond them."""

    def around(wheat: Range, lowest: float, highest: float) -> Range:
        factor = rng.uniform(lowest, highest)
        return wheat[0] * factor, wheat[1] * factor

    def tinted(color: tuple[float, float, float], deviation: float) -> tuple[float, float, float]:
        red, green, blue = np.array(color) * rng.normal(1, deviation, 3).clip(0.75, 1.3)
        return red, green, blue

    return Cereal(
        height=around(WHEAT.height, 0.8, 1.4),
        heads=(2.2, rng.uniform(8, 18)),
        leaf_width=around(WHEAT.leaf_width, 0.7, 1.6),
        head=around(WHEAT.head, 0.75, 1.3),
        spikelet=around(WHEAT.spikelet, 0.85, 1.3),
        slenderness=rng.uniform(0.75, 1.25),
        nodding=(0, rng.uniform(0, 1.5)),
        awned=0.6,
        awn=around(WHEAT.awn, 0.5, 1.2),
        green=tinted(WHEAT.green, 0.08),
        straw=tinted(WHEAT.straw, 0.06),
        soil=tinted(WHEAT.soil, 0.06),
        soil_brightness=(0.4, 1.3),
        view=around(WHEAT.view, 0.8, 1.5),
        pitch=(0, 0.8),
        sun=(0.5, 1.45),
        diffuse=(0.2, 1),
        sensor=Sensor(
            exposure=(65, 140),
            warmth=(0, 0.04),
            noise=rng.uniform(0.3, 2),
            blur=max(0, rng.uniform(-0.003, 0.003)),
            vignette=max(0, rng.uniform(-0.3, 0.3)),
        ),
    )


def render_wheat(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """Renders one photo of a wheat canopy and the mask of its heads.

    The season (green to ripe), the stand, the camera and the light all come from `seed`.

    Args:
        seed: non-negative; the pair is a function of `seed` and `size` alone.
        size: side in pixels.

    Returns:
        The image (RGB) and the mask ("L", 0 background and 1 head), both size x size.
    """
    return photograph_canopy(np.random.default_rng(np.random.SeedSequence(seed)), WHEAT, size)


def render_cereals(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """[`render_wheat`] of another variety on another soil by another camera for each seed."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))
    return photograph_canopy(rng, any_cereal(rng), size)


def render_sorghum(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """[`render_wheat`] of one field of sorghum, whose heads are panicles, which `render_cereals` has none of."""
    return photograph_canopy(np.random.default_rng(np.random.SeedSequence((seed, 4))), SORGHUM, size)


def render_barley(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
    """[`render_wheat`] of one field of barley, which is like nothing that `render_cereals` renders."""
    return photograph_canopy(np.random.default_rng(np.random.SeedSequence((seed, 3))), BARLEY, size)
