"""Command lines and recipe files, read into a dataclass of flags; every error is one line."""

import difflib
import re
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from functools import partial
from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import cyclopts
import yaml

from ..errors import InputError
from ..resources import find_recipe
from .base import Arguments

Parsed = TypeVar("Parsed", bound=Arguments)
OPTIONS = "Options"
CONFIG = "recipe, by name (fast, paper/two_encoder) or file: YAML with values of the flags, which flags override."
LAUNCH = "start several processes, by the name (multi_gpu) or file of an accelerate configuration."
NONE = ("none", "null")
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def parse(cls: type[Parsed], argv: Sequence[str], prog: str, launchable: bool = False) -> tuple[Parsed, str | None]:
    """Reads a command line.

    Booleans are `--flag`, `--flag true`, `--flag=false` or `--no-flag`, lists `--flag 8 16`, `--flag [8,16]` or a flag
    for each value, and `none` is no value. `--config` names a recipe, whose values the other flags override. `--help`
    prints the flags and exits.

    Args:
        cls: the command's dataclass.
        argv: the flags.
        prog: the command, as the help calls it.
        launchable: also take `--launch`.

    Returns:
        The flags, and the value of `--launch`.

    Raises:
        InputError: a flag or a value of the recipe is unknown, missing, of another type or refused by `cls`. The
            message shows no token.
    """
    try:
        return _parse(cls, list(argv), prog, launchable)
    except InputError as error:
        raise InputError(re.sub(r"\bhf_\w+", "hf_...", str(error))) from None


def _parse(cls: type[Parsed], argv: list[str], prog: str, launchable: bool) -> tuple[Parsed, str | None]:
    if any(flag.partition("=")[0] == "--hub_token" for flag in argv):
        raise InputError(
            "--hub_token is not taken any more, because command lines get into logs; log in with `hf auth login` or "
            "set HF_TOKEN, and revoke the token that was given"
        )
    hints = typing.get_type_hints(cls) | {"config": str}
    argv = normalize(argv, hints | ({"launch": str} if launchable else {}))
    recipe = next((flag.partition("=")[2] for flag in argv if flag.startswith("--config=")), None)
    values = {} if recipe is None else read_recipe(cls, find_recipe(recipe))
    if "--help" in argv or "-h" in argv:
        build_app(cls, prog, launchable, values).help_print([])
        sys.exit(0)
    try:
        app = build_app(cls, prog, launchable, values, require=False)
        _, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise InputError(explain(error, cls, prog, launchable)) from None
    given = [name for name in cls.exclusive if name in bound.arguments]
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]} exclude each other; give one")
    if given:
        values = {name: value for name, value in values.items() if name not in cls.exclusive}
    values |= bound.arguments
    values.pop("config", None)
    launch = values.pop("launch", None) if launchable else None
    missing = [f"--{field.name}" for field in fields(cls) if _is_required(field) and field.name not in values]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given; see {prog} --help")
    return cls(**values), launch


def normalize(argv: list[str], hints: dict[str, Any]) -> list[str]:
    """Writes `--flag=VALUE` where a flag takes one value, so that this may follow a switch, or begin with dashes as in
    `--training "--batch_size 8"`. Of several such flags of one name the last one counts.

    Raises:
        InputError: a list has no value, or a switch another one than true and false.
    """
    words, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag.startswith("--no-") and hints.get(flag[5:]) is bool and not equals:
            flag, equals, value = f"--{flag[5:]}", "=", "false"
        hint = hints.get(flag[2:]) if flag.startswith("--") else None
        follows = bool(rest) and (not rest[0].startswith("--") or " " in rest[0])
        if _is_list(hint) and not equals and not follows:
            raise InputError(f"{flag} has no value; give one or more")
        if hint is None or _is_list(hint):
            words.append(word)
            continue
        if not equals and follows:
            equals, value = "=", rest.pop(0)
        if hint is bool and equals and value.lower() not in ("true", "false"):
            raise InputError(f"{flag} is {value}; give true or false")
        words = [other for other in words if other.partition("=")[0] != flag] + [flag + equals + value]
    return words


# ---- the flags of a dataclass ----


def build_app(
    cls: type[Arguments], prog: str, launchable: bool, values: dict[str, Any], require: bool = True
) -> cyclopts.App:
    """The parser of a command's flags; `values`, those of a recipe, take the place of defaults in its help. Without
    `require`, no flag is required."""
    hints, described = typing.get_type_hints(cls), descriptions(cls)
    listed = sorted(fields(cls), key=lambda field: field.name not in vars(cls).get("__annotations__", {}))
    options = {"config": CONFIG, **({"launch": LAUNCH} if launchable else {})}
    first, *others = dict.fromkeys(group_of(cls, field) for field in listed)
    groups = {title: cyclopts.Group.create_ordered(title) for title in (first, OPTIONS, *others)}
    parameters = []
    for field in listed:
        hint, text = hints[field.name], described.get(field.name, "")
        default = values.get(field.name, _default(field))
        parameter = cyclopts.Parameter(
            name=f"--{field.name}",
            help=text,
            group=groups[group_of(cls, field)],
            converter=partial(_convert_tokens, hint),
            negative=f"--no-{field.name}" if hint is bool and default is True else (),
            consume_multiple=_is_list(hint),
            required=require and default is Parameter.empty,
            show_choices=not all(f"`{choice}`" in text for choice in _choices(hint)),
            show_default=default is not False and default not in (None, "", [], {}) and (lambda value: _spell(value)),
        )
        annotation: Any = Annotated[str if get_origin(hint) is dict else hint, parameter]
        default = default if require or default is not Parameter.empty else None
        parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    for name, text in options.items():
        parameter = cyclopts.Parameter(name=f"--{name}", help=text, group=groups[OPTIONS], show_default=False)
        annotation = Annotated[str | None, parameter]
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    def command(**_: Any) -> None:
        pass

    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # read by `inspect.signature`
    app = cyclopts.App(
        name=prog,
        help=describe(cls),
        help_format="plaintext",
        version_flags=(),
        group_commands=groups[OPTIONS],
        group_parameters=groups[OPTIONS],
    )
    app.default(command)
    return app


