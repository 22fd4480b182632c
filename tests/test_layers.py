"""Who may import whom: data flows one way."""

import ast
from pathlib import Path

import pytest

import synthset

ROOT = Path(synthset.__file__).parent
FORBIDDEN = {
    "models": {"data", "training", "pipelines", "image_processor", "publishing", "cli"},
    "sources": {"data", "models", "pipelines", "training", "publishing", "segmentation", "visualization"},
    "data": {"models", "pipelines", "training", "publishing"},
    "pipelines": {"data", "training", "publishing"},
    "evaluation": {"models", "data", "pipelines", "training", "publishing", "cli"},
    "visualization": {"models", "data", "pipelines", "training", "publishing", "cli"},
    "arguments": {"models", "data", "pipelines", "training", "publishing", "cli", "evaluation", "segmentation"},
    "image_processor.py": {"models", "data", "pipelines", "training"},
}


def imported(file: Path) -> set[str]:
    """First names under `synthset` that a file imports, however it spells it."""
    package = file.relative_to(ROOT.parent).parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            path = base + (node.module.split(".") if node.module else [])
            names |= {(*path, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
    return {name[1] for name in names if name[0] == "synthset" and len(name) > 1}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_flow_one_way(room):
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert not imported(file) & FORBIDDEN[room], file


def test_the_reader_of_imports_sees_them():
    assert {"pipelines", "visualization", "random"} <= imported(ROOT / "training" / "validation.py")
