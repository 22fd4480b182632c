"""What a segmenter is trained by, and the weights that are kept."""

from typing import get_args, get_type_hints

import pytest
import torch

from synthset.arguments import SegmentationArguments
from synthset.arguments.segmentation import LEARNING_RATES
from synthset.segmentation import BestWeights, build_lr_scheduler, build_optimizer
from synthset.segmentation.optimization import OPTIMIZERS


def test_names_are_those_of_the_flag():
    names = get_args(get_type_hints(SegmentationArguments)["optimizer"])
    assert tuple(OPTIMIZERS) == tuple(LEARNING_RATES) == names


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "scheduler, steps, expected",
    [
        ("constant", 4, [1, 1, 1, 1]),
        ("cosine", 2, [1, 0.5]),
        # from 1/25 to 1 in 0.3 of 11 steps, which ends 2.3 after the first, then to 1/250 000 at the last
        ("one_cycle", 11, [0.04, None, None, None, None, None, None, None, None, None, 4e-6]),
        ("one_cycle", 1, [None]),
        ("one_cycle", 2, [None, 4e-6]),
    ],
)
def test_learning_rates(optimizer, scheduler, steps, expected):
    built = build_optimizer(optimizer, [torch.nn.Parameter(torch.zeros(2))], 0.5)
    course, rates = build_lr_scheduler(scheduler, built, steps), []
    for _ in range(steps):
        rates.append(built.param_groups[0]["lr"] / 0.5)
        built.step()
        course.step()
    assert all(0 <= rate <= 1 for rate in rates)
    assert all(e is None or r == pytest.approx(e, rel=1e-6) for r, e in zip(rates, expected, strict=True))
    if steps == 11:
        highest = rates.index(max(rates))
        assert highest in (2, 3) and max(rates) > 0.9
        assert rates == sorted(rates[: highest + 1]) + sorted(rates[highest + 1 :], reverse=True)


def test_best_weights():
    network = torch.nn.BatchNorm1d(1)
    best = BestWeights(network)
    for step, score in enumerate([0.1, 0.3, 0.2, 0.3], start=1):
        network.weight.data.fill_(step)
        network.running_mean.fill_(-step)
        best.offer(step, score)
    best.restore()
    assert (best.step, best.score, network.weight.item(), network.running_mean.item()) == (2, 0.3, 2, -2)
