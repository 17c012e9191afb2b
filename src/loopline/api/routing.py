"""From a path to its operation. Paths are matched as they came, so that an encoded slash stays part of a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from loopline.errors import Invalid, NotFound
from loopline.operations import Operation

PREFIX = "/api/v1"

_PLACE = re.compile(r"{(\w+)(:path)?}")


class Routes:
    """The operations by method and path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        # A path of fixed words goes before one with a place for a name.
        ordered = sorted(operations, key=lambda op: [bool(_PLACE.search(part)) for part in op.path.split("/")])
        self._routes = [(_pattern(op.path), op) for op in ordered]

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """The operation of a raw path below `PREFIX`, and what its places hold. Raises `NotFound`, `Invalid`."""
        allowed = set()
        for pattern, op in self._routes:
            if found := pattern.fullmatch(path):
                if op.method == method:
                    return op, {name: decoded(text) for name, text in found.groupdict().items()}
                allowed.add(op.method)
        if allowed:
            raise Invalid(
                f"{path!r} does not take {method}.",
                code="bad-method",
                hint=f"It takes {' and '.join(sorted(allowed))}.",
                allowed=sorted(allowed),
            )
        raise NotFound(f"There is nothing at {path!r}.", code="no-route", hint="/api/docs lists what there is.")


def decoded(text: str) -> str:
    """The text that percent signs encode, taken apart once. Raises `Invalid` where it is not UTF-8 or holds a NUL."""
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError as e:
        raise Invalid(
            f"{text!r} is not UTF-8.", code="not-utf8", hint="Encode it as UTF-8, then by percent signs."
        ) from e
    if "\0" in plain:
        raise Invalid("A NUL character stands in the address.", code="bad-text", hint="Leave it out.")
    return plain


def _pattern(path: str) -> re.Pattern[str]:
    parts, end = [], 0
    for place in _PLACE.finditer(path):
        parts += [re.escape(path[end : place.start()]), f"(?P<{place[1]}>{'.*' if place[2] else '[^/]*'})"]
        end = place.end()
    return re.compile("".join([*parts, re.escape(path[end:])]), re.DOTALL)
