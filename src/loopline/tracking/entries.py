"""What an entry of a journal can say, checked where it is logged: the server would refuse it later. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from loopline.errors import Invalid
from loopline.tracking.journal_format import KINDS, LARGEST
from loopline.tracking.paths import check_group, check_key, check_path, check_text, check_title, escaped

MOST_KEYS = 10_000
"""Params or tags in one call."""

NUMBERS = {kind: number for number, kind in enumerate(KINDS, 1) if kind != "points"}

ENDINGS = ("finished", "failed", "killed")
"""How a run can end."""

RUN_KINDS = ("run", "pipeline", "step", "trial", "model")
"""What a run can be."""

_EXACT = 2**53
_LARGEST = LARGEST - 1024  # less head and run


def entry_text(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The fields of an entry as JSON; NaN and infinities by their names, as records carry them.

    Raises `Invalid` on an unknown kind, on fields that the kind has not or misses, and on keys, paths and values that are none
    or too long. In what people and programs say (notes, messages, reasons, the console) what has no UTF-8 form is escaped.
    """
    if kind not in NUMBERS:
        raise Invalid(f"{kind!r} is no kind of entry.", code="bad-value", hint=f"There are: {', '.join(NUMBERS)}.")
    plain = plain_json(fields, f"The {kind} of a run")
    _check_fields(kind, plain)
    try:
        for what in ("params", "tags"):
            _check_keys(plain.get(what) or {}, what)
        for said in _SAID & plain.keys():
            plain[said] = check_text(escaped(plain[said]), f"The {kind}" if said == "text" else f"The {said}")
        text = _json(plain).encode()
    except (ValueError, RecursionError) as e:
        raise Invalid(
            f"The {kind} of a run cannot be written: {e}.", code="bad-value", hint="Write it as a text."
        ) from e
    if kind == "artifact":
        check_path(plain["path"])
    if kind == "run":
        check_title(plain["name"], "name of a run")
        if "group" in plain:
            check_group(plain["group"])
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


class _Form(NamedTuple):
    """What a field can be, in words, and whether a value is that."""

    words: str
    holds: Callable[[Any], bool]
    needed: bool = False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_TEXT = _Form("a text", _is_text)
_TEXTS = _Form("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
_WHOLE = _Form("a whole number, and none below 0", lambda value: type(value) is int and value >= 0, True)
_TAGS = _Form(
    "texts by key, without NUL; null removes one",
    lambda value: (
        isinstance(value, dict) and all(tag is None or (_is_text(tag) and "\0" not in tag) for tag in value.values())
    ),
)
_VALUES = _Form("values by key", lambda value: isinstance(value, dict))
_SAID = {"text", "message", "reason"}


def _needed(form: _Form) -> _Form:
    return form._replace(needed=True)


_FORMS: dict[str, dict[str, _Form]] = {
    "run": {
        "name": _needed(_TEXT),
        "created": _WHOLE,
        "group": _TEXT,
        "kind": _Form("one of " + ", ".join(RUN_KINDS), lambda value: value in RUN_KINDS),
        "parent": _Form("the id of a run, or null", lambda value: value is None or _is_text(value)),
        "params": _VALUES,
        "tags": _TAGS,
        "inputs": _TEXTS,
        "environment": _VALUES,
    },
    "params": {"params": _needed(_VALUES), "reason": _TEXT},
    "tags": {"tags": _needed(_TAGS)},
    "note": {"text": _needed(_TEXT)},
    "link": {"inputs": _TEXTS, "outputs": _TEXTS},
    "console": {"text": _needed(_TEXT), "time": _WHOLE},
    "artifact": {"path": _needed(_TEXT), "digest": _needed(_TEXT), "size": _WHOLE},
    "finish": {
        "status": _Form("one of " + ", ".join(ENDINGS), lambda value: value in ENDINGS, True),
        "ended": _WHOLE,
        "message": _TEXT,
        "outputs": _TEXTS,
    },
}
"""The same as `receiving.py` takes them, without what that needs."""


def _check_fields(kind: str, given: Mapping[str, Any]) -> None:
    forms = _FORMS[kind]
    for name, value in given.items():
        if name not in forms:
            raise Invalid(
                f"The {kind} of a run has no {name!r}.", code="bad-value", hint=f"It has: {', '.join(forms)}."
            )
        if not forms[name].holds(value):
            meant = f"Did you mean {value.lower()!r}? " if _is_text(value) and value.lower() in ENDINGS else ""
            raise Invalid(
                f"The {name} of a run's {kind} cannot be {str(value)[:60]!r}.",
                code="bad-value",
                hint=f"{meant}It is {forms[name].words}.",
            )
    if missing := [name for name, form in forms.items() if form.needed and name not in given]:
        raise Invalid(f"The {kind} of a run misses {', '.join(missing)}.", code="bad-value", hint="Give it.")


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
