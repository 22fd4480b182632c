"""Base of every command's flags: checks, and the table of flags that mean nothing without others."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib.util import find_spec
from typing import ClassVar, TypeVar

from ..errors import InputError

Value = TypeVar("Value")


@dataclass(kw_only=True)
class Arguments:
    """Flags of a command, or a group of them.

    A class is a group of the help; a command's class inherits the groups that it has. Its docstring describes each flag
    under `Args:`, and `__post_init__` checks what the types don't say and raises `InputError`. dataclasses put the
    fields of the last base first, and the help has them in that order.

    Attributes:
        group: title of the flags that the class itself declares.
        exclusive: flags of which a command line may have one; it replaces those of a recipe.
    """

    group = "Options"
    exclusive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        pass

    def require_positive(self, *names: str) -> None:
        """Raises InputError for a flag of these that is given and not above 0."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name} is {value}; give a number above 0")

    def require_at_least(self, bound: float, *names: str) -> None:
        """Raises InputError for a flag of these that is given and below `bound`."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value >= bound:
                raise InputError(f"--{name} is {value}; give {bound} or more")

    def require_share(self, *names: str) -> None:
        """Raises InputError for a flag of these that is not from 0 to 1."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give 0 to 1")

    def require_needed(self, needs: Mapping[str, str]) -> None:
        """Refuses flags whose value no code would read.

        Args:
            needs: flag -> the flags without which it means nothing, separated by spaces: `"gan_weight"` must be neither
                false nor 0 nor None, `"curriculum_form=paper"` must have that value.

        Raises:
            InputError: a flag of `needs` differs from its default while one that it needs is off.
        """
        defaults = {
            f.name: f.default if f.default_factory is MISSING else f.default_factory()
            for f in fields(self)
            if not (f.default is MISSING and f.default_factory is MISSING)
        }
        for flag, conditions in needs.items():
            if getattr(self, flag) == defaults[flag]:
                continue
            for condition in conditions.split():
                name, _, value = condition.partition("=")
                if str(getattr(self, name)) != value if value else not getattr(self, name):
                    needed = condition.replace("=", " ")
                    raise InputError(
                        f"--{flag} is {getattr(self, flag)}, which means nothing without --{needed}; add that, or "
                        f"leave --{flag} out"
                    )


def resolved(value: Value | None) -> Value:
    """The value of a flag that is filled in when it is not given.

    Raises:
        RuntimeError: it has not been filled in yet.
    """
    if value is None:
        raise RuntimeError("a flag is read before it is filled in")
    return value


def require_seeds(seeds: list[int]) -> None:
    """Raises InputError unless `--seeds` are different numbers of 0 or more."""
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds is {seeds}; give different numbers, 0 or more")


def require_xformers(enabled: bool) -> None:
    """Raises InputError if xformers is asked for and not installed."""
    if enabled and find_spec("xformers") is None:
        raise InputError(
            "--enable_xformers_memory_efficient_attention is true, but xformers is not installed; "
            "pip install 'synthset[xformers]' or leave the flag out"
        )
