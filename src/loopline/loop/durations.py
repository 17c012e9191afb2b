"""Durations and rates as people write them: "5ms", "1h", "7d", "1/quarter"."""

from __future__ import annotations

import re

from loopline.errors import Invalid

_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PERIODS = {"day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}


def milliseconds(text: str, what: str) -> int:
    """A duration in milliseconds. `what` names the setting in the error."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d|w)\s*", text)
    if not found:
        raise Invalid(
            f"{text!r} is no duration for {what}.",
            code="bad-duration",
            hint='Write a number and a unit: "5ms", "30s", "10min", "1h", "7d", "2w".',
        )
    return round(float(found[1]) * _MS[found[2]])


def rate(text: str, what: str) -> tuple[float, int]:
    """A rate such as "1/quarter": how many, and the period in milliseconds."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\w+)\s*", text)
    if not found or found[2] not in _PERIODS or float(found[1]) <= 0:
        raise Invalid(
            f"{text!r} is no rate for {what}.",
            code="bad-rate",
            hint=f'Write "1/quarter"; periods: {", ".join(_PERIODS)}.',
        )
    return float(found[1]), _PERIODS[found[2]] * _MS["d"]
