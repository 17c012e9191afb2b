"""What people log, as records carry it: numbers of any library as floats, params as JSON values."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from loopline.errors import Invalid
from loopline.hashing import canonical_json
from loopline.tracking.paths import check_key, check_text
from loopline.tracking.records import real

_MOST = 2**63


def number(key: str, value: Any) -> float:
    """The value of a metric: whatever Python can make a float of (numbers, scalars of numpy, torch, tensorflow), but no text.

    NaN and infinities stay. Raises `Invalid` (code "bad-point").
    """
    if type(value) is float:
        return value
    if not isinstance(value, str | bytes):
        try:
            return float(value)
        except Exception as e:  # a tensor of several elements raises what its library likes
            raise _no_number(key, value) from e
    raise _no_number(key, value)


def whole(key: str, step: Any) -> int:
    """A step, from any integer. Raises `Invalid` (code "bad-point")."""
    try:
        found = operator.index(step)
    except TypeError:
        found = _MOST
    if not -_MOST <= found < _MOST:
        raise Invalid(
            f"{key!r} cannot have the step {step!r}.", code="bad-point", hint="A step is a 64-bit integer, such as 4."
        )
    return found


def params(given: Mapping[str, Any]) -> dict[str, tuple[Any, bytes]]:
    """Each param as a JSON value, with its canonical text, by which two values are the same.

    Scalars of numpy and the like become numbers, and whatever JSON has no form for becomes its text. Raises `Invalid` on keys
    and values that cannot be kept.
    """
    found = {}
    for key, value in given.items():
        value = plain(value)
        try:
            text = canonical_json(value)
        except ValueError as e:
            raise Invalid(
                f"The param {key!r} cannot be kept: {e}.", code="bad-value", hint="Write it as a text."
            ) from e
        check_text(text.decode(), f"The param {key!r}")
        found[check_key(_text(key, "param"), "key of a param")] = value, text
    return found


def tags(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Tags, their values as text; None stays, as it removes one. Raises `Invalid`."""
    return {
        check_key(_text(key, "tag"), "key of a tag"): None
        if value is None
        else check_text(str(value), f"The tag {key!r}")
        for key, value in given.items()
    }


def plain(value: Any) -> Any:
    """A value as JSON can carry it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return real(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return plain(value.item())
    return str(value)


def _text(key: Any, what: str) -> str:
    if isinstance(key, str):
        return key
    raise Invalid(f"{key!r} cannot be the key of a {what}.", code="bad-key", hint="Give a text such as 'rate'.")


def _no_number(key: str, value: Any) -> Invalid:
    return Invalid(
        f"{key!r} cannot have the value {str(value)[:60]!r}, which is no number but {type(value).__name__}.",
        code="bad-point",
        hint="Give one number; of a tensor, for example its mean.",
    )
