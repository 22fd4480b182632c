"""Random generators derived from keys, so that results do not depend on order, processes and restarts."""

import hashlib
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORDS = 624  # of the Mersenne Twister mt19937
_OFFSET = 24  # bytes before them in a CPU generator's state: its seed, how many words are left, whether it is seeded
_FRESH = torch.Generator().manual_seed(0).get_state()  # all words used up: the first number asked for makes new ones


def keyed_generator(*key: int) -> torch.Generator:
    """Makes a CPU generator whose stream is a function of `key` only.

    Different keys have different streams, also `(7)` and `(7, 0)`. `manual_seed` would not suffice: torch's CPU
    generator (mt19937) uses only the low 32 bits of a seed. Here all of its 624 words are derived from the key, by
    SHAKE-256 (FIPS 202) of its decimal digits. A CPU generator has the same stream on every machine and in every
    version of PyTorch that uses mt19937.

    SynthSet 0.1.0.dev0 hashed the key to a seed, stored in the columns `seed` and `sr_seed` of its datasets;
    `torch.Generator().manual_seed(seed)` reproduces its streams.

    Args:
        key: any number of integers of any size; their order matters.

    Raises:
        TypeError: a part of the key is not an integer.

    Example: reproduces pair 8 of a dataset of `synthset generate --seed 0`, with the scheduler and the steps given in
    its card. Super-resolution of this pair starts from `keyed_generator(0, 8, 1)`.

        >>> pipeline = SynthSetPipeline.from_pretrained("outputs/wheat")
        >>> pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, 50)
        >>> pair = pipeline(generator=keyed_generator(0, 8), num_inference_steps=50)
    """
    text = " ".join(str(operator.index(part)) for part in key)
    words = np.frombuffer(hashlib.shake_256(text.encode()).digest(4 * _WORDS), "<u4").astype(np.uint64)
    state = _FRESH.clone()
    state[_OFFSET : _OFFSET + 8 * _WORDS] = torch.from_numpy(words.view(np.uint8))
    generator = torch.Generator()
    generator.set_state(state)
    return generator


@contextmanager
def keyed_randomness(*key: int) -> Iterator[None]:
    """Makes PyTorch's global CPU generator, in the block, that of [`keyed_generator`]."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(keyed_generator(*key).get_state())
        yield
