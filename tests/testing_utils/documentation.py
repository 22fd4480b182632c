"""Commands and code in the fenced blocks of README and docs."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SCRIPTS = {  # scripts/NAME.py -> the command it is
    "train_paired": ["train"],
    "train_sr": ["train-sr"],
    "generate_dataset": ["generate"],
}
OTHERS = {"accelerate", "bash", "hf", "mkdocs", "pip", "tensorboard"}  # programs whose commands are not ours to check


class Block(NamedTuple):
    """A fenced block: where it begins, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of `page` in any of `languages`, in their order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, *match.groups())
        for match in found
        if match.group(1) in languages
    ]


def commands(block: Block) -> list[list[str]]:
    """The words of every command in a `bash` block; shell scripts, which begin with `#!`, have none of ours."""
    if block.text.startswith("#!"):
        return []
    found, text = [], ""
    for line in block.text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(text + line, comments=True)
        except ValueError:  # a quotation goes on in the next line
            text += line + "\n"
            continue
        text = ""
        found += [words] if words else []
    assert not text, f"{block.place} has an open quotation"
    return found


def arguments(words: list[str]) -> list[str] | None:
    """What follows `synthset` in a command, also if a script or a launcher stands for it; None for other programs."""
    if words[0] == "synthset":
        return words[1:]
    if words[0] == "sbatch":
        return arguments(words[2:])
    for i, word in enumerate(words):
        path = Path(word)
        if path.suffix == ".py" and path.parent.name == "scripts":
            return [*SCRIPTS[path.stem], *words[i + 1 :]]
    assert words[0] in OTHERS, f"{words[0]} is neither ours nor known"
    return None
