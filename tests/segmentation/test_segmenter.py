"""The network with its preprocessing, and what it is trained by."""

import functools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from testing_utils.pairs import random_pairs
from torchvision.transforms.v2 import functional as F

from synthset.errors import InputError
from synthset.segmentation import Segmenter, build_segmenter, confidence, load_segmenter, segmentation_loss


class Green(torch.nn.Module):
    """A network whose logit is the green it gets."""

    def forward(self, images):
        return images[:, 1:2]


GRAY = {"image_mean": (0.1, 0.25, 0.3), "image_std": (0.1, 0.5, 0.3)}


def test_images_are_normalized():
    segmenter = Segmenter(Green(), resolution=4, crop_size=4, **GRAY)
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[1, 1] = 255
    logits = segmenter(images)
    assert logits.shape == (2, 1, 4, 4)
    assert torch.allclose(logits[0], torch.tensor(-0.5)) and torch.allclose(logits[1], torch.tensor(1.5))


@pytest.mark.parametrize("size, crop_size", [((40, 32), 16), ((33, 21), 16), ((16, 16), 16), ((9, 40), 16)])
def test_probabilities_of_tiles_join_without_a_seam(size, crop_size):
    """The sizes: whole tiles, overlapping ones, a single one, and an image narrower than a tile."""
    image = random_pairs(1, size)[0]["image"].resize((3, 3)).resize(size, Image.Resampling.BICUBIC)
    probability = Segmenter(Green(), resolution=crop_size, crop_size=crop_size, **GRAY).predict(image, batch_size=2)
    green = np.asarray(image, np.float32)[..., 1] / 255
    assert probability.shape == green.shape and probability.dtype == np.float32
    # where nothing is resized they are exact; from 9 to 16 px and back, smooth images hardly change
    tolerance = 1e-5 if min(size) >= crop_size else 0.05
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-(green - 0.25) / 0.5)), atol=tolerance)


