"""Values that no model reads and the prediction log keeps: what can be kept so that a table's cell gives it back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from loopline.serving.problems import bad_input


def check_passed(name: str, values: Iterable[Any]) -> None:
    """Raises the 400 of the first value that cannot be kept, with its row."""
    for n, value in enumerate(values):
        if why := unkept(value):
            bad_input(
                f"Row {n}, column {name!r}: {why} cannot be kept.",
                "wrong-type",
                "Send a text, a boolean, null, or a number that 64 bits hold.",
                field=name,
                row=n,
                got=why,
            )


def unkept(value: Any) -> str:
    """Why a value cannot be passed through to the log and read as a table's cell there; "" where it can."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        return "a whole number of more than 64 bits"
    return "" if type(value) is not float or math.isfinite(value) else "a number of more than 64 bits"