def describe(cls: type[Arguments]) -> str:
    """Describes a command in a line."""
    return cleandoc(cls.__doc__ or "").splitlines()[0]


def print_commands(prog: str, title: str, groups: dict[str, dict[str, str]]) -> None:
    """Prints the help of a command that has others: group -> name -> description."""
    ordered = {group: cyclopts.Group.create_ordered(group) for group in groups}
    quiet = partial(cyclopts.App, help_flags=(), version_flags=(), group_commands=next(iter(ordered.values())))
    app = quiet(name=prog, help=title, help_format="plaintext")
    for group, commands in groups.items():
        for i, (name, text) in enumerate(commands.items()):
            app.command(quiet(name=name, help=text, group=ordered[group], sort_key=i))
    app.help_print([])


def group_of(cls: type[Arguments], field: Field) -> str:
    """The title of the flags that a flag is listed with: that of the first class to declare it."""
    bases = (base for base in reversed(cls.__mro__) if issubclass(base, Arguments))
    return next(base.group for base in bases if field.name in vars(base).get("__annotations__", {}))


def descriptions(cls: type) -> dict[str, str]:
    """The flags' descriptions, of the docstrings of `cls` and of the classes that it inherits."""
    found = {}
    for base in reversed(cls.__mro__):
        _, _, listed = cleandoc(base.__doc__ or "").partition("\nArgs:\n")
        entries = re.split(r"^    (?=\w+: )", listed.partition("\n\n")[0], flags=re.MULTILINE)
        for name, _, text in (entry.partition(": ") for entry in entries[1:]):
            found[name] = " ".join(text.split())
    return found


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default


def _spell(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- values ----


def _convert_tokens(hint: Any, _: Any, tokens: Sequence[cyclopts.Token]) -> Any:
    """[`convert`] of the words that a command line has for a flag."""
    words = [token.value for token in tokens]
    if _is_list(hint):
        parts = [yaml.safe_load(word) if re.fullmatch(r"\[.*\]", word) else [word] for word in words]
        return convert(hint, [value for part in parts for value in part])
    return convert(hint, yaml.safe_load(words[0]) if get_origin(hint) is dict else words[0])


def convert(hint: Any, value: Any) -> Any:
    """`value`, of a YAML file or a word of a command line, as the type `hint`.

    Raises:
        ValueError: it can't be; says what to give.
    """
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        if value is None or (isinstance(value, str) and value in NONE):
            return None
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            near = difflib.get_close_matches(str(value), get_args(hint), n=1)
            raise ValueError(f"choose {_listed(get_args(hint))}" + (f"; did you mean {near[0]}?" if near else ""))
        return value
    if _is_list(hint):
        (part,) = get_args(hint)
        return [convert(part, item) for item in (value if isinstance(value, list) else [value])]
    if get_origin(hint) is dict or hint is dict:
        kind = get_args(hint)[1] if get_args(hint) else str
        if not isinstance(value, dict):
            raise ValueError("give '{name: value}'")
        return {str(name): convert(kind, item) for name, item in value.items()}
    words = {"true": True, "false": False}
    try:
        if hint is bool:
            return value if isinstance(value, bool) else words[value.lower()]
        if value is None or isinstance(value, (bool, list, dict)) or (hint is int and isinstance(value, float)):
            raise ValueError
        return hint(value)
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"give {KINDS[hint]}") from None


def _is_list(hint: Any) -> bool:
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        return any(_is_list(part) for part in get_args(hint))
    return get_origin(hint) is list


def _choices(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(choice for part in get_args(hint) for choice in _choices(part))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


# ---- recipes ----


def read_recipe(cls: type[Arguments], file: Path) -> dict[str, Any]:
    """The values in a YAML file.

    Raises:
        InputError: it is not there, no YAML, or has an unknown flag or a value of another type.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--config {file} can't be read ({reason}); give a YAML file of flags and values") from None
    if not isinstance(content, dict):
        raise InputError(f"--config {file} holds no flags and values; give lines such as resolution: 64")
    hints, values = typing.get_type_hints(cls), {}
    for name, value in content.items():
        if name not in hints:
            raise InputError(f"--config {file} has {name}: {_suggest(str(name), hints, 'remove it')}")
        try:
            values[name] = convert(hints[name], value)
        except ValueError as error:
            raise InputError(f"--config {file} has {name}: {value}; {error}") from None
    return values


# ---- errors ----


def _suggest(name: str, names: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"no such flag; {otherwise}"


def explain(error: cyclopts.CycloptsError, cls: type[Arguments], prog: str, launchable: bool) -> str:
    """One line for what is wrong with a flag."""
    if isinstance(error, cyclopts.UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        names = (*typing.get_type_hints(cls), "config", *(["launch"] * launchable))
        return f"{name}: {_suggest(name, [f'--{name}' for name in names], f'see {prog} --help')}"
    if isinstance(error, cyclopts.CoercionError) and error.argument is not None:
        words = " ".join(token.value for token in error.argument.tokens if isinstance(token.value, str))
        return f"{error.argument.name} is {words}; {error.__cause__}"
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        return f"{error.argument.name} has no value; see {prog} --help"
    if isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        return f"{error.unused_tokens[0]} belongs to no flag; see {prog} --help"
    return " ".join(str(error).split())
