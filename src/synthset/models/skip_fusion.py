"""Skip fusions, which bring features from elsewhere into a block: the three of SynthSet, section 3, "Skip Connections".

Each is called `fusion(hidden, *skips)` and returns the channels of `hidden` and of every skip, concatenated; they
differ in what happens to the features before. All tensors are (B, C_i, H, W) with the same B, H and W.
"""

import math

import torch
from torch import nn


class ConcatSkips(nn.Module):
    """Direct concatenation.

    Args:
        channels: Channels of `hidden`. Not needed here; the three fusions share one signature.
        num_skips: Number of skips.
    """

    def __init__(self, channels: int, num_skips: int):
        super().__init__()

    def forward(self, hidden: torch.Tensor, *skips: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden, *skips], dim=1)


class ZeroConvSkips(nn.Module):
    """Each skip passes a 1x1 convolution that starts at zero (ControlNet, https://arxiv.org/abs/2302.05543).

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
    """Scales the main features per channel and the low frequencies of each skip; the identity at the start.

    ScaleU of InstanceDiffusion (https://arxiv.org/abs/2402.03290) for any number of skips. `hidden` is multiplied by
    `tanh(b) + 1`. The four lowest entries of skip i's centered spectrum, {-1, 0} x {-1, 0}, are multiplied by
    `tanh(s_i) + 1` and the real part is taken; for a real x that is `x + tanh(s_i) * low_frequencies(x)`, without an
    FFT.

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
    """`gain` times the part of `x` (B, C, H, W) in the frequencies {-1, 0} x {-1, 0}, real part taken.

    With phases p = 2 pi h / H, q = 2 pi w / W and the sum over the window's frequencies (a, b), that part is

        1 / (H W) * sum_(a, b) [c c' + s s'] x    where    c = cos(a p + b q), s = sin(a p + b q).

    The addition theorems turn it into functions of h times functions of w, so that either direction is a product with
    three columns, V = [1, cos p, sin p] and likewise U for q: with Z = V' x U / (H W), 3 x 3 numbers, the part is
    V (Z - J Z J') U', where J exchanges cosine and sine and turns the sign of one.

    One direction at a time is cheap, and the sums stay so short that no library splits them over threads: on a CPU the
    result is the same, bit for bit, for any number of threads.
    """
    v, u = (_lowest_harmonics(n, x) for n in x.shape[-2:])
    j = x.new_zeros(3, 3)
    j[1, 2], j[2, 1] = 1, -1  # written where it is: a constant copied to a GPU would have the processor wait for it
    z = ((v / len(v)).T @ x) @ (u / len(u))
    return v @ (((z - j @ z @ j.T) * gain) @ u.T)


def _lowest_harmonics(n: int, like: torch.Tensor) -> torch.Tensor:
    """The (n, 3) columns 1, cos and sin of one turn over n points, in `like`'s dtype and on its device."""
    phase = torch.arange(n, device=like.device, dtype=torch.float32) * (2 * math.pi / n)
    # A single point has no frequency but zero.
    harmonics = [phase.cos(), phase.sin()] if n > 1 else [torch.zeros_like(phase)] * 2
    return torch.stack([torch.ones_like(phase), *harmonics], dim=1).to(like.dtype)
