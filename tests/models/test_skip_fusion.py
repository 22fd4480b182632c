import pytest
import torch

from synthset.models.skip_fusion import ScaleU, ZeroConvSkips
from synthset.registry import SKIP_FUSIONS


def low_frequency_scaling(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """InstanceDiffusion's Fourier filter, from its definition."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fftn(x, dim=(-2, -1)), dim=(-2, -1))
    mask = torch.ones(height, width, dtype=x.dtype)
    row, column = height // 2, width // 2
    mask[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] *= factor
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1)).real


SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (1, 6),
    (5, 1),
    (2, 2),
    (2, 5),
    (8, 2),
    (3, 3),
    (4, 4),
    (7, 7),
    (5, 8),
    (16, 64),
    (65, 33),
]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_scale_u_equals_its_definition_with_an_fft(size):
    generator = torch.Generator().manual_seed(0)
    hidden, first, second = (torch.randn(2, channels, *size, generator=generator) for channels in (3, 3, 5))
    scale_u = ScaleU(3, num_skips=2)
    with torch.no_grad():
        scale_u.b.copy_(torch.tensor([-0.7, 0.1, 1.5]))
        scale_u.s.copy_(torch.tensor([-2.0, 0.8]))
        output = scale_u(hidden, first, second)
    factors = scale_u.s.detach().tanh() + 1
    expected = [
        hidden * torch.tensor([0.39563, 1.09967, 1.90515]).view(3, 1, 1),  # tanh(b) + 1
        low_frequency_scaling(first, factors[0]),
        low_frequency_scaling(second, factors[1]),
    ]
    torch.testing.assert_close(output, torch.cat(expected, dim=1), rtol=0, atol=3e-5)


def test_scale_u_by_hand():
    # A row of four: frequencies -1 and 0 lie in the window, 1 and 2 outside. [4, 0, 0, 0] is 1 + e^(iq) + e^(-iq) +
    # e^(2iq) with q = pi w / 2, and the window's part of it, real part taken, is 1 + cos q = [2, 1, 0, 1].
    scale_u = ScaleU(1, num_skips=1)
    torch.nn.init.constant_(scale_u.s, torch.atanh(torch.tensor(-0.5)))  # halves the window
    x = torch.tensor([4.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    expected = torch.tensor([[4.0, 0.0, 0.0, 0.0], [3.0, -0.5, 0.0, -0.5]]).view(1, 2, 1, 4)
    torch.testing.assert_close(scale_u(x, x).detach(), expected)


def test_scale_u_does_not_depend_on_the_number_of_threads():
    scale_u = ScaleU(32, num_skips=1)
    torch.nn.init.constant_(scale_u.s, 0.5)
    x = torch.randn(8, 32, 128, 128)
    threads = torch.get_num_threads()
    outputs = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            outputs.append(scale_u(x, x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", SKIP_FUSIONS)
def test_all_channels_come_out(name):
    hidden, *skips = torch.randn(3, 2, 6, 4, 5)
    assert SKIP_FUSIONS[name](6, num_skips=2)(hidden, *skips).shape == (2, 18, 4, 5)


@pytest.mark.parametrize(("name", "skips_kept"), [("scale_u", 1), ("concat", 1), ("zero_conv", 0)])
def test_at_the_start(name, skips_kept):
    hidden, *skips = torch.randn(3, 2, 6, 4, 5)
    expected = torch.cat([hidden, *(skips_kept * skip for skip in skips)], dim=1)
    torch.testing.assert_close(SKIP_FUSIONS[name](6, num_skips=2)(hidden, *skips), expected)


@pytest.mark.parametrize("fusion", [ScaleU, ZeroConvSkips])
def test_number_of_skips_must_fit(fusion):
    with pytest.raises(ValueError, match="zip"):
        fusion(6, num_skips=2)(torch.randn(1, 6, 4, 4), torch.randn(1, 6, 4, 4))
