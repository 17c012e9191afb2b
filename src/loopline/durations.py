"""Durations as people write them: "5ms", "1h", "7d"."""

from __future__ import annotations

import re

from loopline.errors import Invalid

_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_LONGEST = 10_000 * 366 * 86_400_000  # no time is further from another


def milliseconds(text: str, what: str) -> int:
    """A duration in milliseconds. `what` names the setting in the error."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d|w)\s*", text)
    if not found or float(found[1]) * _MS[found[2]] > _LONGEST:
        raise Invalid(
            f"{text!r} is no duration for {what}.",
            code="bad-duration",
            hint='Write a number and a unit: "5ms", "30s", "10min", "1h", "7d", "2w".',
        )
    return round(float(found[1]) * _MS[found[2]])


def written(milliseconds: int) -> str:
    """A duration as it is typed, in the largest unit of which it is a whole number."""
    unit = next(unit for unit, size in reversed(_MS.items()) if milliseconds % size == 0)
    return f"{milliseconds // _MS[unit]}{unit}"
