"""`synthset prepare` on malformed inputs: it writes a dataset, or refuses in one line and leaves nothing behind."""

import sys

import fuzz_prepare
import pytest


@pytest.mark.parametrize("count, seed", [(36, 0), pytest.param(500, 1, marks=pytest.mark.fuzz)])
def test_malformed_inputs(monkeypatch, capfd, count, seed):
    monkeypatch.setattr(sys, "argv", ["fuzz_prepare.py", "--count", str(count), "--seed", str(seed)])
    failures = fuzz_prepare.main()
    printed = capfd.readouterr().out
    print(printed)  # the counts, which pytest -s shows
    assert not failures, printed
    assert "refused" in printed and "written" in printed