def test_large_images_are_predicted_by_parts():
    """Bands of rows, from parts of the image, are what torchvision's resizing of the whole there and back gives."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (35, 27, 3), dtype=np.uint8)).resize((540, 700))
    segmenter = Segmenter(Green(), resolution=32, crop_size=48, **GRAY)
    parts = []

    def read(part):
        parts.append(part)
        return image.crop((part.left, part.top, part.left + part.width, part.top + part.height))

    bands = list(segmenter.predict_rows(read, (700, 540), batch_size=5))
    assert [band.shape for band in bands] == [(512, 540), (188, 540)]
    assert max(max(part.width, part.height) for part in parts) <= 52  # a tile of 48 and the filter's reach
    assert np.array_equal(np.concatenate(bands), segmenter.predict(image, batch_size=5))
    small = F.resize(F.pil_to_tensor(image), (467, 360), antialias=True)
    expected = F.resize(torch.sigmoid((small[1:2] / 255 - 0.25) / 0.5), (700, 540), antialias=True)[0].numpy()
    np.testing.assert_allclose(np.concatenate(bands), expected, atol=0.003)  # few pixels round to another level
    assert np.abs(np.concatenate(bands) - expected).mean() < 1e-5


@pytest.mark.slow
def test_another_process_predicts_the_same(tmp_path):
    torch.manual_seed(0)
    segmenter = build_segmenter("FPN", "mobilenet_v2", None, resolution=32, crop_size=24, threshold=0.4)
    segmenter = Segmenter(segmenter.network, 32, 24, 0.4, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    image = random_pairs(1, (40, 30))[0]["image"]
    image.save(tmp_path / "image.png")
    segmenter.save_pretrained(tmp_path / "model")
    code = (
        "import sys, numpy; from PIL import Image; from synthset.segmentation import load_segmenter; "
        "segmenter, digest = load_segmenter('model'); "
        "numpy.savez('there', p=segmenter.predict(Image.open('image.png')), t=segmenter.threshold, d=digest)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    there = np.load(tmp_path / "there.npz")
    # the last bits depend on where in memory the weights lie
    np.testing.assert_allclose(there["p"], segmenter.predict(image), rtol=0, atol=1e-6)
    assert there["t"] == 0.4
    assert there["p"].std() > 0.01
    assert load_segmenter(str(tmp_path / "model"))[1] == there["d"]


@pytest.mark.parametrize(
    "logits, masks, expected",
    [
        # p = 1/2 everywhere, one of four is the object: 1 - 2 * 0.5 / (2 + 1), and -log(1/2)
        ([0, 0, 0, 0], [1, 0, 0, 0], 2 / 3 + math.log(2)),
        ([math.log(3), -math.log(3)], [1, 0], 1 - 2 * 0.75 / (1 + 1) + math.log(4 / 3)),
        # the two pixels in the middle are ignored
        ([0, 9, -9, 0], [1, 2, 2, 0], 1 - 2 * 0.5 / (1 + 1) + math.log(2) / 2),
        # without an object there is no Dice
        ([0, 0], [0, 0], math.log(2)),
    ],
)
def test_loss(logits, masks, expected):
    logits, masks = (torch.tensor(x).view(1, 1, 1, -1) for x in (logits, masks))
    assert segmentation_loss(logits.float(), masks.to(torch.uint8)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "probability, mask, expected",
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1),
        ([0.8, 0.2, 0, 0], [1, 0, 0, 0], 2 * 0.8 / (1 + 1)),
        ([0.8, 0, 0, 0], [1, 0, 0, 0], 2 * 0.8 / (0.8 + 1)),
        ([0.9, 0.4, 0.4, 0.3], [1, 0, 0, 0], 2 * 0.9 / (2 + 1)),
        ([0.3, 0.1, 0, 0], [0, 0, 0, 0], 0.7),
    ],
)
def test_confidence(probability, mask, expected):
    probability = np.array(probability, np.float32).reshape(2, 2)
    assert confidence(probability, np.array(mask, bool).reshape(2, 2)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"arch": "vnet"}, "--arch vnet .*unet"),
        ({"encoder_name": "resnet19"}, "--encoder_name resnet19 .*resnet18"),
        ({"encoder_weights": "somewhere"}, "--encoder_weights somewhere .*imagenet"),
        ({"arch": "linknet", "resolution": 40}, "--resolution is 40.*--arch linknet .*divisible by 32"),
    ],
)
def test_networks_that_cannot_be_built(changes, words):
    values = {"arch": "unet", "encoder_name": "resnet18", "encoder_weights": None, "resolution": 32, "crop_size": 32}
    with pytest.raises(InputError, match=words) as error:
        build_segmenter(**{**values, **changes})
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "arch, resolution, refused",
    [
        ("deeplabv3plus", 64, True),  # pools the whole picture into a pixel, and normalizes that
        ("upernet", 64, True),
        ("unet", 32, True),  # the encoder's last layers have a single pixel
        ("unet", 64, False),
        ("pspnet", 64, False),  # pools as well, but does not normalize it
    ],
)
def test_batches_of_one_that_batch_normalization_cannot_take(arch, resolution, refused):
    """Refused is what PyTorch does refuse."""
    build = functools.partial(build_segmenter, arch, "resnet18", None, resolution, resolution)
    images = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)
    segmenter = build(batch_size=2).train()
    segmenter(images)
    if refused:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            segmenter(images[:1])
        words = f"--batch_size is 1, but --arch {arch} .* at --resolution {resolution} .*; give --batch_size 2 or more"
        with pytest.raises(InputError, match=words):
            build(batch_size=1)
    else:
        build(batch_size=1).train()(images[:1])


def test_a_folder_without_a_segmenter_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--model is .*can't be loaded .*; give a folder seed-N"):
        load_segmenter(str(tmp_path))
