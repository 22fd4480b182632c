"""Scores of whole test sets, worked out by hand."""

import os

import numpy as np
import pytest
from PIL import Image

from synthset.evaluation.segmentation_metrics import (
    BoundaryF1,
    Counts,
    Dice,
    IoU,
    count,
    mean_and_std,
    scores_of,
    standard_errors,
)


def mask(*rows):
    return np.array([[character == "#" for character in row] for row in rows], dtype=np.uint8)


LEFT = mask("##..", "##..")  # 4 pixels
MIDDLE = mask(".##.", ".##.")  # 4, 2 of them in LEFT
DOT = mask("#...", "....")
EMPTY = mask("....", "....")


@pytest.mark.parametrize(
    "predictions, references, ignore_empty, dice, dice_per_image, iou, iou_per_image, n_empty",
    [
        ([LEFT], [LEFT * 255], False, 1, 1, 1, 1, 0),
        ([LEFT], [MIDDLE], False, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 0),
        # whole set: 2 * (2 + 1) / (4 + 4 + 1 + 1) and 3 / (6 + 1)
        ([LEFT, DOT], [MIDDLE, DOT], False, 0.6, (1 / 2 + 1) / 2, 3 / 7, (1 / 3 + 1) / 2, 0),
        # a false positive on an empty reference: 0 for its image, or left out; in the whole set 2 * 2 / 9 and 2 / 7
        ([LEFT, DOT], [MIDDLE, EMPTY], False, 4 / 9, 1 / 4, 2 / 7, 1 / 6, 1),
        ([LEFT, DOT], [MIDDLE, EMPTY], True, 4 / 9, 1 / 2, 2 / 7, 1 / 3, 1),
        # both empty: 1 for its image, or left out; no matter in the whole set
        ([LEFT, EMPTY], [MIDDLE, EMPTY], False, 1 / 2, 3 / 4, 1 / 3, 2 / 3, 1),
        ([LEFT, EMPTY], [MIDDLE, EMPTY], True, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1),
        # a missed object is not an empty reference
        ([EMPTY, LEFT], [DOT, LEFT], True, 8 / 9, 1 / 2, 4 / 5, 1 / 2, 0),
        ([EMPTY], [EMPTY], False, 1, 1, 1, 1, 1),
        ([DOT], [EMPTY], False, 0, 0, 0, 0, 1),
    ],
)
def test_dice_and_iou(predictions, references, ignore_empty, dice, dice_per_image, iou, iou_per_image, n_empty):
    values = {"predictions": predictions, "references": references, "ignore_empty": ignore_empty}
    counts = {"n_images": len(references), "n_empty": n_empty}
    expected = {"dice": dice, "dice_per_image": dice_per_image, **counts}
    assert Dice().compute(**values) == pytest.approx(expected)
    assert IoU().compute(**values) == pytest.approx({"iou": iou, "iou_per_image": iou_per_image, **counts})


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, (1 + 0 + 0 + 1) / 4),  # one pixel off; nothing found; false positive; both empty
        ({"ignore_empty": True}, (1 + 0) / 2),
        # rims: LEFT's right column, which is one of MIDDLE's two: precision 1, recall 1/2
        ({"tolerance": 0, "ignore_empty": True}, (2 / 3 + 0) / 2),
    ],
)
def test_boundary_f1(options, expected):
    scores = BoundaryF1().compute(
        predictions=[LEFT, EMPTY, DOT, EMPTY], references=[MIDDLE, DOT, EMPTY, EMPTY], **options
    )
    assert scores == pytest.approx({"boundary_f1": expected, "n_images": 4, "n_empty": 2})


def test_batches_of_any_kind_and_size_add_up():
    metric = Dice()
    metric.add_batch(predictions=np.stack([LEFT, DOT]), references=np.stack([MIDDLE, DOT]))
    metric.add(prediction=Image.fromarray(np.ones((3, 5), np.uint8) * 255), reference=np.ones((3, 5), np.uint8))
    scores = metric.compute()
    assert scores["dice"] == pytest.approx(2 * (3 + 15) / (10 + 30)) and scores["n_images"] == 3
    assert metric.compute(predictions=[DOT], references=[DOT])["n_images"] == 1  # nothing is left over


