"""What an entry of a journal can say, checked where it is logged: the server would refuse it later. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from loopline.errors import Invalid
from loopline.tracking.journal_format import KINDS, LARGEST
from loopline.tracking.paths import check_key, check_path, check_text

MOST_KEYS = 10_000
"""Params or tags in one call."""

NUMBERS = {kind: number for number, kind in enumerate(KINDS, 1) if kind != "points"}

_EXACT = 2**53
_LARGEST = LARGEST - 1024  # less head and run


def entry_text(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The fields of an entry as JSON; NaN and infinities by their names, as records carry them.

    Raises `Invalid` on an unknown kind, and on keys, paths and values that are none or too long.
    """
    if kind not in NUMBERS:
        raise Invalid(f"{kind!r} is no kind of entry.", code="bad-value", hint=f"There are: {', '.join(NUMBERS)}.")
    plain = plain_json(fields, f"The {kind} of a run")
    try:
        for what in ("params", "tags"):
            _check_keys(plain.get(what) or {}, what)
        check_text(str(plain.get("text", "")), f"The {kind}")
        text = _json(plain).encode()
    except (ValueError, RecursionError) as e:
        raise Invalid(
            f"The {kind} of a run cannot be written: {e}.", code="bad-value", hint="Write it as a text."
        ) from e
    if kind == "artifact":
        check_path(plain["path"])
    if len(text) > _LARGEST:
        raise Invalid(
            f"The {kind} of a run has {len(text):,} bytes.",
            code="too-long",
            hint=f"At most {_LARGEST:,} at once; keep the rest as an artifact.",
        )
    return text


def check_count(given: Mapping[str, Any], what: str) -> None:
    """Raises `Invalid` where one call brings too many."""
    if len(given) > MOST_KEYS:
        raise Invalid(
            f"{len(given):,} {what} in one call are too many.",
            code="bad-batch",
            hint=f"Send at most {MOST_KEYS:,} at once; keep long lists as an artifact.",
        )


def _check_keys(given: Mapping[str, Any], what: str) -> None:
    check_count(given, what)
    for key, value in given.items():
        check_key(key, f"key of {what}")
        check_text(_json(value), f"{key!r} of the {what}")


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def plain_json(value: Any, what: str) -> Any:
    """The value as JSON can carry it; NaN and infinities by their names. Raises `Invalid`."""
    try:
        return _plain(value, what)
    except RecursionError:
        raise Invalid(f"{what} is nested too deep.", code="bad-value", hint="Keep it as an artifact.") from None


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item, what) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, what) for item in value]
    if value is None or isinstance(value, str | float | bool):
        return value
    if isinstance(value, int) and abs(value) <= _EXACT:
        return value
    shown = f"the number {value}" if isinstance(value, int) else f"a {type(value).__name__}"
    raise Invalid(
        f"{what} holds {shown}, which JSON cannot carry.",
        code="bad-value",
        hint="Give text, numbers up to 2**53, booleans, lists or mappings of these.",
    )
