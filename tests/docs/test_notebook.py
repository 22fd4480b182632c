"""The notebook, run from its first cell to its last with tiny budgets and the wheel installed."""

import re

import nbformat
import pytest
from nbclient import NotebookClient
from testing_utils.documentation import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
TINY = "length, num_samples, segmenter_steps = '--max_train_steps 2 --lr_warmup_steps 0', 6, 2"


def test_the_notebook_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_the_notebook_runs(installed, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = re.findall(r"^(\w+) =", parameters.source, re.MULTILINE)
    assert ", ".join(names) == TINY.partition(" =")[0]
    parameters.source = TINY
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=installed)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    printed = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"on-generated +Dice 0\.\d\d\non-real +Dice 0\.\d\d", printed), printed[-3000:]
