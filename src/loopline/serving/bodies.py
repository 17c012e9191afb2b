"""A JSON body on the long way: read strictly, its rows found by its shape, each row brought into the columns of a table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, Literal

import msgspec

from loopline.data.nested import spread
from loopline.errors import did_you_mean
from loopline.serving.problems import bad_input

Form = Literal["list", "object", "rows", "columns", "none"]
DEEPEST = 100
"""Lists and objects that may stand within each other in a body."""
_WRAP = ("rows", "route_key")
_UNREAD = (dict, list, type(None))
"""What is no cell of a table."""


def read(body: bytes, hint: str = 'Send [{"column": value, ...}, ...] as UTF-8; a missing value is null.') -> Any:
    """The JSON value of a body; `hint` says what is wanted.

    Raises `Problem` for what is no JSON, a key given twice, numbers that JSON has not, and what is nested too deeply.
    """
    try:
        if b"\\u" in body:
            msgspec.json.decode(body)  # refuses half a surrogate pair, which no graph could take
        found = json.loads(body.decode(), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except _Twin as e:
        name = e.args[0]
        bad_input(f"The key {name!r} is given twice in one object.", "duplicate-key", "Give each key once.", field=name)
    except (ValueError, msgspec.DecodeError, RecursionError) as e:
        bad_input(
            f"The body is not JSON: {str(e) or type(e).__name__}.",
            "not-json",
            hint,
        )
    if body.count(b"{") + body.count(b"[") > DEEPEST and _too_deep(found):
        bad_input(f"The body is nested more than {DEEPEST} deep.", "too-deep", hint)
    return found


def rows_of(value: Any, columns: Collection[str]) -> tuple[Form, list[Any], str | None]:
    """The form of a body, its rows and its route key: a list of objects, one object, or the two wrapped up.

    `{"rows": ..., "route_key": ...}` wraps rows. Where the table has a column `rows`, it does so only if it is a list of objects
    and no column stands beside it. Raises `Problem`.
    """
    form: Form = "list"
    rows, route_key = value, None
    if isinstance(value, dict):
        form, rows = "object", [value]
        if "rows" in value and ("rows" not in columns or _wraps(value)):
            form, rows, route_key = "rows", value["rows"], value.get("route_key")
            for name in value:
                if name not in _WRAP:
                    bad_input(f"{name!r} beside 'rows' is unknown.", "unknown-key", did_you_mean(name, _WRAP))
            if route_key is not None and not isinstance(route_key, str):
                bad_input(
                    "'route_key' must be a text.",
                    "bad-route-key",
                    'Send it as a text, as in {"rows": [...], "route_key": "17"}.',
                    expected="a text",
                    got=said(route_key),
                )
    if not isinstance(rows, list):
        bad_input(
            "The rows are not a list of objects.", "not-rows", 'Send [{"column": value, ...}, ...].', got=said(rows)
        )
    if not rows:
        bad_input("The request has 0 rows.", "no-rows", "Send at least one row.")
    return form, rows, route_key


def flat(row: dict[str, Any], n: int, columns: Collection[str]) -> dict[str, Any]:
    """A row as the reader of tables would have it: nested objects under dotted names, without columns that hold lists.

    What the reader left out of the table may be null in this row; so an unknown name with null tells nothing and goes, too. The
    row itself where nothing changes. Raises `Problem` where two values come under one name.
    """
    if all(name in columns or not isinstance(value, _UNREAD) for name, value in row.items()):
        return row
    found: dict[str, Any] = {}
    for name, value in spread(row):
        if name in found:
            bad_input(
                f"Row {n}: {name!r} is given twice, nested and by its name.",
                "duplicate-key",
                "Give it once.",
                field=name,
                row=n,
            )
        if name in columns or not isinstance(value, _UNREAD):
            found[name] = value
    return found


def said(value: Any) -> str:
    """What was given, short enough for a message."""
    text = repr(value) if isinstance(value, float) else json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _wraps(value: dict[str, Any]) -> bool:
    rows = value["rows"]
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows) and value.keys() <= {*_WRAP}


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [one for outer in level for one in _inside(outer) if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


class _Twin(ValueError):
    pass


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Twin(name)
            seen.add(name)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number; a missing value is null")
