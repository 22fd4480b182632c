"""Training data as a function of (seed, position).

Position p of the endless stream is the pair permutation(seed, p // N)[p % N]; its crop, flips, augmentation, timestep
and noise come from generators keyed by (seed, p). There is no state, so resuming is arithmetic, in any epoch and for
any number of processes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors

from ..data import Augmentation, ResizePair, StreamedPairs
from ..image_processor import PairImageProcessor
from ..pipelines.pipeline_synthset_sr import add_condition_noise
from ..random import keyed_generator, keyed_randomness
from .timesteps import Directions, UniformTimesteps

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]
_ORDER, _AUGMENTATION, _NOISE, _VALIDATION = range(4)


class Pairs(Protocol):
    """Map-style source of pairs: uint8 image (3, H, W) in 0..255 and mask (1, H, W) in {0, 1}."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> list[int]:
    """The order of `size` pairs in pass `epoch` over them."""
    return torch.randperm(size, generator=keyed_generator(seed, _ORDER, epoch)).tolist()


class LowResCondition:
    """Condition of a super-resolution network: the target pair, resized to a low resolution.

    Args:
        resolution: side of the low-resolution pair in pixels.
        max_noise_level: largest noise level of the condition, in training timesteps; 0 adds none.
        alphas_cumprod: (T,), the training scheduler's.

    Called with an image and a mask (uint8 tv_tensors), what encodes them, and a generator; returns `condition`, float32
    (C + M, resolution, resolution), and, if there can be noise, `noise_level`, int64 in 0..max_noise_level.
    """

    def __init__(self, resolution: int, max_noise_level: int, alphas_cumprod: torch.Tensor):
        self.resize = ResizePair(resolution)
        self.max_noise_level, self.alphas_cumprod = max_noise_level, alphas_cumprod

    def __call__(
        self, image: tv_tensors.Image, mask: tv_tensors.Mask, processor: PairImageProcessor, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        condition = processor.encode(*self.resize(image, mask)).as_subclass(torch.Tensor)
        if not self.max_noise_level:
            return {"condition": condition}
        level = torch.randint(self.max_noise_level + 1, (1,), generator=generator)
        noise = torch.randn(condition.shape, generator=generator)
        noisy = add_condition_noise(condition[None], noise[None], level, self.alphas_cumprod)
        return {"condition": noisy[0], "noise_level": level[0]}


class TrainingStream(Dataset):
    """Maps a position of the endless stream to the inputs of one training sample.

    Args:
        pairs: what to train on.
        transform: joint transform called as `transform(image, mask)`; any randomness of torchvision's v2 transforms
            becomes a function of (seed, position).
        timesteps: distribution of the timesteps over positions.
        seed: non-negative.
        condition: makes the network's condition from a pair; None for an unconditional network.
        adversarial: add `posterior_noise`, for two samples of x_{t-1}, to the items.
        augmentation: takes the place of `transform` in items, which get what it says of itself.
        processor: encodes pairs; in [-1, 1] if not given.
        directions: draws timesteps of image and mask apart; None for one of both.

    Items are dicts: `sample` float32 (C + M, H, W), `noise` of that shape, `timestep` int64 in 0..T-1,
    `position` int64, what `condition` and `augmentation` return, with `adversarial` `posterior_noise`,
    (2, C + M, H, W), and with `directions` `mask_timestep` like `timestep`, which is then the image's.
    """

    def __init__(
        self,
        pairs: Pairs,
        transform: Callable[..., Pair],
        timesteps: UniformTimesteps,
        seed: int,
        condition: LowResCondition | None = None,
        adversarial: bool = False,
        augmentation: Augmentation | None = None,
        processor: PairImageProcessor | None = None,
        directions: Directions | None = None,
    ):
        self.pairs, self.transform, self.timesteps, self.seed = pairs, transform, timesteps, seed
        self.directions = directions
        self.condition, self.adversarial, self.augmentation = condition, adversarial, augmentation
        self.processor = processor or PairImageProcessor()

    def pair_index(self, position: int) -> int:
        """Index of the pair at `position`."""
        epoch, i = divmod(position, len(self.pairs))
        return permutation(self.seed, epoch, len(self.pairs))[i]

    @cached_property
    def images(self) -> np.ndarray:
        """The images of the first 256 positions, uint8 (256, H, W, 3), as a sample of the training colors, without
        `augmentation`: so are generated pairs."""
        return self._images(self.pairs[self.pair_index(position)] for position in range(256))

    def _images(self, pairs: Iterable[Pair]) -> np.ndarray:
        images = []
        for position, pair in enumerate(pairs):
            with self._randomness(position):
                images.append(self.transform(*pair)[0].permute(1, 2, 0).numpy())
        return np.stack(images)

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        image, mask = self.pairs[self.pair_index(position)]
        told: dict[str, torch.Tensor] = {}
        with self._randomness(position):
            if self.augmentation is None:
                image, mask = self.transform(image, mask)
            else:
                image, mask, told = self.augmentation(image, mask)
        generator = keyed_generator(self.seed, _NOISE, position)
        timestep = self.timesteps.draw(position, generator)
        item = self._item(image, mask, generator, timestep, position) | told
        if self.adversarial:
            item["posterior_noise"] = torch.randn(2, *item["sample"].shape, generator=generator)
        if self.directions is not None:
            other = partial(self.timesteps.draw, position, generator)
            item |= self.directions.draw(timestep, other, generator)
        return item

    def _randomness(self, position: int) -> AbstractContextManager[None]:
        """Makes PyTorch's global generator, in the block, a function of (seed, position)."""
        return keyed_randomness(self.seed, _AUGMENTATION, position)

    def _item(
        self,
        image: tv_tensors.Image,
        mask: tv_tensors.Mask,
        generator: torch.Generator,
        timestep: torch.Tensor,
        position: int,
    ) -> dict[str, torch.Tensor]:
        sample = self.processor.encode(image, mask).as_subclass(torch.Tensor)
        noise = torch.randn(sample.shape, generator=generator)
        condition = self.condition(image, mask, self.processor, generator) if self.condition else {}
        return {"sample": sample, "noise": noise, "timestep": timestep, "position": torch.tensor(position), **condition}


class StreamedTraining(TrainingStream):
    """The stream over `StreamedPairs`, which come in their own order."""

    pairs: StreamedPairs

    def pair_index(self, position: int) -> int:
        return position

    @cached_property
    def images(self) -> np.ndarray:
        """The images of the first pairs in storage order, uint8 (up to 256, H, W, 3). Those of the first positions
        would make the stream start over."""
        return self._images(self.pairs.first(256))


class ValidationItems(TrainingStream):
    """A fixed set of 256 items: pairs in turn, timesteps evenly spread over 0..T-1, noise keyed by the item, so that
    validation losses of different steps, runs and recipes with one noise schedule can be compared."""

    size = 256

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        image, mask = self.transform(*self.pairs[i % len(self.pairs)])
        # a stride coprime to the size spreads each pair's timesteps as evenly as the whole set's
        timestep = torch.tensor((i * 101 % self.size) * self.timesteps.num_train_timesteps // self.size)
        return self._item(image, mask, keyed_generator(self.seed, _VALIDATION, i), timestep, i)


class PositionSampler(Sampler[list[int]]):
    """Batches of positions for one process: forward pass m of all processes covers the `num_processes * batch_size`
    positions from `m * num_processes * batch_size`; this process takes its slice of them.

    Args:
        batch_size: positions per forward pass of this process.
        process_index, num_processes: this process's place in the run.
        start, stop: forward passes, counted from the beginning of training.
    """

    def __init__(self, batch_size: int, process_index: int, num_processes: int, start: int, stop: int):
        self.batch_size, self.process_index, self.num_processes = batch_size, process_index, num_processes
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for forward_pass in range(self.start, self.stop):
            first = (forward_pass * self.num_processes + self.process_index) * self.batch_size
            yield list(range(first, first + self.batch_size))
