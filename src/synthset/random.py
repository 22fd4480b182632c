"""Random numbers as a function of what they are for, so that order, processes and restarts can't change them."""

import numpy as np
import torch


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a function of `key` alone (non-negative integers; order matters).

    Keys are mixed by numpy's `SeedSequence`, so neighbouring keys give independent streams. CPU, because its stream is
    the same on every device and PyTorch version that keeps mt19937.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
