import numpy as np
import pytest

from synthset.errors import InputError
from synthset.sources.labels import join_classes, label_table


def test_values_keep_their_numbers():
    table = label_table([0, 2, 300], "values", {"soil": 0, "leaf": 2}, ())
    assert table.names == {0: "soil", 2: "leaf", 300: "300"}
    stored = table.encode(np.array([[0, 2], [300, 2]], np.int32))
    assert stored.mode == "I;16" and np.array_equal(stored, [[0, 2], [300, 2]])


def test_colors_are_numbered_in_the_order_of_the_classes():
    table = label_table([0, 0x00B000, 0xFF0000], "colors", {"symptom": (255, 0, 0), "soil": (0, 0, 0)}, ())
    assert table.names == {0: "soil", 1: "symptom", 2: "#00b000"}
    stored = table.encode(np.array([[0, 0x00B000, 0xFF0000]], np.int32))
    assert stored.mode == "L" and np.array_equal(stored, [[0, 2, 1]])


def test_drawn_classes():
    table = label_table([0, 2], "classes", None, ("crop", "weed"))
    assert table.names == {0: "background", 1: "crop", 2: "weed"}
    assert np.array_equal(table.encode(np.array([[2, 0]], np.int32)), [[2, 0]])


def test_classes_of_splits_are_joined():
    assert join_classes([("weed", "crop"), ("crop", "soil")]) == ("weed", "crop", "soil")


def test_too_many_colors():
    with pytest.raises(InputError, match="the masks have 400 colors"):
        label_table(range(400), "colors", None, ())
