"""Pairs that most scripts are run on."""

import pytest
from testing_utils.pairs import random_pairs, write_raw_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Seven pairs of 40 x 32 pixels: five to train on, two held out."""
    return write_raw_folder(tmp_path_factory.mktemp("field"), random_pairs(7))
