"""A call as an HTTP request: path, query, headers and body, from the declaration of its operation."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from loopline.errors import Invalid
from loopline.operations import Body, Operation
from loopline.refs import check_name

PREFIX = "/api/v1"

_PLACE = re.compile(r"{(\w+)(?::path)?}")


class Request(msgspec.Struct, frozen=True):
    """What is sent; `body` is bytes at hand or the raw body to stream."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | Body | None = None


def request(op: Operation, args: dict[str, Any], body: Body | None, project: str) -> Request:
    """The request of a call. What the path does not name travels in the query (GET, raw body) or as JSON. Raises `Invalid`."""
    if op.scope == "project":
        check_name(project, "project")
    declared = {field.name: field.default for field in msgspec.structs.fields(op.args)}
    rest = {name: declared[name] for name in op.placed if declared[name] is not msgspec.NODEFAULT} | args
    placed = {"project": project}
    for name in op.placed:
        if rest.get(name) is None:
            raise Invalid(f"{op.name} misses its argument {name!r}.", code="bad-arguments")
        placed[name] = _text(_plain(op, name, rest.pop(name)))
    path = _PLACE.sub(lambda found: quote(placed[found[1]], safe=""), op.path)
    if op.method == "GET" or op.body:
        pairs = [(name, _text(_plain(op, name, value))) for name, value in rest.items() if value is not None]
        target = PREFIX + path + ("?" + urlencode(pairs) if pairs else "")
        if body is None:
            return Request(op.method, target, {})
        headers = {"Content-Type": "application/octet-stream"}
        if body.name:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(body.name, safe='')}"
        return Request(op.method, target, headers, body)
    if not rest:
        return Request(op.method, PREFIX + path, {})
    try:
        content = msgspec.json.encode(rest)
    except (TypeError, ValueError, OverflowError, RecursionError) as e:
        raise Invalid(f"{op.name} cannot take its arguments: {e}.", code="bad-arguments") from e
    return Request(op.method, PREFIX + path, {"Content-Type": "application/json"}, content)


def _plain(op: Operation, name: str, value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError, RecursionError) as e:
        raise Invalid(f"{op.name} cannot take its argument {name!r}: {e}.", code="bad-arguments") from e


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
