"""Image embeddings: features of a pretrained network."""

from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import nn

from ..console import progress
from ..errors import InputError

SIDE = 224  # input size in pixels of most encoders; smaller or fixed input sizes of an encoder are respected
REMEDY = (
    "give a timm model, such as resnet18.a1_in1k, with network access or its weights in the cache, a folder seed-N of "
    "synthset segment, or random:resnet18, which is untrained and weaker"
)


class Encoder(NamedTuple):
    """Network that maps normalized images (B, 3, side, side) to embeddings (B, D), with its preprocessing.

    Attributes:
        network: the network.
        side: side of its input in pixels.
        mean: mean of R, G and B in [0, 1], for normalization.
        std: standard deviation of R, G and B in [0, 1], for normalization.
        trained: false for random weights.
    """

    network: nn.Module
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained: bool


class SegmenterEncoder(nn.Module):
    """Mean over the image of the deepest features of `encoder`, of a segmentation-models-pytorch network."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images)[-1].mean((2, 3))


def load_encoder(name: str) -> Encoder:
    """Loads an encoder.

    Args:
        name: one of

            - a timm model, such as `vit_small_patch14_dinov2.lvd142m`, with its pretrained weights from the Hub;
            - `random:` and a timm model: the architecture with fixed random weights, a valid but weaker basis for
              comparing sets of images (Naeem et al. 2020; Lee et al. 2022, "Demystifying Randomly Initialized Networks
              for Evaluating Generative Models").

    Raises:
        InputError: there is no such model, or its weights can't be loaded. Only safetensors are read.
    """
    kind, _, architecture = name.rpartition(":")
    if kind not in ("", "random") or not timm.is_model(architecture):
        raise InputError(
            f"--embedding_model is {name}, which is neither a folder nor a model that timm knows; {REMEDY}"
        )
    try:
        config = timm.get_pretrained_cfg(architecture)
        assert config is not None
        side = min(SIDE, config.input_size[-1])
        options: dict[str, Any] = {"num_classes": 0, **({"img_size": side} if config.fixed_input_size else {})}
        if kind == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = timm.create_model(architecture, **options)
        else:
            # the file name prevents timm from falling back to pickled weights
            weights = {"hf_hub_filename": "model.safetensors", "url": ""}
            network = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=weights, **options)
    except Exception as error:  # no network, no such weights, not in the cache, a damaged file, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"--embedding_model is {name}, which can't be loaded ({reason}); {REMEDY}") from error
    return Encoder(network.eval(), side, config.mean, config.std, trained=kind != "random")


def embed(
    encoder: Encoder,
    images: np.ndarray,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    description: str = "embedding images",
) -> np.ndarray:
    """Embeds images, resized to the encoder's side by antialiased bicubic interpolation.

    Args:
        encoder: the encoder.
        images: (N, H, W, 3), uint8.
        batch_size: images per forward pass.
        device: device that the encoder is moved to.
        description: text before the progress bar.

    Returns:
        Embeddings, (N, D) float64.
    """
    network, batches = encoder.network.to(device), []
    mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (encoder.mean, encoder.std))
    for i in progress(range(0, len(images), batch_size), description, unit="batch", delay=1):
        batch = torch.from_numpy(images[i : i + batch_size]).to(device).movedim(-1, 1) / 255
        batch = F.interpolate(batch, (encoder.side, encoder.side), mode="bicubic", antialias=True).clamp(0, 1)
        with torch.inference_mode():
            batches.append(network((batch - mean) / std).double().cpu().numpy())
    return np.concatenate(batches)


def principal_components(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projects two sets of embeddings, (N, D) and (M, D), to their two principal components. Both sets have the same
    weight regardless of their sizes.

    Returns:
        Projections of the real (N, 2) and of the generated (M, 2) embeddings, and the explained variance ratios (2,) of
        the two axes. The sign of an axis makes its largest weight positive.
    """
    center = (real.mean(0) + generated.mean(0)) / 2
    real, generated = real - center, generated - center
    _, spread, axes = np.linalg.svd(
        np.concatenate([real / len(real) ** 0.5, generated / len(generated) ** 0.5]), full_matrices=False
    )
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], abs(axes[:2]).argmax(1)[:, None], 1))
    return real @ axes.T, generated @ axes.T, (spread**2 / (spread**2).sum())[:2]
