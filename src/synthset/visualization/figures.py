"""Figures that compare a generated set of pairs with a real one, as RGB images."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from ..evaluation.comparison import Comparison, PairSet
from ..evaluation.fidelity import choose
from ..evaluation.objects import Objects, measure_objects
from .previews import pair_grid

SHOWN = 16  # pairs in a grid
TILE = 128  # side in pixels of an image in a grid
REAL, GENERATED, COPY = "tab:blue", "tab:orange", "tab:gray"
CELLS = 14  # grid cells along an axis, with at most one thumbnail per cell


def to_image(figure: Figure) -> Image.Image:
    """Renders `figure` without pyplot and its global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def panels(number: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Creates a figure with `number` plots in a row, 10.4 inches wide and `height` inches high."""
    figure = Figure(figsize=(10.4, height), dpi=150, layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, number)))


def step_histograms(axes: Axes, values: dict[str, tuple[np.ndarray, str]], bins: np.ndarray, unit: str) -> None:
    """Plots the histogram of each set of values, label -> (values, color), as an outline in percent."""
    for label, (numbers, color) in values.items():
        weights = np.full(len(numbers), 100 / max(1, len(numbers)))
        axes.hist(numbers, bins.tolist(), weights=weights, histtype="step", linewidth=1.6, color=color, label=label)
    axes.set_ylabel(f"% of {unit}")
    axes.legend(frameon=False)


def plot_colors(real: np.ndarray, generated: np.ndarray) -> Image.Image:
    """Plots histograms of R, G and B of two sets of images, (N, H, W, 3) uint8."""
    figure, plots = panels(3)
    for channel, (axes, name) in enumerate(zip(plots, ("red", "green", "blue"), strict=True)):
        for label, images, color in (("real", real, REAL), ("generated", generated, GENERATED)):
            counts = np.bincount(images[..., channel].ravel(), minlength=256)
            axes.stairs(100 * counts / counts.sum(), np.arange(257), color=color, linewidth=1.2, label=label)
        axes.set(xlabel=f"{name}, 0 to 255", ylabel="% of pixels")
        axes.legend(frameon=False)
    return to_image(figure)


def plot_objects(real: Objects, generated: Objects) -> Image.Image:
    """Plots histograms of coverage, of objects per mask, and of object sizes on a logarithmic axis."""
    figure, (coverage, count, size) = panels(3)

    def both(name: str, scale: float = 1) -> dict[str, tuple[np.ndarray, str]]:
        return {
            "real": (getattr(real, name) * scale, REAL),
            "generated": (getattr(generated, name) * scale, GENERATED),
        }

    def highest(name: str) -> float:
        return max(getattr(objects, name).max(initial=0) for objects in (real, generated))

    step_histograms(coverage, both("coverage", 100), np.linspace(0, max(100 * highest("coverage"), 1), 25), "masks")
    coverage.set_xlabel("share of the mask that is object, %")
    width = max(1, -(-int(highest("count")) // 25))  # whole numbers, 25 bars or so
    step_histograms(count, both("count"), np.arange(0, highest("count") + 2 * width, width) - 0.5, "masks")
    count.set_xlabel("objects in a mask")
    sizes = np.concatenate([real.size, generated.size, [0.01]]) * 100
    step_histograms(size, both("size", 100), np.geomspace(sizes.min() / 1.1, sizes.max() * 1.1, 25), "objects")
    size.set(xlabel="size of an object, % of the image", xscale="log")
    size.xaxis.set_major_formatter("{x:g}")
    return to_image(figure)


def plot_embeddings(
    real: np.ndarray,
    generated: np.ndarray,
    real_images: np.ndarray,
    generated_images: np.ndarray,
    variance: list[float],
) -> Image.Image:
    """Plots the projection of `principal_components`, as points and as thumbnails (SynthSet, figure 9)."""
    figure, (points, *sprites) = panels(3, height=3.9)
    places = np.concatenate([real, generated])
    low, high = places.min(0), places.max(0)
    margin = 0.06 * (high - low) + 1e-9
    points.scatter(real[:, 0], real[:, 1], s=9, color=REAL, alpha=0.6, linewidths=0, label="real")
    points.scatter(generated[:, 0], generated[:, 1], s=9, color=GENERATED, alpha=0.6, linewidths=0, label="generated")
    points.legend(frameon=False)
    points.set(title="both", ylabel=f"axis 2, {variance[1]:.0%} of the variance")
    shown = zip(sprites, ("real", "generated"), (real, generated), (real_images, generated_images), strict=True)
    for axes, title, where, images in shown:
        axes.set_title(title)
        cells = ((where - low) / (high - low + 1e-9) * CELLS).astype(int)
        _, first = np.unique(cells, axis=0, return_index=True)
        for i in first:
            sprite = np.asarray(Image.fromarray(images[i]).resize((24, 24), Image.Resampling.BOX))
            axes.add_artist(AnnotationBbox(OffsetImage(sprite, zoom=0.65), where[i], frameon=False, pad=0))
    for axes in (points, *sprites):
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes.set(xticks=[], yticks=[], xlabel=f"axis 1, {variance[0]:.0%} of the variance")
    return to_image(figure)


def plot_copies(generated: np.ndarray, real: np.ndarray, copies: np.ndarray) -> Image.Image:
    """Plots histograms of the ratios of `copy_ratios`, clipped at 3, of generated images, of real images and of new
    crops of the real photos."""
    figure, (axes,) = panels(1)
    values = {
        "generated": (np.minimum(generated, 3), GENERATED),
        "real, to other photos": (np.minimum(real, 3), REAL),
        "new crops of the real photos: where copies would be": (np.minimum(copies, 3), COPY),
    }
    step_histograms(axes, values, np.linspace(0, 3, 49), "images")
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("ratio: distance to the nearest real image / median distance between real photos (3: or more)")
    return to_image(figure)


def show_pairs(
    images: Iterable[np.ndarray], masks: Iterable[np.ndarray], captions: list[str] | None = None
) -> Image.Image:
    """Lays out arrays as a `pair_grid`."""
    image_list, mask_list = ([Image.fromarray(array) for array in arrays] for arrays in (images, masks))
    return pair_grid(image_list, mask_list, tile=TILE, captions=captions)


def draw_figures(real: PairSet, generated: PairSet, comparison: Comparison, seed: int = 0) -> dict[str, Image.Image]:
    """Draws all figures of the report: `generated` and `real` pairs chosen with `seed`, `colors`, `objects`,
    `embeddings`, `copies`, and `closest`, the generated pairs with the lowest ratios, each followed by its nearest real
    pair."""
    some_generated, some_real = (pairs.take(choose(pairs.photos, SHOWN, seed)) for pairs in (generated, real))
    ratios, nearest = comparison.ratios, comparison.nearest
    closest = np.argsort(ratios, kind="stable")[:SHOWN]
    images = [image for i in closest for image in (generated.images[i], real.images[nearest[i]])]
    masks = [mask for i in closest for mask in (generated.masks[i], real.masks[nearest[i]])]
    captions = [text for i in closest for text in (f"generated, {ratios[i]:.2f}", "real")]
    return {
        "generated": show_pairs(some_generated.images, some_generated.masks),
        "real": show_pairs(some_real.images, some_real.masks),
        "colors": plot_colors(real.images, generated.images),
        "objects": plot_objects(measure_objects(real.masks), measure_objects(generated.masks)),
        "embeddings": plot_embeddings(
            comparison.real_places,
            comparison.generated_places,
            real.images,
            generated.images,
            comparison.numbers["variance"],
        ),
        "copies": plot_copies(ratios, comparison.real_ratios, comparison.fresh_ratios),
        "closest": show_pairs(images, masks, captions),
    }