@pytest.mark.parametrize(
    "predictions, references, message",
    [
        ([LEFT], [LEFT[:, :3]], "prediction 0 is"),
        ([DOT, DOT], [EMPTY, EMPTY], "none of 2 references"),
        ([], [], "none of 0 references"),
    ],
)
def test_no_score_is_an_error_and_not_nan(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        Dice().compute(predictions=predictions, references=references, ignore_empty=True)


def test_nothing_is_written(tmp_path):
    metric = Dice(cache_dir=str(tmp_path))
    metric.add_batch(predictions=[LEFT], references=[LEFT])
    assert not any(files for _, _, files in os.walk(tmp_path))
    assert metric.compute()["dice"] == 1.0


def test_scores_of_counted_images_are_those_of_the_metrics():
    predictions, references = [LEFT, DOT, EMPTY], [MIDDLE, EMPTY, DOT]
    counted = [count(*pair) for pair in zip(predictions, references, strict=True)]
    assert counted[0] == (2, 4, 4, 1.0) and all(isinstance(number, int) for number in counted[0][:3])
    for ignore_empty in (False, True):
        expected = {}
        for metric in (Dice(), IoU(), BoundaryF1()):
            expected |= metric.compute(predictions=predictions, references=references, ignore_empty=ignore_empty)
        assert scores_of(counted, ignore_empty) == expected


def test_standard_errors_are_those_of_other_test_sets():
    """Of a mean, the bootstrap's is its spread divided by the root of the number. Of all pixels together, it is what
    test sets scatter by that are really drawn anew."""
    rng = np.random.default_rng(1)

    def test_set(number):
        real = rng.integers(50, 150, number)
        predicted = rng.integers(50, 150, number)
        both = (np.minimum(real, predicted) * rng.random(number)).astype(int)
        return [Counts(*numbers, 0.5) for numbers in zip(both, predicted, real, strict=True)]

    images = test_set(60)
    errors, scores = standard_errors(images), scores_of(images)
    assert list(errors) == [f"{name}_se" for name in scores if not name.startswith("n_")]
    single = [2 * image.both / (image.predicted + image.real) for image in images]
    # of 1000 draws, a standard deviation is known to 1 / sqrt(2000), 2 %
    assert errors["dice_per_image_se"] == pytest.approx(np.std(single) / 60**0.5, rel=0.1)
    assert errors["boundary_f1_se"] == pytest.approx(0, abs=1e-12)  # the same for all
    others = [scores_of(test_set(60)) for _ in range(400)]
    for name in ("dice", "iou"):
        assert errors[f"{name}_se"] == pytest.approx(np.std([other[name] for other in others]), rel=0.3)
    assert standard_errors(images) == errors


def test_one_image_has_no_standard_error():
    assert set(standard_errors([count(LEFT, MIDDLE)]).values()) == {None}
    images = [count(LEFT, MIDDLE), count(EMPTY, EMPTY)]
    assert set(standard_errors(images, ignore_empty=True).values()) == {None}
    assert standard_errors(images)["dice_per_image_se"] > 0.1


def test_mean_and_std_over_seeds():
    runs = [{"dice": value, "n_images": 3} for value in (0.5, 0.6, 0.7)]
    assert mean_and_std(runs) == pytest.approx({"dice": 0.6, "dice_std": 0.1, "n_images": 3})
    assert mean_and_std(runs[:1]) == {"dice": 0.5, "dice_std": None, "n_images": 3}
    runs = [{"dice": 0.5, "dice_se": error} for error in (0.1, 0.3)]
    assert mean_and_std(runs) == pytest.approx({"dice": 0.5, "dice_std": 0, "dice_se": 0.2})
    assert mean_and_std([{"dice_se": None}] * 2) == {"dice_se": None}
