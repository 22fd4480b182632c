"""Skip fusions: the three of SynthSet, section 3, "Skip Connections".

Each is built with `(channels, num_skips)`, called `fusion(hidden, *skips)`, and returns `hidden` and all skips, scaled
or transformed, concatenated along the channels. All tensors are (B, C_i, H, W) with the same B, H and W.
"""

import math

import torch
from torch import nn


class ConcatSkips(nn.Module):
    """Direct concatenation.

    Args:
        channels: Channels of `hidden`. Not used; all fusions have the same signature.
        num_skips: Number of skips.
    """

    def __init__(self, channels: int, num_skips: int):
        super().__init__()

    def forward(self, hidden: torch.Tensor, *skips: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden, *skips], dim=1)


class ZeroConvSkips(nn.Module):
    """Concatenation after a zero-initialized 1x1 convolution of each skip (ControlNet, arXiv 2302.05543).

    Args:
        channels: Channels of `hidden` and of each skip.
        num_skips: Number of skips.
    """

    def __init__(self, channels: int, num_skips: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, kernel_size=1) for _ in range(num_skips))
        for parameter in self.convs.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden: torch.Tensor, *skips: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden, *(conv(skip) for conv, skip in zip(self.convs, skips, strict=True))], dim=1)


class ScaleU(nn.Module):
    """Concatenation after scaling `hidden` per channel and the low frequencies of each skip; initialized to scale 1.

    ScaleU of InstanceDiffusion (arXiv 2402.03290) for any number of skips. `hidden` is multiplied by `tanh(b) + 1`. The
    four lowest entries of skip i's centered spectrum, {-1, 0} x {-1, 0}, are multiplied by `tanh(s_i) + 1` and the real
    part is taken; for a real x that is `x + tanh(s_i) * low_frequencies(x)`, without an FFT.

    Args:
        channels: Channels of `hidden`. A skip may have any number.
        num_skips: Number of skips.
    """

    def __init__(self, channels: int, num_skips: int):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(channels))
        self.s = nn.Parameter(torch.zeros(num_skips))

    def forward(self, hidden: torch.Tensor, *skips: torch.Tensor) -> torch.Tensor:
        hidden = hidden * (torch.tanh(self.b) + 1)[:, None, None]
        scaled = [skip + low_frequencies(skip, torch.tanh(s)) for skip, s in zip(skips, self.s.unbind(), strict=True)]
        return torch.cat([hidden, *scaled], dim=1)


def low_frequencies(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Real part of `x` (B, C, H, W) in the frequencies {-1, 0} x {-1, 0}, times `gain`.

    With phases p = 2 pi h / H, q = 2 pi w / W and the sum over the window's frequencies (a, b), that part is

        1 / (H W) * sum_(a, b) [c c' + s s'] x    where    c = cos(a p + b q), s = sin(a p + b q).

    By the angle addition identities it is separable: with V = [1, cos p, sin p] (H x 3), U likewise for q, and the
    3 x 3 matrix Z = V' x U / (H W), the part is V (Z - J Z J') U', where J exchanges cosine and sine and negates one.

    The sums are too short to be split over threads: on a CPU the result is the same, bit for bit, for any number of
    threads.
    """
    v, u = (_lowest_harmonics(n, x) for n in x.shape[-2:])
    j = x.new_zeros(3, 3)
    j[1, 2], j[2, 1] = 1, -1  # filled in place: copying a constant to a GPU would synchronize
    z = ((v / len(v)).T @ x) @ (u / len(u))
    return v @ (((z - j @ z @ j.T) * gain) @ u.T)


def _lowest_harmonics(n: int, like: torch.Tensor) -> torch.Tensor:
    """(n, 3) columns 1, cos and sin of one period over n points, in `like`'s dtype and on its device."""
    phase = torch.arange(n, device=like.device, dtype=torch.float32) * (2 * math.pi / n)
    # a single point has frequency zero only
    harmonics = [phase.cos(), phase.sin()] if n > 1 else [torch.zeros_like(phase)] * 2
    return torch.stack([torch.ones_like(phase), *harmonics], dim=1).to(like.dtype)
