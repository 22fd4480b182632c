"""A generator in place of a segmenter: masks of photos, drawn several times."""

from dataclasses import fields
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from huggingface_hub import file_exists
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ..arguments.datasets import DrawArguments
from ..data.scale import scaled_size
from ..data.transforms import resize_image
from ..errors import InputError
from ..pipelines import SynthSetPipeline, SynthSetPipelineOutput, make_scheduler
from ..pipelines.loading import find_network, list_checkpoints, load_pipeline
from ..pipelines.pipeline_output import MaskVotes
from ..random import keyed_generator
from ..resources import MODELS
from .segmenter import CONFIG, Label, Segmenter, load_segmenter


class MaskSampler:
    """Labels images as a [`Segmenter`] does, by drawing their masks with a generator: the probability of a pixel is the
    share of the draws in which it is the object, and the mask the one of the highest mean Dice with the draws.

    Args:
        pipeline: trained to draw masks of images, with `crop_size`.
        num_draws: masks of each image.
        num_inference_steps: denoising steps of each.
        seed: draw k of any image begins with the noise of `keyed_generator(seed, k)`.
    """

    def __init__(self, pipeline: SynthSetPipeline, num_draws: int, num_inference_steps: int, seed: int = 0):
        self.pipeline, self.num_draws, self.seed = pipeline, num_draws, seed
        self.num_inference_steps = num_inference_steps
        self.resolution = int(np.max(pipeline.unet.config.sample_size))
        self.crop_size = pipeline.config.crop_size

    def to(self, device: torch.device) -> "MaskSampler":
        self.pipeline.to(device)
        return self

    def label_scaled(self, image: torch.Tensor, batch_size: int = 16) -> Label:
        """Labels an image in overlapping windows of side `resolution`, as [`Segmenter.label_scaled`].

        Args:
            image: uint8 (3, H, W) in 0..255 at the scale of the training data, no side below `resolution`.
            batch_size: not used.
        """
        votes = self._draw(image)
        return Label(votes.probability[0], votes.mask[0], float(votes.confidence[0]))

    def label(self, photo: Image.Image, batch_size: int = 16) -> Label:
        """Labels a photo, resized by the factor `resolution / crop_size` and back, as [`Segmenter.label`]."""
        crop_size = min(self.crop_size, photo.height, photo.width)
        size = scaled_size(photo.height, photo.width, self.resolution, crop_size)
        votes = self._draw(resize_image(F.pil_to_tensor(photo), size))
        probability = np.asarray(Image.fromarray(votes.probability[0]).resize(photo.size, Image.Resampling.BILINEAR))
        return Label(probability, probability > votes.threshold[0], float(votes.confidence[0]))

    def _draw(self, image: torch.Tensor) -> MaskVotes:
        pairs = self.pipeline(
            images=image[None],
            num_draws=self.num_draws,
            generator=[keyed_generator(self.seed, k) for k in range(self.num_draws)],
            num_inference_steps=self.num_inference_steps,
            window_size=self.resolution,
            output_type="pt",
        )
        assert isinstance(pairs, SynthSetPipelineOutput) and pairs.votes is not None
        return pairs.votes


Labeler: TypeAlias = Segmenter | MaskSampler


def load_labeler(model: str, flags: DrawArguments, flag: str = "--model") -> tuple[Labeler, str]:
    """Loads what labels photos: a segmenter, or a generator that draws masks.

    Args:
        model: a folder or an id on the Hub.
        flags: of a generator.
        flag: name of the flag that `model` comes from, for messages.

    Returns:
        It and the SHA-256 of its files.

    Raises:
        InputError: it can't be loaded, or draws pairs alone; or it is a segmenter, and flags of a generator are given.
    """
    if not is_generator(model):
        labeler = load_segmenter(model, flag)
        for one in fields(DrawArguments):
            if one.name != "seed" and getattr(flags, one.name) != one.default:
                raise InputError(
                    f"--{one.name} is {getattr(flags, one.name)}, and {flag} {model} is a segmenter, which draws "
                    f"nothing; leave --{one.name} out"
                )
        return labeler
    pipeline, sha256 = load_pipeline(SynthSetPipeline, model, flag)
    if not pipeline.unet.config.mask_timestep:
        raise InputError(
            f"{flag} is {model}, which was trained to draw pairs alone; train it with --joint_share 0.7, or give a "
            "segmenter"
        )
    if pipeline.config.crop_size is None:
        raise InputError(
            f"{flag} is {model}, whose model_index.json has no crop_size, the scale of its objects; add it"
        )
    try:
        pipeline.scheduler = make_scheduler(flags.scheduler, pipeline.scheduler.config, flags.num_inference_steps)
    except InputError as error:
        raise InputError(f"--{error}") from None
    pipeline.set_progress_bar_config(disable=True)
    return MaskSampler(pipeline, flags.num_draws, flags.num_inference_steps, flags.seed), sha256


def is_generator(model: str) -> bool:
    """True for a pipeline, a run or a checkpoint; false for a segmenter and what is neither."""
    folder = Path(model)
    if not folder.is_dir():
        if model in MODELS:
            return True
        try:
            return file_exists(model, "model_index.json")
        except Exception:  # no such repository, no network: loading it as a segmenter says so
            return False
    found = (folder / "model_index.json").is_file() or list_checkpoints(folder) or find_network(folder)
    return bool(found) and not (folder / CONFIG).is_file()
