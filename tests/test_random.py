import hashlib

import numpy as np
import pytest
import torch

from synthset import keyed_generator


def test_writes_the_state_that_torch_has():
    """The words are where torch keeps them, which numpy's own Mersenne Twister shows: first for a seed, then a key."""
    reference = np.random.RandomState(5)
    state = torch.Generator().manual_seed(5).get_state().numpy()
    np.testing.assert_array_equal(state[24 : 24 + 8 * 624].view(np.uint64), reference.get_state()[1])
    words = np.frombuffer(hashlib.shake_256(b"5 8").digest(4 * 624), "<u4")
    reference.set_state(("MT19937", words, 624))
    found = torch.randint(2**32, (2000,), generator=keyed_generator(5, 8))
    # torch takes two words for a number of this range, the first as the upper half
    expected = reference.randint(2**32, size=(2000, 2), dtype=np.uint32)[:, 1]
    np.testing.assert_array_equal(found, expected)


def test_different_keys_have_different_streams():
    """Of seeds that torch cuts to 32 bits, pairs 50 699 and 55 170 had the same noise; of keys that numpy fills up with
    zeros, the first three."""
    keys = [(7,), (7, 0), (7, 0, 0), (70,), (-7,), (7 + 2**32,), (7 + 2**64,), (7, 1), (71,), ()]
    keys += [(0, number) for number in (*range(5000), 50_699, 55_170)]
    drawn = {torch.randint(2**62, (), generator=keyed_generator(*key)).item() for key in keys}
    assert len(drawn) == len(keys)


def test_a_stream_follows_from_its_key():
    first, again, other = (torch.randn(1000, generator=keyed_generator(*key)) for key in ((3, 4), (3, 4), (4, 3)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first, torch.randn(1000, generator=keyed_generator(np.int64(3), torch.tensor(4))))


def test_streams_are_standard_normal_and_independent():
    noise = torch.stack([torch.randn(1000, generator=keyed_generator(0, number)) for number in range(1000)])
    assert noise.mean().abs() < 5e-3 and noise.std() == pytest.approx(1, abs=5e-3)  # 5 standard errors
    # the mean of 1000 streams, at each of the 1000 places, and neighboring streams' correlation
    assert noise.mean(0).std() == pytest.approx(1000**-0.5, rel=0.15)
    assert (noise[1:] * noise[:-1]).mean().abs() < 5e-3


def test_refuses_what_is_not_an_integer():
    with pytest.raises(TypeError):
        keyed_generator(0, 1.5)
