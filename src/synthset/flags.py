"""Flags that would be given in vain."""

from collections.abc import Mapping
from dataclasses import MISSING, fields

from .errors import InputError


def refuse_idle_flags(args, needs: Mapping[str, str]) -> None:
    """Refuses flags whose value no code would read.

    Args:
        args: a dataclass of flags.
        needs: flag -> the flags without which it means nothing, separated by spaces: `"gan_weight"` must be neither
            false nor 0 nor None, `"curriculum_form=paper"` must have that value.

    Raises:
        InputError: a flag of `needs` differs from its default while one that it needs is off.
    """
    defaults = {f.name: f.default_factory() if f.default is MISSING else f.default for f in fields(args)}
    for flag, conditions in needs.items():
        if getattr(args, flag) == defaults[flag]:
            continue
        for condition in conditions.split():
            name, _, value = condition.partition("=")
            if str(getattr(args, name)) != value if value else not getattr(args, name):
                needed = condition.replace("=", " ")
                raise InputError(
                    f"--{flag} is {getattr(args, flag)}, which means nothing without --{needed}; add that, or leave "
                    f"--{flag} out"
                )
