import pytest

from synthset.tiles import tile_boxes


@pytest.mark.parametrize(
    "height, width, size, overlap, boxes",
    [
        (1024, 1024, 512, 0, [(0, 0), (0, 512), (512, 0), (512, 512)]),
        (483, 648, 256, 0, [(0, 0), (0, 196), (0, 392), (227, 0), (227, 196), (227, 392)]),
        (7, 5, 5, 0, [(0, 0), (2, 0)]),
        (5, 5, 5, 3, [(0, 0)]),
        (10, 5, 5, 0, [(0, 0), (5, 0)]),
        (10, 5, 5, 1, [(0, 0), (2, 0), (5, 0)]),
    ],
)
def test_tiles_cover_an_image(height, width, size, overlap, boxes):
    assert tile_boxes(height, width, size, overlap) == boxes
