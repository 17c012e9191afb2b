"""Params and tags of runs: how values are written down, set, corrected and read again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid
from loopline.hashing import canonical_json
from loopline.tracking.entries import check_count, plain_json
from loopline.tracking.paths import check_key, check_text
from loopline.tracking.records import Correction
from loopline.tracking.tables import run_corrections, run_params, run_tags
from loopline.tracking.words import Words

_EXACT = 2**53
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Value(msgspec.Struct, frozen=True):
    """A param as it stands in its table: canonical JSON, and a number where it is one or spells one."""

    text: str
    number: float | None

    @property
    def columns(self) -> dict[str, Any]:
        """The values of its columns: the JSON is left out where the number says it all."""
        plain = self.number is not None and canonical_json(self.number).decode() == self.text
        return {"value": None if plain else self.text, "number": self.number}


def written(value: Any, key: str) -> Value:
    """A param's value as it is kept. Raises `Invalid` where JSON cannot carry it."""
    plain = plain_json(value, f"The param {key!r}")
    try:
        text = canonical_json(plain).decode()
    except ValueError as e:
        raise Invalid(f"The param {key!r} cannot be kept: {e}.", code="bad-value", hint="Write it as a text.") from e
    return Value(check_text(text, f"The param {key!r}"), _number(plain))


def _number(plain: Any) -> float | None:
    if isinstance(plain, str) and len(plain) < 40 and _NUMERAL.fullmatch(plain.strip()):
        plain = float(plain)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return None
    number = float(plain)
    return number if math.isfinite(number) else None


def read(value: str | None, number: float | None) -> Any:
    """The value of a param out of its columns."""
    if value is not None:
        return msgspec.json.decode(value)
    assert number is not None
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def set_params(
    tx: Tx, words: Words, run: int, params: Mapping[str, Any], label: str, *, new: bool = False
) -> dict[str, Any]:
    """Sets params of a run; the same value again is fine, another raises `Conflict`. `new`: the run has none yet.

    Gives them as they will be read.
    """
    check_count(params, "params")
    given = {check_key(key, "key of a param"): written(value, key) for key, value in params.items()}
    if not given:
        return {}
    numbers = words.numbers(tx, given)
    # Written first and compared then, so that two programs setting one param at once cannot both win.
    rows = [{"run": run, "key": numbers[key], **value.columns} for key, value in given.items()]
    tx.upsert(run_params, ("run", "key"), _in_order(rows))
    told = {key: read(**value.columns) for key, value in given.items()}
    if new:
        return told
    kept = _texts(tx, run, list(numbers.values()))
    set_ = {key: kept[numbers[key]] for key, value in given.items() if kept[numbers[key]] != value.text}
    for key, former in set_.items():
        raise Conflict(
            f"The param {key!r} of run {label} is set to {former} and cannot become {given[key].text}.",
            code="param-set",
            hint="Set wrongly? `correct` changes it and keeps what stood there; use a tag for what changes.",
            params={key: msgspec.json.decode(text) for key, text in set_.items()},
        )
    return told


def correct(tx: Tx, words: Words, run: int, params: Mapping[str, Any], reason: str) -> None:
    """Gives params other values; what stood there is kept with the time, who and why. One that was not set is set."""
    check_count(params, "params")
    given = {check_key(key, "key of a param"): written(value, key) for key, value in params.items()}
    if not given:
        return
    numbers = words.numbers(tx, given)
    kept = _texts(tx, run, list(numbers.values()))
    for key, value in given.items():
        number = numbers[key]
        if kept.get(number) == value.text:
            continue
        place = (run_params.c.run == run) & (run_params.c.key == number)
        if number in kept:
            tx.execute(
                run_corrections.insert().values(
                    run=run,
                    key=number,
                    value=kept[number],
                    at=tx.now,
                    by=tx.principal,
                    reason=check_text(reason, "The reason"),
                )
            )
            tx.execute(run_params.delete().where(place))
        tx.execute(run_params.insert().values(run=run, key=number, **value.columns))


def corrections(tx: Tx, words: Words, run: int) -> tuple[Correction, ...]:
    """What params of a run were before they were corrected, oldest first."""
    rows = tx.rows(sa.select(run_corrections).where(run_corrections.c.run == run).order_by(run_corrections.c.id))
    spelled = words.spelled(tx, (row.key for row in rows))
    return tuple(
        Correction(key=spelled[row.key], value=msgspec.json.decode(row.value), at=row.at, by=row.by, reason=row.reason)
        for row in rows
    )


def set_tags(tx: Tx, words: Words, run: int, tags: Mapping[str, str | None]) -> None:
    """Sets or replaces tags of a run; None removes one."""
    check_count(tags, "tags")
    for key, value in tags.items():
        check_key(key, "key of a tag")
        if value is not None:
            check_text(value, f"The tag {key!r}")
    if not tags:
        return
    numbers = words.numbers(tx, tags)
    if gone := [numbers[key] for key, value in tags.items() if value is None]:
        tx.execute(run_tags.delete().where(run_tags.c.run == run, run_tags.c.key.in_(gone)))
    if rows := [{"run": run, "key": numbers[key], "value": value} for key, value in tags.items() if value is not None]:
        tx.upsert(run_tags, ("run", "key"), _in_order(rows), ("value",))


def _in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows by their keys, so that no two programs with one run wait for each other in a ring."""
    return sorted(rows, key=lambda row: row["key"])


def _texts(tx: Tx, run: int, keys: Sequence[int]) -> dict[int, str]:
    """The canonical JSON of the params of a run among these."""
    return {
        row.key: canonical_json(row.number).decode() if row.value is None else row.value
        for row in tx.rows_among(_MINE, run_params.c.key, keys, {"of": run})
    }


_MINE = sa.select(run_params).where(run_params.c.run == sa.bindparam("of"))
