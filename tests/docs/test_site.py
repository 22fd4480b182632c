"""The documentation as a site."""

import os
import subprocess
import sys

import pytest
from testing_utils.documentation import ROOT


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "From photos to a tested segmenter" in (tmp_path / "site" / "index.html").read_text()
    assert "num_inference_steps" in (tmp_path / "site" / "api" / "pipelines" / "index.html").read_text()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
