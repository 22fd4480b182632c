"""Scores of a segmenter, and its files for others to see and use."""

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
from ..data.previews import pair_grid
from ..evaluation.segmentation_metrics import count, scores_of, standard_errors
from .data import TestPhotos, tile_boxes
from .segmenter import Segmenter


def score(
    segmenter: Segmenter, photos: TestPhotos, accelerator: Accelerator, batch_size: int, ignore_empty: bool
) -> dict[str, float | int | None]:
    """Tests a segmenter, the photos shared out over the processes; the same for every process and any number of them.

    Every pixel counts once: tiles that overlap are joined before they are scored ([`Segmenter.probabilities`]), at the
    scale of the training data, so a photo of 1024 pixels counts 512 x 512 where 512 become 256.

    Args:
        segmenter: not wrapped for training; the first process's running means and variances are copied to the others.
        photos: the test set.
        batch_size: tiles at once, all of one photo, so that no number depends on which process predicts it.
        ignore_empty: as in [`scores_of`].

    Returns:
        What [`scores_of`] and [`standard_errors`] return, an image being a whole photo.
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
    """The first `number` tiles with an object, each with its real mask and beside it with the predicted one."""

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
