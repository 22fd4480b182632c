"""Log lines of a command, in a process of its own."""

import re
import subprocess
import sys

CODE = """
import logging
from huggingface_hub.utils import logging as hub_logging
from synthset.console import configure_logging
configure_logging()
configure_logging()
logging.getLogger("synthset").info("saved")
hub_logging.get_logger("huggingface_hub.file_download").warning("trying again")
"""


def test_every_line_appears_once_and_ours_have_a_time_and_a_level():
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stderr
    assert printed.count("trying again") == 1 and re.search(r"^\d\d:\d\d:\d\d INFO saved$", printed, re.MULTILINE)
    assert printed.count("saved") == 1
