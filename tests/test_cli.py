"""Flags of type list, as users write them; scripts that call others."""

from dataclasses import dataclass, field

import pytest

from synthset.arguments import PushArguments
from synthset.arguments.base import Arguments as Base
from synthset.cli import call, parse_arguments
from synthset.errors import InputError


@dataclass(kw_only=True)
class Arguments(Base):
    """A script's flags."""

    folders: list[str]
    rates: list[float] = field(default_factory=lambda: [0.5])
    number: int = 0


@pytest.mark.parametrize(
    "argv, folders, rates",
    [
        (["--folders", "a"], ["a"], [0.5]),
        (["--folders", "a b", "--rates=1", "--folders", "c"], ["a b", "c"], [1.0]),
        (
            ["--folders", "7", "--number", "3", "--folders=b,c", "--rates", "1e-3", "--rates", "2"],
            ["7", "b,c"],
            [0.001, 2],
        ),
        (["--folders", "[a,b]", "--rates=[1,2]"], ["a", "b"], [1, 2]),
        (["--config", "RECIPE"], ["x", "y"], [3]),
        (["--folders", "a", "--config", "RECIPE", "--rates", "4"], ["a"], [4]),
    ],
)
def test_a_list_is_one_value_or_a_flag_for_each(argv, folders, rates, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("folders: [x, y]\nrates: [3]\n")
    args = parse_arguments(Arguments, [str(recipe) if flag == "RECIPE" else flag for flag in argv])
    assert (args.folders, args.rates) == (folders, rates)


@pytest.mark.parametrize(
    "argv, name",
    [(["--folders"], "folders"), (["--folders", "a", "--rates", "b"], "rates"), (["--rates", "1"], "folders")],
)
def test_a_bad_list_ends_in_one_line(argv, name, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(Arguments, argv)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and name in printed


def test_a_called_script_that_fails_is_one_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('said'); sys.exit(int(sys.argv[2]))")
    call(script, tmp_path / "said", 0)
    assert (tmp_path / "said").read_text() == "said"
    with pytest.raises(InputError, match="script.py ended with exit code 3; its error is above"):
        call(script, tmp_path / "said", 3)


@pytest.mark.parametrize("flag", [["--hub_token=hf_alice"], ["--hub_token", "hf_alice"]])
def test_a_token_on_the_command_line_is_refused_and_not_repeated(capsys, flag):
    with pytest.raises(SystemExit) as raised:
        parse_arguments(PushArguments, ["--folder", "somewhere", *flag])
    error = capsys.readouterr().err
    assert raised.value.code == 2 and error.count("\n") == 1 and "hf_alice" not in error
    assert error.startswith("error: --hub_token is not taken any more") and "HF_TOKEN" in error


def test_a_token_in_a_wrong_place_is_not_repeated(capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("hub_token: hf_alice\n")
    for flags in (["--token=hf_alice"], ["--config", str(recipe)], ["--data_lisense", "hf_alice"]):
        with pytest.raises(SystemExit):
            parse_arguments(PushArguments, ["--folder", "somewhere", *flags])
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "hf_alice" not in error
