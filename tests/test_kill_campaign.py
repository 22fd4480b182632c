"""A quick share of the campaign of kills; all of it is `python tests/kill_campaign.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes():
    runs = ["adversarial, two processes", "generate, two processes", "segment", "copy-paste", "push"]
    campaign = Path(__file__).with_name("kill_campaign.py")
    command = [sys.executable, str(campaign), "--kills", "15", "--seed", "1", "--runs", *runs]
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line[:28].strip() for line in result.stdout.splitlines()[1:]] == runs
