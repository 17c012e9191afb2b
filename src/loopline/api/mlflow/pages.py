"""Page tokens: where in an order the next page begins, opaque to clients."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from loopline.api.mlflow.endpoints import Ask
from loopline.api.mlflow.problems import Problem

_LONGEST = 16_384
_MOST = 1 << 53
_AT_ONCE = 1000


def token(place: int | str) -> str:
    """The token of the page that begins so many things into the order, or behind such a key."""
    return base64.b64encode(json.dumps({"offset": place}).encode()).decode()


def offset(given: str | None) -> int:
    """Where the page of a token begins; 0 without one. Raises `Problem` on one that no page gave."""
    if not given:
        return 0
    place = _place(given)
    try:
        number = int(place)
    except (TypeError, ValueError, OverflowError) as e:
        raise Problem(f"Invalid page token, not stringable {str(place)[:200]}") from e
    if not 0 <= number < _MOST:
        raise Problem(f"Invalid page token, not stringable {str(place)[:200]}")
    return number


def key(given: str | None) -> str | None:
    """Behind which key the page of a token begins; None without one. Raises `Problem` on one that no page gave."""
    if not given:
        return None
    place = _place(given)
    if not isinstance(place, str):
        raise Problem(f"Invalid page token, not stringable {str(place)[:200]}")
    return place


def collect(ask: Ask, operation: str, most: int, given: str | None, **args: Any) -> tuple[list[Any], str | None]:
    """The pages of an operation that hold the things of one page here, and the key behind them (None: there are no more)."""
    after, found = key(given), []
    while most > 0:
        page = ask.call(operation, limit=min(_AT_ONCE, most), after=after, **args)
        found.append(page)
        most, after = most - _AT_ONCE, page.after
        if after is None:
            break
    return found, after


def _place(given: str) -> Any:
    try:
        raw = base64.b64decode(given[:_LONGEST])
    except (binascii.Error, ValueError) as e:
        raise Problem("Invalid page token, could not base64-decode") from e
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise Problem(f"Invalid page token, decoded value={raw[:200]!r}") from e
    place = found.get("offset") if isinstance(found, dict) else None
    if not place:
        raise Problem(f"Invalid page token, parsed value={str(found)[:200]}")
    return place
