"""Requests as MLflow's clients send them: the JSON form of Protocol Buffers (proto2), read into Structs.

A 64-bit integer may be a number or a text, a float may be "NaN" or "Infinity", null is as good as left out, and fields that are
not known are passed over. What cannot be read is told in MLflow's own words.
"""

from __future__ import annotations

import json
import types
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qs

import msgspec

from loopline.api.mlflow.problems import Problem

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]

T = TypeVar("T", bound="Message")

_MORE = " See the API docs for more information about request parameters."
_DEEPEST = 64


class Message(msgspec.Struct, kw_only=True):
    """A request. Every field may be left out and is None then; which are needed is said where the endpoint is declared."""


class Tag(Message):
    """A key with a text, as tags and params are sent."""

    key: str | None = None
    value: str | None = None


def read(kind: type[T], content: bytes, needed: tuple[str, ...]) -> T:
    """The request in a JSON body. Raises `Problem` as MLflow's server would."""
    try:
        given = _decoder(kind).decode(content or b"{}")
    except (msgspec.MsgspecError, RecursionError) as e:
        return _slowly(kind, _lenient(content), needed, e)
    if b"\\u0000" in content:
        _refuse_nul(_lenient(content))
    for name in needed:
        value = getattr(given, name)
        if value is None or value == "":
            if name == "run_id" and getattr(given, "run_uuid", None):
                continue
            raise missing(name)
    return given


def read_query(kind: type[T], query: bytes, needed: tuple[str, ...]) -> T:
    """The request in a query: repeated fields are repeated, booleans are "true" or "false"."""
    try:
        pairs = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError as e:
        raise Problem(f"The query cannot be read: {e}.") from e
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in pairs:
            values = pairs[field.name]
            given[field.name] = values if _plain(field.type) is list else values[0]
            if _plain(field.type) is bool and values[0].lower() not in ("true", "false"):
                raise Problem(f"Invalid boolean value: {values[0]}, must be 'true' or 'false'.")
    _refuse_nul(given)
    return _slowly(kind, given, needed, None)


def missing(path: str) -> Problem:
    """A parameter that is needed was left out."""
    return Problem(f"Missing value for required parameter '{path}'." + _MORE)


def invalid(path: str, value: Any, why: str = "") -> str:
    """MLflow's sentence for a value that cannot be."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"Invalid value {shown} for parameter '{path}' supplied{f': {why}' if why else '.'}"


def enumerated(given: Any, names: tuple[str, ...], first: int = 1) -> str | None:
    """The name of an enumeration's value, which is sent by name or by number; None where it is none of them."""
    if isinstance(given, str):
        return given if given in names else None
    if isinstance(given, int) and first <= given < first + len(names):
        return names[given - first]
    return None


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    found = _decoders.get(kind)
    if found is None:
        found = _decoders[kind] = msgspec.json.Decoder(kind, strict=False)
    return found


def _lenient(content: bytes) -> dict[str, Any]:
    """The body as MLflow's server takes it: also NaN as such, JSON within a text, and anything else as nothing."""
    try:
        found = json.loads(content or b"{}")
        if isinstance(found, str):
            found = json.loads(found)
        text = json.dumps(found, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return found


def _slowly(kind: type[T], raw: dict[str, Any], needed: tuple[str, ...], error: Exception | None) -> T:
    """The request out of what its JSON says, or what is wrong with it, field by field in their order."""
    try:
        given: T | None = msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as e:
        given, error = None, e
    _refuse_nul(raw)
    for field in msgspec.structs.fields(kind):
        value = raw.get(field.name)
        if value is None and field.name == "run_id":
            value = raw.get("run_uuid")
        if given is None and value is not None and not _fits(value, field.type):
            raise Problem(invalid(field.name, value, f" Hint: Value was of type '{type(value).__name__}'.") + _MORE)
        if field.name in needed and (value is None or value == ""):
            raise missing(field.name)
    if given is None:
        raise Problem(f"Invalid request: {error}.{_MORE}")
    return given


def _plain(kind: Any) -> Any:
    """The type of a field, without None and bounds; `list` of a list."""
    if get_origin(kind) in (Union, types.UnionType):
        return _plain(next(part for part in get_args(kind) if part is not type(None)))
    if hasattr(kind, "__metadata__"):
        return _plain(get_args(kind)[0])
    return get_origin(kind) or kind


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value alone could be of a field's type, its parts apart."""
    plain = _plain(kind)
    if plain is list and isinstance(value, list):
        parts = get_args(next((part for part in get_args(kind) if get_origin(part) is list), kind))
        return parts != (str,) or all(isinstance(item, str) for item in value)
    if plain in (list, dict, int, float, bool, str):
        try:
            msgspec.convert(value, kind if plain not in (list, dict) else plain, strict=False)
        except msgspec.ValidationError:
            return False
    return True


def _refuse_nul(value: Any) -> None:
    """Raises where a NUL character stands in a text: PostgreSQL cannot hold it, and SQLite ends there."""
    level = [value]
    for _ in range(_DEEPEST):
        if any(isinstance(part, str) and "\0" in part for part in level):
            raise Problem("Invalid request: a NUL character stands in a text.")
        inner = [part for part in level if isinstance(part, dict | list)]
        if not inner:
            return
        level = [x for part in inner for x in ([*part, *part.values()] if isinstance(part, dict) else part)]
    raise Problem(f"Invalid request: it is nested more than {_DEEPEST} deep.")
