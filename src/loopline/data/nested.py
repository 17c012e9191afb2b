"""Records within records, as the columns of a table: `{"user": {"age": 41}}` has the column `user.age`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def spread(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The (column, value) pairs of a row, nested objects under dotted names. A name may come twice."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", v) for inner, v in spread(value))
        else:
            yield name, value
