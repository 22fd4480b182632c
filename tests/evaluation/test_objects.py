"""What masks hold, counted by hand."""

import numpy as np

from synthset.evaluation.objects import measure_objects


def test_objects_are_groups_of_pixels_that_touch():
    masks = np.zeros((3, 4, 5), dtype=np.uint8)
    masks[0, 0, 0] = masks[0, 1, 1] = 1  # touch at a corner
    masks[0, 3, 2:] = 255  # any value is the object
    masks[2] = 1
    objects = measure_objects(masks)
    np.testing.assert_allclose(objects.coverage, [5 / 20, 0, 1])
    assert objects.count.tolist() == [2, 0, 1]
    np.testing.assert_allclose(objects.size, [2 / 20, 3 / 20, 1])


def test_no_object_at_all():
    objects = measure_objects(np.zeros((2, 4, 4), dtype=np.uint8))
    assert objects.count.tolist() == [0, 0] and len(objects.size) == 0
