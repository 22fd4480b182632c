"""Every command in README and docs, read by the parser that reads it for users."""

import re
import shlex
from dataclasses import MISSING, Field, fields

import pytest
from testing_utils.documentation import PAGES, ROOT, arguments, blocks, commands

from synthset.arguments.parser import parse
from synthset.cli import COMMANDS, RESEARCH
from synthset.resources import find_configuration

SCRIPT_FLAGS = {  # flags of the tables and of `select` that hold flags of another command
    "training": "train",
    "sr_training": "train-sr",
    "generation": "generate",
    "segmentation": "segment",
}
NOT_OURS = set("config help launch machine_rank main_process_ip num_processes num_machines config_file".split())
NOT_OURS |= set("dynamo_backend wait logdir requeue".split())


def read(words):
    """The flags of a command, `synthset` left out, and how it is to be launched."""
    table = RESEARCH if words[0] == "research" else COMMANDS
    name, *flags = words[1:] if words[0] == "research" else words
    assert name in table, f"there is no command {name}"
    return parse(table[name].cls, flags, name, table[name].launchable)


def is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_understood(page):
    for block in blocks(page, "bash"):
        for words in commands(block):
            flags = arguments(words)
            if flags is None:
                continue
            values, launch = read(flags)
            if launch is not None:
                find_configuration(launch)
            for name, command in SCRIPT_FLAGS.items():
                text = getattr(values, name, None)
                if isinstance(text, str):
                    required = [f"--{field.name}=x" for field in fields(COMMANDS[command].cls) if is_required(field)]
                    read([command, *required, *shlex.split(text)])


def test_flags_and_commands_named_in_the_text_exist():
    flags = {field.name for table in (COMMANDS, RESEARCH) for c in table.values() for field in fields(c.cls)}
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([^`\n]+)`", text):
            unknown = set(re.findall(r"(?<![\w-])--([a-z]\w+)", code)) - flags - NOT_OURS
            assert not unknown, f"{page.name}: `{code}`"
            if match := re.match(r"synthset (research )?([a-z][\w-]*)", code):
                assert match.group(2) in (RESEARCH if match.group(1) else COMMANDS), f"{page.name}: `{code}`"


def test_python_blocks_are_valid():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block.text, block.place, "exec")
