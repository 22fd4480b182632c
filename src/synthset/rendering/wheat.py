"""A wheat canopy at any season, whose heads are the objects."""

import numpy as np
from PIL import Image

from .scene import SUPERSAMPLING, Camera, Scene, grow, tilled_soil

# A spikelet's outline, (along, across) its axis in its lengths, base at the origin: a drop, its point away from the
# stem.
SPIKELET = np.array([(0, -0.1), (0.3, -0.25), (0.65, -0.21), (1, 0), (0.65, 0.21), (0.3, 0.25), (0, 0.1)])


def add_heads(scene: Scene, points: np.ndarray, spikelets: np.ndarray, ripeness: np.ndarray, gain: np.ndarray) -> None:
    """Heads' bodies: a spikelet at every node of N curves (N, S + 1, 3), left and right in turn like a
    herringbone, and a row of them down the middle. `spikelets`, their lengths in meters, `ripeness` and `gain`
    are (N,)."""
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
            x, y = SPIKELET.T * size + [[(1 - size) / 2], [0]]
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


def render_wheat(seed: int, size: int = 256) -> tuple[Image.Image, Image.Image]:
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
    scene = Scene(
        camera,
        azimuth=azimuth,
        elevation=elevation,
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
    add_heads(scene, points, rng.uniform(0.018, 0.023, heads), ripeness[:heads] + 0.05, tone)
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

    return scene.photograph(size, tilled_soil(scene, size, rng, brightness=(0.5, 1)), rng)
