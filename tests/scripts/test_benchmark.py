"""`benchmark.py` prints its four tables; how fast anything is, is not a test's business."""

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
        (row,) = re.findall(rf"^\| {variant} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", result.stdout, re.MULTILINE)
        plain, adversarial, ratio = map(float, row)
        assert plain > 0 and ratio == pytest.approx(adversarial / plain, rel=0.05)
    assert "images per second" in result.stdout
