"""Random numbers as a function of what they are for, so that order, processes and restarts can't change them."""

import hashlib
import operator

import numpy as np
import torch

_WORDS = 624  # of the Mersenne Twister mt19937
_OFFSET = 24  # bytes before them in a CPU generator's state: its seed, how many words are left, whether it is seeded
_FRESH = torch.Generator().manual_seed(0).get_state()  # all words used up: the first number asked for makes new ones


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a function of `key` alone.

    Different keys have different streams, `(7)` and `(7, 0)` too. A seed alone could not give so many: torch's CPU
    generator (mt19937) takes the low 32 bits of one. Here all of its 624 words come from the key, by SHAKE-256 of the
    numbers written out (FIPS 202). CPU, because its stream is the same on every device and on every version of PyTorch
    that keeps mt19937.

    SynthSet 0.1.0.dev0 hashed the key to a seed, from which `torch.Generator().manual_seed(seed)` draws again what that
    version drew: the columns `seed` and `sr_seed` of its datasets.

    Args:
        key: any number of integers of any size; their order matters.

    Raises:
        TypeError: one is not an integer.

    Example: pair 8 of a dataset that `generate_dataset.py --seed 0` made, drawn again. The scheduler and the steps are
    those in its card. What enlarges it starts from `keyed_generator(0, 8, 1)`.

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
