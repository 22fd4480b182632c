"""Testing and saving of segmenters."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from ..console import progress
from ..evaluation.segmentation_metrics import count, scores_of, standard_errors
from ..tiles import tile_boxes
from ..visualization.previews import pair_grid
from .data import TestPhotos
from .segmenter import Segmenter


def score(
    segmenter: Segmenter, photos: TestPhotos, accelerator: Accelerator, batch_size: int, ignore_empty: bool
) -> dict[str, float | int | None]:
    """Tests a segmenter, with photos distributed over processes. The result does not depend on their number.

    Every pixel counts once: overlapping tiles are merged before scoring ([`Segmenter.probabilities`]), at the scale of
    the training data. A photo of 1024 x 1024 pixels thus has 512 x 512 pixels if `crop_size` is 512 and `resolution`
    256.

    Args:
        segmenter: the unwrapped model; running means and variances are broadcast from the first process.
        photos: the test set.
        batch_size: tiles per forward pass, all of one photo, so that results do not depend on the process.
        ignore_empty: as in [`scores_of`].

    Returns:
        The results of [`scores_of`] and [`standard_errors`] over whole photos.
    """
    for buffer in segmenter.buffers():
        broadcast(buffer)
    counted = []
    indices = range(accelerator.process_index, len(photos), accelerator.num_processes)
    for index in progress(indices, "testing", unit="photo", leave=False, delay=1):
        image, mask = photos[index]
        found = segmenter.probabilities(image, batch_size) > segmenter.threshold
        counted.append((index, count(found.numpy(), mask[0].numpy())))
    images = [numbers for _, numbers in sorted(gather_object(counted))]
    return scores_of(images, ignore_empty) | standard_errors(images, ignore_empty)


def prediction_grid(segmenter: Segmenter, photos: TestPhotos, number: int = 8) -> Image.Image:
    """Shows the first `number` tiles with an object, each with its real and its predicted mask."""

    def tiles() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        side = segmenter.resolution
        for image, real in (photos[index] for index in range(len(photos))):
            found = (segmenter.probabilities(image) > segmenter.threshold).to(torch.uint8)[None]
            height, width = image.shape[-2:]
            for top, left in tile_boxes(height, width, side):
                tile = np.s_[:, top : top + side, left : left + side]
                if real[tile].any():
                    yield image[tile], real[tile], found[tile]

    images, real, found = zip(*islice(tiles(), number), strict=True)
    masks = [to_pil_image(mask) for pair in zip(real, found, strict=True) for mask in pair]
    twice = [to_pil_image(image) for image in images for _ in range(2)]
    return pair_grid(twice, masks, captions=["real", "predicted"] * len(images))


def save(folder: Path, segmenter: Segmenter, photos: TestPhotos, results: dict) -> None:
    """Writes a trained segmenter with `results.json` and `predictions.png`.

    Args:
        folder: an existing folder.
        results: scores with `seed`, and after every stage under `stages`.
    """
    segmenter.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    prediction_grid(segmenter, photos).save(folder / "predictions.png")
