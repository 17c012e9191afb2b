"""The arguments of a call out of a request: path and query are read laxly (all is text there), JSON strictly."""

from __future__ import annotations

import json
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import msgspec

from loopline.api.routing import decoded
from loopline.errors import Invalid, did_you_mean
from loopline.operations import Operation

JSON_LIMIT = 32 << 20
"""Largest JSON body, in bytes."""

_MOST_FIELDS = 100
_DEEPEST = 64


def arguments(op: Operation, placed: dict[str, str], query: bytes, content: bytes) -> dict[str, Any]:
    """The arguments by name, from the places of the path, the query and the JSON body. Raises `Invalid`."""
    fields = {field.name: field.type for field in msgspec.structs.fields(op.args)}
    given = {name: _lax(op, name, text, fields[name]) for name, text in placed.items()}
    in_query = op.method == "GET" or op.body is not None
    for name, text in _pairs(query):
        if not in_query:
            raise Invalid(
                f"{op.name} takes nothing in the query, and {name!r} stands there.",
                code="bad-arguments",
                hint="Send it in the JSON body.",
            )
        _check_free(op, name, given, fields)
        given[name] = _lax(op, name, text, fields[name])
    for name, value in ({} if in_query else _object(op, content)).items():
        _check_free(op, name, given, fields)
        given[name] = value
    return given


def _check_free(op: Operation, name: str, given: dict[str, Any], fields: dict[str, Any]) -> None:
    if name in given:
        raise Invalid(f"{op.name} is given {name!r} twice.", code="bad-arguments", hint="Say it once.")
    if name not in fields:
        raise Invalid(f"{op.name} has no argument {name!r}.", code="bad-arguments", hint=did_you_mean(name, fields))


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS, separator="&"
        )
    except ValueError as e:
        raise Invalid(
            f"The query cannot be read: {e}.", code="bad-query", hint="Write it as name=value&name=value."
        ) from e
    # Only a NUL is left to refuse, which the path refuses too.
    return [(decoded(name.replace("%", "%25")), decoded(text.replace("%", "%25"))) for name, text in pairs]


def _lax(op: Operation, name: str, text: str, kind: Any) -> Any:
    try:
        return _in_bounds(msgspec.convert(text, kind, strict=False))
    except msgspec.ValidationError as first:
        # A list or a record stands in the query as JSON; what is no JSON either fails for what it is as text.
        try:
            return msgspec.convert(_strict(text.encode()), kind)
        except msgspec.ValidationError as e:
            error: Exception = e
        except (ValueError, RecursionError):
            error = first
    raise Invalid(f"{op.name} cannot take {name!r}: {error}.", code="bad-arguments") from error


def _object(op: Operation, content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    try:
        value = _strict(content)
    except (ValueError, RecursionError) as e:
        raise Invalid(
            f"The body of {op.name} is not JSON: {e}.", code="bad-json", hint="Send one JSON object, in UTF-8."
        ) from e
    if not isinstance(value, dict):
        raise Invalid(f"The body of {op.name} is not a JSON object.", code="bad-json", hint="Send {...}.")
    return value


def _strict(content: bytes) -> Any:
    """The value of a JSON text in UTF-8, each name given once, whole numbers within 64 bits, no NUL. Raises ValueError."""
    value = msgspec.json.decode(content)
    json.loads(content, object_pairs_hook=_once, parse_int=_integer, parse_constant=_constant)
    if _is_deep(value):
        raise ValueError(f"it is nested more than {_DEEPEST} deep")
    if b"\\u0000" in content and _holds_nul(value):
        raise ValueError("a NUL character stands in it")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > 30:
        _too_large(text)
    number = int(text)
    _in_bounds(number)
    return number


def _in_bounds(value: Any) -> Any:
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        _too_large(str(value))
    return value


def _too_large(text: str) -> NoReturn:
    raise msgspec.ValidationError(f"{text[:20]} is outside of 64 bits")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _is_deep(value: Any) -> bool:
    """Whether lists and objects stand in each other deeper than any of the services would follow."""
    level = [value]
    for _ in range(_DEEPEST):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for some in parts for part in some if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_holds_nul, value))
