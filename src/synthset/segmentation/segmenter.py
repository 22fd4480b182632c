"""Segmentation network of segmentation-models-pytorch (smp) with its preprocessing."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

import numpy as np
import segmentation_models_pytorch as smp
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ..data.scale import scaled_size
from ..errors import InputError
from ..models.memory_format import use_channels_last
from ..pipelines.safety import require_safe_folder, require_safe_repo
from ..sources.reading import Window
from ..tiles import tile_boxes
from .data import IGNORED
from .encoder_weights import Statistics, find_weights, load_encoder

CONFIG = "segmenter.json"
Pixels = TypeVar("Pixels", np.ndarray, torch.Tensor)
BAND = 512  # rows that are predicted of a large image before they are passed on
IMAGENET: Statistics = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Label:
    """Labels of an image.

    Args:
        probability: of the object, float32 (H, W) in [0, 1].
        mask: bool (H, W).
        confidence: expected Dice of the mask, 0 to 1.
    """

    probability: np.ndarray
    mask: np.ndarray
    confidence: float


class Segmenter(torch.nn.Module):
    """Segmentation model: normalization and network, with the sizes and the threshold for prediction.

    Args:
        network: any smp model with three input channels and one class.
        resolution: side in pixels of the training input.
        crop_size: side in pixels of the crop of an image that is resized to `resolution`.
        threshold: probability, 0 to 1, above which a pixel is classified as object.
        image_mean: of R, G and B in [0, 1], by which images are normalized.
        image_std: their standard deviations.
    """

    def __init__(
        self,
        network: smp.base.SegmentationModel,
        resolution: int,
        crop_size: int,
        threshold: float = 0.5,
        image_mean: tuple[float, ...] = IMAGENET["image_mean"],
        image_std: tuple[float, ...] = IMAGENET["image_std"],
    ):
        super().__init__()
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.network, self.resolution, self.crop_size, self.threshold = network, resolution, crop_size, threshold
        self.image_mean, self.image_std = image_mean, image_std
        self.register_buffer("mean", torch.tensor(image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(image_std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes object logits (B, 1, R, R) of uint8 images (B, 3, R, R) in 0..255."""
        return self.network((images / 255 - self.mean) / self.std)

    @torch.no_grad()
    def probabilities(self, image: torch.Tensor, batch_size: int = 16) -> torch.Tensor:
        """Predicts object probabilities from tiles of side `resolution`, averaged where tiles overlap.

        Args:
            image: uint8 (3, H, W) in 0..255 at the scale of the training data, no side below `resolution`.
            batch_size: tiles at once.

        Returns:
            float32 (H, W) in [0, 1], on the CPU. Computed in `eval` mode.
        """
        height, width = image.shape[-2:]
        return torch.cat(list(self.probability_rows(partial(crop, image), (height, width), batch_size)))

    @torch.no_grad()
    def probability_rows(
        self, read: Callable[[Window], torch.Tensor], size: tuple[int, int], batch_size: int = 16
    ) -> Iterator[torch.Tensor]:
        """Predicts as [`probabilities`], and yields finished rows from top to bottom: float32 (n, W).

        Args:
            read: returns a part of the image, uint8 (3, h, w).
            size: height and width of the image.
            batch_size: tiles at once.
        """
        self.eval()
        side, (height, width) = self.resolution, size
        boxes = tile_boxes(height, width, side)
        first, (total, count) = 0, torch.zeros(2, 0, width)  # sums from row `first` on
        for start in range(0, len(boxes), batch_size):
            part = boxes[start : start + batch_size]
            tiles = torch.stack([read(Window(left, top, side, side)) for top, left in part])
            found = self(tiles.to(self.mean.device)).float().sigmoid()[:, 0].cpu()
            begun = torch.zeros(part[-1][0] + side - first - len(total), width)
            total, count = torch.cat([total, begun]), torch.cat([count, begun])
            for (top, left), tile in zip(part, found, strict=True):
                total[top - first :, left : left + side][:side] += tile
                count[top - first :, left : left + side][:side] += 1
            rest = boxes[start + batch_size :]
            finished = (rest[0][0] if rest else height) - first
            if finished:
                yield total[:finished] / count[:finished]
                total, count, first = total[finished:], count[finished:], first + finished

    def predict(self, image: Image.Image, batch_size: int = 16) -> np.ndarray:
        """Predicts object probabilities: resizes the image by the factor `resolution / crop_size`, applies
        [`probabilities`] and resizes the result back.

        Args:
            image: RGB, of any size; if a side is below `crop_size`, the shorter side becomes `resolution`.
            batch_size: tiles at once.

        Returns:
            float32 (H, W) in [0, 1]; the mask is where they exceed `threshold`. Computed in `eval` mode.
        """
        size = image.height, image.width
        return np.concatenate(list(self.predict_rows(partial(crop_image, image), size, batch_size)))

    def label(self, photo: Image.Image, batch_size: int = 16) -> Label:
        """Labels a photo of any size as [`predict`] does."""
        return self._label(self.predict(photo, batch_size))

    def label_scaled(self, image: torch.Tensor, batch_size: int = 16) -> Label:
        """Labels an image at the scale of the training data as [`probabilities`] does."""
        return self._label(self.probabilities(image, batch_size).numpy())

    def _label(self, probability: np.ndarray) -> Label:
        mask = probability > self.threshold
        return Label(probability, mask, confidence(probability, mask))

    def predict_rows(
        self, read: Callable[[Window], Image.Image], size: tuple[int, int], batch_size: int = 16
    ) -> Iterator[np.ndarray]:
        """Predicts as [`predict`] an image that is read by parts, and yields bands of 512 rows (the last one may have
        fewer) from top to bottom: float32 (n, W). Memory grows with the width of the image, not with its height.

        Args:
            read: returns a part of the image, RGB; parts overlap.
            size: height and width of the image.
            batch_size: tiles at once.
        """
        height, width = size
        scaled = scaled_size(height, width, self.resolution, min(self.crop_size, height, width))

        def read_scaled(window: Window) -> torch.Tensor:
            return F.pil_to_tensor(resized_part(read, size, scaled, window))

        first, kept = 0, np.zeros((0, scaled[1]), np.float32)  # probabilities of the resized image from row `first` on

        def read_kept(window: Window) -> Image.Image:
            return Image.fromarray(crop(kept, window._replace(top=window.top - first)))

        tops = iter(range(0, height, BAND))
        top = next(tops, None)
        for rows in self.probability_rows(read_scaled, scaled, batch_size):
            kept = np.concatenate([kept, rows.numpy()])
            while top is not None:
                high = min(BAND, height - top)
                start, stop, _, _ = needed_span(scaled[0], height, top, high)
                if stop > first + len(kept):
                    break
                kept, first = kept[start - first :], start
                windows = [Window(left, top, min(BAND, width - left), high) for left in range(0, width, BAND)]
                yield np.concatenate([resized_part(read_kept, scaled, size, part) for part in windows], axis=1)
                top = next(tops, None)

    def save_pretrained(self, folder: str | Path) -> None:
        """Saves the network in the format of smp (`config.json`, `model.safetensors`, for `smp.from_pretrained`) and
        the other attributes as `segmenter.json`."""
        self.network.save_pretrained(folder)
        names = ("resolution", "crop_size", "threshold", "image_mean", "image_std")
        rest = {name: getattr(self, name) for name in names}
        (Path(folder) / CONFIG).write_text(json.dumps(rest, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, model: str | Path, revision: str | None = None) -> "Segmenter":
        """Loads a segmenter that `save_pretrained` wrote, in `eval` mode.

        Args:
            model: a folder, or the id of such a model on the Hub.
            revision: branch, tag or commit on the Hub; `main` when not given.

        Raises:
            InputError: the folder or the repository holds pickled weights or code.
        """
        folder = find_folder(model, revision)
        # without this argument, smp would download the pretrained encoder weights, only to overwrite them
        network = smp.from_pretrained(folder, encoder_weights=None)
        return cls(use_channels_last(network), **json.loads((Path(folder) / CONFIG).read_text())).eval()


def crop(pixels: Pixels, window: Window) -> Pixels:
    """Part of an array or tensor (..., H, W)."""
    left, top, width, height = window
    return pixels[..., top : top + height, left : left + width]


def crop_image(image: Image.Image, window: Window) -> Image.Image:
    """Part of an image."""
    left, top, width, height = window
    return image.crop((left, top, left + width, top + height))


def resized_part(
    read: Callable[[Window], Image.Image], size: tuple[int, int], new_size: tuple[int, int], window: Window
) -> Image.Image:
    """Part of an image as if all of it were resized: bilinear with antialiasing, as torchvision does.

    Args:
        read: returns a part of the image.
        size: height and width of the image.
        new_size: those after resizing.
        window: part of the resized image.
    """
    top, bottom, above, below = needed_span(size[0], new_size[0], window.top, window.height)
    left, right, before, after = needed_span(size[1], new_size[1], window.left, window.width)
    part = read(Window(left, top, right - left, bottom - top))
    box = before, above, after, below
    return part.resize((window.width, window.height), Image.Resampling.BILINEAR, box)


def needed_span(size: int, new_size: int, start: int, count: int) -> tuple[int, int, float, float]:
    """Finds what new pixels `start` to `start + count` depend on, along a side resized from `size` to `new_size`.

    Returns:
        The first pixel, the one after the last, and where between them the new pixels begin and end.
    """
    scale = size / new_size
    begin, end, reach = start * scale, min((start + count) * scale, size), max(scale, 1)
    first, stop = max(math.floor(begin - reach), 0), min(math.ceil(end + reach), size)
    return first, stop, begin - first, end - first


def find_folder(model: str | Path, revision: str | None = None) -> Path:
    """Returns `model` if it is a folder, else the cached folder of the model from the Hub.

    Raises:
        InputError: the folder or the repository holds pickled weights or code.
    """
    folder = Path(model)
    if not folder.is_dir():
        require_safe_repo(str(model), revision)
        folder = Path(snapshot_download(str(model), revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    require_safe_folder(folder)
    return folder


def build_segmenter(
    arch: str,
    encoder_name: str,
    encoder_weights: str | None,
    resolution: int,
    crop_size: int,
    threshold: float = 0.5,
    batch_size: int | None = None,
) -> Segmenter:
    """Builds a segmenter; weights are initialized by PyTorch's global generator or, for the encoder, downloaded.

    Args:
        arch: as in `smp.create_model`.
        encoder_name: as in `smp.create_model`.
        encoder_weights: as in `smp.create_model`, or as in [`find_weights`]; None starts from scratch.
        resolution: as in [`Segmenter`].
        crop_size: as in [`Segmenter`].
        threshold: as in [`Segmenter`].
        batch_size: training batch size; not checked when not given.

    Raises:
        InputError: smp has no such network or can't load its weights, the weights are of another encoder, or the
            network does not support images or training batches of this size.
    """
    file = None if encoder_weights is None else find_weights(encoder_weights, encoder_name)
    try:
        network = smp.create_model(arch, encoder_name, None if file else encoder_weights, in_channels=3, classes=1)
        statistics = IMAGENET
        if encoder_weights is not None and file is None:
            params = smp.encoders.get_preprocessing_params(encoder_name, encoder_weights)
            statistics = {"image_mean": params["mean"], "image_std": params["std"]}
    except Exception as error:  # smp, timm and the Hub raise several kinds
        raise InputError(
            f"--arch {arch} with --encoder_name {encoder_name} and --encoder_weights {encoder_weights or 'none'} can't "
            f"be built ({shorten(str(error), 200)}); smp.readthedocs.io lists architectures and encoders"
        ) from error
    if file is not None:
        statistics = load_encoder(network.encoder, encoder_name, file, f"--encoder_weights {encoder_weights}")
    segmenter = Segmenter(use_channels_last(network), resolution, crop_size, threshold, **statistics).eval()
    sizes: set[int] = set()  # values per image and channel at batch normalization layers
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda _, x: sizes.add(x[0][0, 0].numel())) for norm in norms]
    try:
        with torch.no_grad():
            segmenter(torch.zeros(1, 3, resolution, resolution, dtype=torch.uint8))
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--resolution is {resolution}, which --arch {arch} with --encoder_name {encoder_name} can't take "
            f"({shorten(str(error), 200)}); most take multiples of 32"
        ) from error
    for hook in hooks:
        hook.remove()
    if batch_size == 1 and 1 in sizes:
        raise InputError(
            f"--batch_size is 1, but --arch {arch} with --encoder_name {encoder_name} at --resolution {resolution} has "
            "batch normalization of single values, which needs several images to train on; give --batch_size 2 or more"
        )
    return segmenter


