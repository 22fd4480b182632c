"""Label maps: the classes behind binary masks, kept beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import InputError
from .reading import Color


@dataclass(frozen=True)
class LabelTable:
    """Numbers and names of the labels of a dataset.

    Attributes:
        numbers: code in `Decoded.labels` -> value in the stored label map.
        names: value in the stored label map -> name of the class, or its color or value in the masks.
    """

    numbers: dict[int, int]
    names: dict[int, str]

    def encode(self, labels: np.ndarray) -> Image.Image:
        """Converts labels, int32 (H, W), to a label map of mode "L", or "I;16" if there are values above 255."""
        codes = np.array(sorted(self.numbers))
        values = np.array([self.numbers[code] for code in codes])
        depth = np.uint8 if values.max() < 256 else np.uint16
        return Image.fromarray(values.astype(depth)[np.searchsorted(codes, labels)])


def to_code(value: int | Color) -> int:
    """The code of a value or color in `Decoded.labels`."""
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


def to_color(code: int) -> str:
    """The color of a code, as `#rrggbb`."""
    return f"#{code:06x}"


def join_classes(listed: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Joins the classes of splits, which may list them in different orders."""
    return tuple(dict.fromkeys(name for classes in listed for name in classes))


def label_table(
    codes: Iterable[int], kind: str, classes: Mapping[str, int | Color] | None, drawn: Sequence[str]
) -> LabelTable:
    """Numbers the labels that a dataset has.

    Values and drawn classes keep their numbers. Colors are numbered in the order of `classes`, or of their codes; black
    is 0.

    Args:
        codes: those found in `Decoded.labels`.
        kind: "values", "colors" or "classes", what the codes are.
        classes: name -> value or color; None if the user gave none.
        drawn: names of drawn classes, from 1.

    Raises:
        InputError: more than 255 colors.
    """
    if kind == "classes":
        names = {0: "background", **dict(enumerate(drawn, start=1))}
        return LabelTable({number: number for number in names}, names)
    known = {to_code(value): name for name, value in (classes or {}).items()}
    found = sorted({*codes, *known})
    if kind == "values":
        return LabelTable({code: code for code in found}, {code: known.get(code, str(code)) for code in found})
    order = [0, *(code for code in [*known, *(code for code in found if code not in known)] if code)]
    if len(order) > 256:
        listed = ", ".join(map(to_color, order[1:7]))
        raise InputError(
            f"the masks have {len(order)} colors ({listed}, ...), which are no classes; save them losslessly (PNG), "
            "without antialiasing"
        )
    return LabelTable(
        {code: number for number, code in enumerate(order)},
        {number: known.get(code, to_color(code)) for number, code in enumerate(order)},
    )
