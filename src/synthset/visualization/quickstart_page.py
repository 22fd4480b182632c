"""HTML page of `synthset quickstart`: pairs before and after fine-tuning, and what they are worth."""

from collections.abc import Mapping, Sequence

from datasets import Dataset
from PIL import Image
from torchvision.transforms.v2 import functional as F

from .figures import panels, to_image
from .page import Section, render_html
from .previews import pair_grid

SHOWN = 16  # pairs in a grid
SCORES = {"dice": "Dice", "iou": "IoU", "boundary_f1": "boundary F1"}


def plot_losses(metrics: Sequence[Mapping[str, float]]) -> Image.Image:
    """Plots the training and validation losses in the entries of `metrics.jsonl` over the optimizer steps."""
    figure, (axes,) = panels(1)
    for name, label, marker in (
        ("loss", "photos that it learns from", ""),
        ("validation_loss", "held-out photos", "o"),
    ):
        points = [(entry["step"], entry[name]) for entry in metrics if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, label=label)
    axes.set(xlabel="optimizer step", ylabel="loss")
    axes.legend(frameon=False)
    return to_image(figure)


def score_table(results: Mapping[str, Mapping], trained_on: Mapping[str, str]) -> list[list[str]]:
    """Rows of what a segmenter was trained on and its scores, 0 to 1, with a header.

    Args:
        results: contents of `results.json`, by the same names as `trained_on`.
        trained_on: name -> what is written in the first cell.
    """
    rows = [["segmenter trained on", *SCORES.values()]]
    for name, words in trained_on.items():
        spread = [results[name].get(f"{score}_std") for score in SCORES]
        errors = ["" if std is None else f" ± {std:.3f}" for std in spread]
        rows.append([words, *(f"{results[name][s]:.3f}{e}" for s, e in zip(SCORES, errors, strict=True))])
    return rows


def grid(pairs: Dataset, crop_size: int | None = None) -> Image.Image:
    """Lays out the first pairs, or squares of `crop_size` pixels in their middles."""
    first = pairs[:SHOWN]
    images, masks = first["image"], first["mask"]
    if crop_size is not None:
        images, masks = ([F.center_crop(picture, [crop_size]) for picture in pictures] for pictures in (images, masks))
    return pair_grid(images, masks, tile=128)


def render_quickstart_page(
    photos: Dataset,
    before: Dataset,
    pairs: Dataset,
    losses: Image.Image,
    predictions: Image.Image,
    scores: list[list[str]],
    tested_on: int,
    model: str,
    crop_size: int,
    commands: Sequence[str],
) -> str:
    """Renders the page as HTML with embedded figures.

    Args:
        photos: pairs that the model learned from.
        before: pairs that it drew before that.
        pairs: pairs that it drew after that.
        losses: of [`plot_losses`].
        predictions: test photos, their masks and what a segmenter found.
        scores: of [`score_table`].
        tested_on: number of test photos.
        model: name of the model that was fine-tuned.
        crop_size: side of the squares that it saw of the photos, in pixels.
        commands: the command lines that made everything.
    """
    sections = [
        Section(
            "The photos",
            text=[
                f"Squares of {crop_size} pixels, as the model sees them, of {len(photos)} photos. Rows: image, mask, "
                "and the mask on the image."
            ],
            figures={"photos": "Photos"},
        ),
        Section(
            "Before",
            text=[f"Drawn by {model} before it had seen any of them."],
            figures={"before": "Pairs without fine-tuning"},
        ),
        Section(
            "After",
            good="objects have the shapes of those in the photos, and every mask covers its object.",
            text=["Drawn after it had learned from the photos. None of these images was taken by a camera."],
            figures={"pairs": "Generated pairs", "losses": "How it learned: the loss, less is better"},
        ),
        Section(
            "What the pairs are worth",
            good="the pairs alone come near the photos, or both together are above them.",
            text=[f"Scores on {tested_on} test photos that no model has seen, 0 to 1, more is better."],
            tables=[scores],
            figures={"predictions": "Test photos and what the segmenter trained on both finds in them"},
        ),
    ]
    figures = {"photos": grid(photos, crop_size), "before": grid(before), "pairs": grid(pairs)}
    figures |= {"losses": losses, "predictions": predictions}
    introduction = [f"From {len(photos)} photos to {len(pairs)} image-mask pairs that a model drew."]
    return render_html("SynthSet quickstart", introduction, [], sections, figures, "\n".join(commands))
