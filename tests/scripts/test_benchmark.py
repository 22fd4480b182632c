"""`benchmark.py` prints its tables; how fast anything is, is not a test's business."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from testing_utils.pairs import random_pairs, write_raw_folder

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


@pytest.mark.slow
def test_benchmark_prints_its_tables(tmp_path):
    folder = write_raw_folder(tmp_path, random_pairs(3))
    flags = f"--resolution 16 --batch_size 2 --block_out_channels [32,64] --repeats 1 --device cpu --dataset {folder}"
    result = subprocess.run([sys.executable, str(SCRIPT), *flags.split()], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for row in ("| two_encoder |", "| shared_encoder |", "| concat |", "| UNet2DModel |", "| ScaleU |"):
        assert row in result.stdout
    for variant in ("two_encoder", "shared_encoder", "concat"):
        rows = re.findall(rf"^\| {variant} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", result.stdout, re.MULTILINE)
        sides, (plain, adversarial, ratio) = (list(map(float, row)) for row in rows)
        assert 0 < sides[0] < 4 * sides[2], "seconds at half and twice the resolution"
        assert plain > 0 and ratio == pytest.approx(adversarial / plain, rel=0.05)
    for variant in ("two_encoder", "shared_encoder", "concat", "UNet2DModel"):  # of the first table
        (row,) = re.findall(rf"^\| {variant} ((?:\| [\d.e+-]+ ){{8}})\|$", result.stdout, re.MULTILINE)
        assert 0 < float(row.split("|")[-1]) <= 100, "percent of the peak"
    loader = re.findall(r"x (\d+), (\d+) pairs, 0 workers: (\d+) images per second", result.stdout)
    assert [(int(times), int(pairs)) for times, pairs, _ in loader] == [(1, 3), (10, 30)]
    paces = re.findall(r"^\| ([12]) \| ([\d.]+) \| ([\d.]+) \|$", result.stdout, re.MULTILINE)
    assert [count for count, *_ in paces] == ["1", "2"] and all(float(pace) > 0 for _, pace, _ in paces)
