"""uint8 pairs and [-1, 1] samples, both ways."""

import numpy as np
import pytest
import torch
from PIL import Image

from synthset import PairImageProcessor


@pytest.fixture
def processor():
    return PairImageProcessor()


def test_encode_by_hand(processor):
    image = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(3, 1, 1)
    mask = torch.tensor([[[1]]], dtype=torch.uint8)
    torch.testing.assert_close(processor.encode(image, mask).flatten(), torch.tensor([-1.0, 1.0, -0.6, 1.0]))


def test_decode_clips_thresholds_and_does_not_stretch(processor):
    sample = torch.tensor([-3.0, 0.2, 0.5, 0.01]).reshape(1, 4, 1, 1)
    image, mask = processor.decode(sample)
    torch.testing.assert_close(image.flatten(), torch.tensor([0.0, 0.6, 0.75]))
    assert mask.item() == 1.0 and processor.decode(sample - 0.02)[1].item() == 0.0


def test_standardized_by_hand():
    """(-0.6 - -0.4) / 0.2 = -1 and (1 - 0) / 4 = 0.25."""
    processor = PairImageProcessor(sample_mean=[-0.4, 0.0, 0.5, 0.0], sample_std=[0.2, 0.5, 0.25, 4.0])
    image = torch.tensor([51, 255, 0], dtype=torch.uint8).reshape(3, 1, 1)
    sample = processor.encode(image, torch.tensor([[[1]]], dtype=torch.uint8))
    torch.testing.assert_close(sample.flatten(), torch.tensor([-1.0, 2.0, -6.0, 0.25]))
    low, high = (bound.flatten().tolist() for bound in processor.bounds)
    assert low == pytest.approx([-3, -2, -6, -0.25]) and high == pytest.approx([7, 2, 2, 0.25])
    decoded, mask = processor.decode(2 * sample[None])  # -2, 4, -12 and 0.5: -0.8, 2, -2.5 and 2 before the clip
    torch.testing.assert_close(decoded.flatten(), torch.tensor([0.1, 1.0, 0.0]))
    assert mask.item() == 1


@pytest.mark.parametrize("name", ["sample_mean", "sample_std"])
def test_statistics_are_of_all_channels(name):
    with pytest.raises(ValueError, match=f"{name}.*give 4 numbers each"):
        PairImageProcessor(**{name: [0.5] * 3})


def test_pil_round_trip_is_exact(processor):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(2)]
    masks = [Image.fromarray(rng.integers(0, 2, (6, 5), dtype=np.uint8) * 255) for _ in range(2)]
    sample = processor.preprocess(images, masks)
    assert sample.shape == (2, 4, 6, 5) and sample.min() == -1 and sample.max() == 1
    again = processor.postprocess(sample, "pil")
    assert all(np.array_equal(a, b) for a, b in zip([*again[0], *again[1]], [*images, *masks], strict=True))
    assert torch.equal(processor.preprocess(images, [m.point(lambda v: v // 255) for m in masks]), sample)


@pytest.mark.parametrize("output_type, shape", [("np", (2, 6, 5, 3)), ("pt", (2, 3, 6, 5))])
def test_arrays_and_tensors(processor, output_type, shape):
    images, masks = processor.postprocess(torch.randn(2, 4, 6, 5, dtype=torch.bfloat16), output_type)
    assert tuple(images.shape) == shape and 0 <= images.min() and images.max() <= 1
    assert set(np.unique(np.asarray(masks))) == {0.0, 1.0}


@pytest.fixture
def arrays():
    """Two pairs of 5 x 6 pixels, uint8, (2, 6, 5, 3) and (2, 6, 5, 1) of 0 and 255."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 6, 5, 1), dtype=np.uint8) * 255
    return rng.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8), masks


def test_what_postprocess_returns_goes_in_again(processor, arrays):
    """Whatever the kind, to the bit, also for values between those of 8 bits."""
    sample = processor.preprocess(*arrays)
    kinds = {kind: processor.postprocess(sample, kind) for kind in ("pil", "np", "pt")}
    for pair in kinds.values():
        assert torch.equal(processor.preprocess(*pair), sample)
    between = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, *others = (processor.preprocess(*processor.postprocess(between, kind)) for kind in ("pil", "np", "pt"))
    assert all(torch.equal(first, other) for other in others)
    assert (first - between)[:, :3].abs().max() < 1 / 255 + 1e-6


def test_masks_of_any_kind(processor, arrays):
    images, masks = arrays
    sample = processor.preprocess(images, masks)
    palette = [Image.fromarray(m[..., 0] // 255).convert("P") for m in masks]
    for mask in palette:
        mask.putpalette([255, 0, 0, 0, 0, 0])  # a red background: as in a dataset, indices count, not their colors
    binary = [Image.fromarray(m[..., 0]).convert("1") for m in masks]
    for mask in (
        masks // 255,
        masks > 0,
        (masks // 255).astype(np.uint16),
        (masks / 255).astype(np.float64),
        torch.from_numpy(masks > 0),
        binary,
        palette,
    ):
        mask = mask.movedim(-1, 1) if isinstance(mask, torch.Tensor) else mask
        assert torch.equal(processor.preprocess(images, mask), sample)


@pytest.mark.filterwarnings("error")
def test_flipped_and_read_only_arrays(processor, arrays):
    """Views that torch can't share: numpy's flips have negative strides, and `datasets` hands out read-only arrays."""
    sample = processor.preprocess(*arrays)
    assert torch.equal(processor.preprocess(*(x[:, :, ::-1] for x in arrays)), sample.flip(-1))
    for x in arrays:
        x.flags.writeable = False
    assert torch.equal(processor.preprocess(*arrays), sample)


def test_unknown_output_type_and_mask_channels(processor):
    with pytest.raises(ValueError, match="'jpeg'.*'pil'"):
        processor.postprocess(torch.zeros(1, 4, 2, 2), "jpeg")
    with pytest.raises(ValueError, match="mask_channels is 2"):
        PairImageProcessor(mask_channels=2)
