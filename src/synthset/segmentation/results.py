"""How good a segmenter is, and what it leaves for others to see and use."""

import json
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import to_pil_image

from ..evaluation.segmentation_metrics import BoundaryF1, Dice, IoU
from ..previews import pair_grid
from .data import TestTiles
from .segmenter import Segmenter


@torch.no_grad()
def score(
    model: torch.nn.Module, loader: DataLoader, accelerator: Accelerator, threshold: float, ignore_empty: bool
) -> dict[str, float | int]:
    """Tests a segmenter, the tiles shared out over the processes; the same for every process.

    Args:
        model: a [`Segmenter`] as `accelerator` prepared it.
        loader: of [`TestTiles`], as `accelerator` prepared it.
        threshold: probability above which a pixel is the object.
        ignore_empty: as in the metrics.

    Returns:
        `dice`, `iou`, `dice_per_image`, `iou_per_image`, `boundary_f1`, `n_images` and `n_empty`, an image being a
        tile of `resolution` pixels a side.
    """
    metrics = (Dice(), IoU(), BoundaryF1())
    model.eval()
    for images, masks in loader:
        found = (model(images).sigmoid() > threshold).to(masks.dtype)
        found, masks = (x[:, 0].cpu().numpy() for x in accelerator.gather_for_metrics((found, masks)))
        for metric in metrics:
            metric.add_batch(predictions=found, references=masks)
    scores = [metric.compute(ignore_empty=ignore_empty) for metric in metrics]
    return {name: value for part in scores for name, value in part.items()}


@torch.no_grad()
def prediction_grid(segmenter: Segmenter, tiles: TestTiles, count: int = 8) -> Image.Image:
    """The first `count` tiles with an object, each with its real mask and beside it with the predicted one."""
    images, real = zip(*islice((tile for tile in tiles if tile[1].any()), count), strict=True)
    logits = segmenter.eval()(torch.stack(images).to(segmenter.mean.device))
    found = (logits.sigmoid() > segmenter.threshold).cpu().to(torch.uint8)
    masks = [to_pil_image(mask) for pair in zip(real, found, strict=True) for mask in pair]
    twice = [to_pil_image(image) for image in images for _ in range(2)]
    return pair_grid(twice, masks, captions=["real", "predicted"] * len(images))


def save(folder: Path, segmenter: Segmenter, tiles: TestTiles, results: dict) -> None:
    """Writes a trained segmenter with `results.json` and `predictions.png`.

    Args:
        folder: an existing folder.
        results: scores with `seed`, and after every stage under `stages`.
    """
    segmenter.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    prediction_grid(segmenter, tiles).save(folder / "predictions.png")