def begin_with(segmenter: Segmenter, base: Segmenter, flag: str) -> None:
    """Gives a segmenter the weights of another, and its statistics of images.

    Args:
        flag: that `base` comes from and its value, for the message.

    Raises:
        InputError: the two are different networks.
    """
    try:
        segmenter.network.load_state_dict(base.network.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{flag} is a {base.network.name}, and --arch and --encoder_name make a {segmenter.network.name}; give "
            "those of the model"
        ) from error
    segmenter.image_mean, segmenter.image_std = base.image_mean, base.image_std
    segmenter.mean.copy_(base.mean)
    segmenter.std.copy_(base.std)


def load_segmenter(model: str, flag: str = "--model") -> tuple[Segmenter, str]:
    """Loads a trained segmenter, and computes the SHA-256 of its files.

    Args:
        model: its folder, or its id on the Hub.
        flag: name of the flag that `model` comes from, for messages.

    Raises:
        InputError: it can't be loaded.
    """
    try:
        folder = find_folder(model)
        segmenter = Segmenter.from_pretrained(folder)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None
    except Exception as error:  # no such repository, no network, no model in the folder, damaged weights, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{flag} is {model}, which can't be loaded ({reason}); give a folder seed-N that synthset segment "
            "wrote, or the id of such a model on the Hub"
        ) from error
    digest = hashlib.sha256()
    for name in (CONFIG, "config.json", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    return segmenter, digest.hexdigest()


def segmentation_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Soft Dice loss over the batch plus binary cross-entropy (SynthSet, section 3, "Training the Downstream
    Segmentation Models"), a scalar. `logits` and `masks`, in {0, 1, IGNORED}, are (B, 1, H, W); where a mask is
    ignored, neither counts."""
    masks = masks.to(logits.dtype)
    counted = (masks != IGNORED).to(logits.dtype)
    dice_loss = smp.losses.DiceLoss("binary", ignore_index=IGNORED)(logits, masks)
    return dice_loss + torch.nn.functional.binary_cross_entropy_with_logits(logits, masks * counted, weight=counted)


def confidence(probability: np.ndarray, mask: np.ndarray) -> float:
    """Confidence of a segmenter in its mask, 0 to 1: the expected Dice.

    2 sum(p m) / (sum(p) + sum(m)) approximates the expected Dice of mask m with a mask drawn from the probabilities p.
    Confident background pixels do not contribute. For an empty mask, whose Dice is undefined, it is 1 - max(p).

    Args:
        probability: (H, W) in [0, 1].
        mask: (H, W), bool.
    """
    if not mask.any():
        return float(1 - probability.max())
    return float(2 * probability[mask].sum() / (probability.sum() + mask.sum()))
