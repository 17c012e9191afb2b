"""Any filter and any order over any runs find what a plain reading in Python finds, on SQLite and PostgreSQL, page by page.

Each case is a project of its own in one database, so the runs of all cases before it are those of other projects.
"""

from __future__ import annotations

import itertools
import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.database import Database
from loopline.refs import parse
from loopline.testing.clock import FakeClock
from loopline.tracking import tables
from loopline.tracking.search import pages
from loopline.tracking.search.pages import find

NOW = 1_795_824_000_000  # noon of a Saturday in November 2026
HOUR, DAY = 3_600_000, 86_400_000
KEYS = ["a", "b", "odd key"]
TEXTS = [
    "",
    "x",
    "X",
    "xy",
    "x%y",
    "a_b",
    "0.1",
    "1",
    "true",
    "ä",
    "Ä",
    "[*]",
    "a\\b",
    '"q"',
    "it's",
    "x y",
    "NaN",
    "y" * 70,
]
NUMBERS = [0.0, 1.0, -1.5, 0.1, 1e-5, 1e300, math.inf, -math.inf, math.nan]
FINITE = [n for n in NUMBERS if math.isfinite(n)]
REFS = ["data:visits@1", "data:visits@2", "model:m@1", "data:x_y@1"]
TIMES = [NOW, NOW - 1, NOW - HOUR, NOW - DAY, NOW - 3 * DAY, NOW - 40 * DAY]

Has = dict[str, Any]
projects = itertools.count()
words: dict[str, int] = {key: number for number, key in enumerate(KEYS, 1)}

made = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "xy", "X", "a_b"]),
        "kind": st.sampled_from(["run", "step"]),
        "status": st.sampled_from(["running", "finished", "failed"]),
        "created": st.sampled_from(TIMES),
        "took": st.sampled_from([None, 0, 1500, HOUR]),
        "creator": st.sampled_from(["ann", "bob"]),
        "message": st.sampled_from(["", "x y", "it's"]),
        "note": st.sampled_from(["", "X", "y" * 70, "y" * 69]),
        "parent": st.sampled_from([None, 0, 1]),
        "params": st.dictionaries(
            st.sampled_from(KEYS), st.sampled_from([*TEXTS, *FINITE, 1, 2**60, True, None, [1, "x"], {"x": 1}])
        ),
        "tags": st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS)),
        "metrics": st.dictionaries(st.sampled_from(KEYS), st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)),
        "inputs": st.lists(st.sampled_from(REFS), max_size=2, unique=True),
        "outputs": st.lists(st.sampled_from(REFS), max_size=2, unique=True),
    }
)


class Term(NamedTuple):
    """A piece of a filter, and what it means."""

    text: str
    holds: Callable[[Has], bool]


OPS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def fits(pattern: str, text: str, fold: bool = False) -> bool:
    regex = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(regex, text, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def spelled(value: Any) -> float | None:
    """The number that a param is or spells."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[0-9.]+", value):
        return None
    return float(value)


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return {0.0: "0", 1.0: "1", 1e300: "1e+300", 1e-5: "0.00001"}.get(value, repr(value))
    return json.dumps(value, separators=(",", ":"))


def is_param(value: Any, literal: float | str) -> bool:
    if isinstance(literal, float):
        if math.isfinite(literal):
            return spelled(value) == literal
        return bool(value == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(literal)])
    numeral = re.fullmatch(r"[0-9.]+", literal) is not None
    number = isinstance(value, int | float) and not isinstance(value, bool) and value != 2**60
    return as_text(value) == literal or (number and numeral and float(value) == float(literal))


def keyed(group: str, key: str) -> str:
    return f'{group}."{key}"' if " " in key else f"{group}.{key}"


def both(field: str, get: Callable[[Has], Any], literal: str, equal: Callable[[Any], bool]) -> list[Term]:
    """The ways to say that a value is, or is there and is not, the literal."""
    there: Callable[[Has], bool] = lambda run: get(run) is not None  # noqa: E731
    return [
        Term(f"{field} = {literal}", lambda run: there(run) and equal(get(run))),
        Term(f"{field} != {literal}", lambda run: there(run) and not equal(get(run))),
        Term(f"{field} IN ({literal})", lambda run: there(run) and equal(get(run))),
        Term(f"{field} not in ({literal})", lambda run: there(run) and not equal(get(run))),
        Term(f"{field} IS NULL", lambda run: not there(run)),
        Term(f"{field} IS NOT NULL", there),
    ]


def of_text(field: str, get: Callable[[Has], Any], text: str) -> list[Term]:
    """The ways to compare a text with a pattern."""
    there: Callable[[Has], bool] = lambda run: get(run) is not None  # noqa: E731
    expression = re.escape(text[:2])
    return [
        Term(f"{field} LIKE {quoted(text)}", lambda run: there(run) and fits(text, as_text(get(run)))),
        Term(
            f"{field} LIKE {quoted(text[:1] + '%')}", lambda run: there(run) and fits(text[:1] + "%", as_text(get(run)))
        ),
        Term(
            f"{field} NOT LIKE {quoted('%' + text)}", lambda run: there(run) and not fits("%" + text, as_text(get(run)))
        ),
        Term(f"{field} ILIKE {quoted(text)}", lambda run: there(run) and fits(text, as_text(get(run)), fold=True)),
        Term(f"{field} ~ {quoted(expression)}", lambda run: there(run) and text[:2] in as_text(get(run))),
        Term(f"{field} !~ {quoted(expression)}", lambda run: there(run) and text[:2] not in as_text(get(run))),
    ]


def metric_of(key: str, part: str) -> Callable[[Has], float | None]:
    def get(run: Has) -> float | None:
        values = run["metrics"].get(key)
        if values is None:
            return None
        numbers = [v for v in values if not math.isnan(v)]
        if part == "last" or not numbers:
            return float(values[-1])
        return min(numbers) if part == "min" else max(numbers)

    return get


@st.composite
def leaves(draw: st.DrawFn) -> Term:
    group = draw(st.sampled_from(["metrics", "params", "tags", "attributes", "refs", "times"]))
    key = draw(st.sampled_from([*KEYS, "nowhere"]))
    text = draw(st.sampled_from(TEXTS))
    number = draw(st.sampled_from(NUMBERS))
    op = draw(st.sampled_from(sorted(OPS)))
    if group == "metrics":
        part = draw(st.sampled_from(["last", "min", "max"]))
        shapes = [keyed(group, key) + ("" if part == "last" else f".{part}"), f"{part}({keyed(group, key)})"]
        field, value = draw(st.sampled_from(shapes)), metric_of(key, part)
        terms = both(field, value, repr(number), lambda v: same(v, number))
        if not math.isnan(number):
            terms.append(
                Term(f"{field} {op} {number!r}", lambda run: (v := value(run)) is not None and OPS[op](v, number))
            )
            high = number + 1
            terms.append(
                Term(
                    f"{field} BETWEEN {number!r} AND {high!r}",
                    lambda run: (v := value(run)) is not None and number <= v <= high,
                )
            )
    elif group == "params":
        field = keyed(group, key)
        missing = object()
        literal = draw(st.sampled_from([*TEXTS, *NUMBERS, '[1,"x"]', str(2**60)]))
        shown = quoted(literal) if isinstance(literal, str) else repr(literal)

        def param(run: Has) -> Any:
            return run["params"].get(key, missing)

        def there(run: Has) -> bool:
            return param(run) is not missing

        terms = [
            Term(f"{field} = {shown}", lambda run: there(run) and is_param(param(run), literal)),
            Term(f"{field} != {shown}", lambda run: there(run) and not is_param(param(run), literal)),
            Term(f"{field} IS NULL", lambda run: not there(run)),
        ]
        if isinstance(literal, str):
            wanted = json.dumps(literal, ensure_ascii=False)

            def ordered(run: Has) -> bool:
                value = param(run)
                return isinstance(value, str) and OPS[op](json.dumps(value, ensure_ascii=False)[1:-1], wanted[1:-1])

            terms.append(Term(f"{field} {op} {shown}", ordered))
        elif not math.isnan(literal):
            terms.append(
                Term(
                    f"{field} {op} {shown}",
                    lambda run: there(run) and (v := spelled(param(run))) is not None and OPS[op](v, literal),
                )
            )
        patterns = of_text(field, lambda run: as_text(param(run)) if there(run) else None, text)
        terms.append(draw(st.sampled_from(patterns)))
    elif group == "tags":
        field, tag = keyed(group, key), lambda run: run["tags"].get(key)
        terms = both(field, tag, quoted(text), lambda v: v == text) + of_text(field, tag, text)
        terms.append(Term(f"{field} {op} {quoted(text)}", lambda run: (v := tag(run)) is not None and OPS[op](v, text)))
    elif group == "attributes":
        column = draw(st.sampled_from(["name", "creator", "message", "note"]))
        get = lambda run: run[column] or None  # noqa: E731
        terms = both(column, get, quoted(text), lambda v: v == text) + of_text(f"run.{column}", get, text)
        terms += both("status", lambda run: run["status"], "'FINISHED'", lambda v: v == "finished")
        terms += both("parent", lambda run: run["above"], "'nobody'", lambda v: False)
    elif group == "refs":
        side = draw(st.sampled_from(["inputs", "outputs", "datasets", "models"]))
        ref = draw(st.sampled_from(REFS))

        def refs(run: Has) -> list[str]:
            kept = run["inputs" if side in ("inputs", "datasets") else "outputs"]
            kind = {"datasets": "data:", "models": "model:"}.get(side, "")
            return [r for r in kept if r.startswith(kind)]

        kind = {"datasets": "data:", "models": "model:"}.get(side, "")
        of, name = (kind + ref.split(":")[1] if kind else ref).split(":")

        def read(found: list[str]) -> bool:  # the ref as it is printed outside of the default project
            return any(r.startswith(f"{of}:") and r.endswith(f"/{name}") for r in found)

        terms = both(side, lambda run: refs(run) or None, quoted(f"{of}:{name}"), read)
        terms.append(Term(f"{side} LIKE 'data:%/x_y%'", lambda run: any(fits("data:%/x_y%", r) for r in refs(run))))
        terms.append(
            Term(f"{side} NOT LIKE '%@1'", lambda run: bool(refs(run)) and not any(fits("%@1", r) for r in refs(run)))
        )
        terms.append(Term(f"{side} MATCHES '@2$'", lambda run: any(r.endswith("@2") for r in refs(run))))
    else:
        today = NOW - NOW % DAY
        column, start = draw(st.sampled_from([("created", lambda r: r["created"]), ("ended", lambda r: r["ended"])]))
        terms = [
            *both(column, start, "'today'", lambda v: today <= v < today + DAY),
            Term(f"{column} = 'last 2 days'", lambda run: (v := start(run)) is not None and v >= NOW - 2 * DAY),
            Term(f"{column} > 'last 2 days'", lambda run: (v := start(run)) is not None and v >= NOW - 2 * DAY),
            Term(f"{column} > 'yesterday'", lambda run: (v := start(run)) is not None and v >= today),
            Term(f"{column} <= 'yesterday'", lambda run: (v := start(run)) is not None and v < today),
            Term(f"{column} < {NOW}", lambda run: (v := start(run)) is not None and v < NOW),
            Term(f"duration {op} '1.5s'", lambda run: run["took"] is not None and OPS[op](run["took"], 1500)),
            Term(f"duration {op} 3600", lambda run: run["took"] is not None and OPS[op](run["took"], HOUR)),
        ]
    return draw(st.sampled_from(terms))


def joined(terms: tuple[str, Term, Term]) -> Term:
    word, one, other = terms
    if word == "NOT":
        return Term(f"NOT ({one.text})", lambda run: not one.holds(run))
    if word == "AND":
        return Term(f"({one.text}) AND ({other.text})", lambda run: one.holds(run) and other.holds(run))
    return Term(f"({one.text} or {other.text})", lambda run: one.holds(run) or other.holds(run))


filters = st.recursive(
    leaves(), lambda inner: st.tuples(st.sampled_from(["NOT", "AND", "OR"]), inner, inner).map(joined), max_leaves=6
)

Rank = tuple[int, Any]


def rank_param(run: Has) -> Rank:
    if "a" not in run["params"]:
        return 2, 0
    value = run["params"]["a"]
    number = spelled(value)
    if number is not None:
        return 0, number
    return 1, (json.dumps(value, ensure_ascii=False)[1:-1] if isinstance(value, str) else as_text(value))[:64]


def rank_metric(key: str, part: str) -> Callable[[Has], Rank]:
    def rank(run: Has) -> Rank:
        value = metric_of(key, part)(run)
        return (2, 0) if value is None else (1, 0) if math.isnan(value) else (0, value)

    return rank


def rank_of(get: Callable[[Has], Any]) -> Callable[[Has], Rank]:
    return lambda run: (1, 0) if get(run) is None else (0, get(run))


ORDERS: dict[str, Callable[[Has], Rank]] = {
    "metrics.a": rank_metric("a", "last"),
    "min(metrics.b)": rank_metric("b", "min"),
    "metrics.nowhere": lambda run: (2, 0),
    "params.a": rank_param,
    "tags.b": rank_of(lambda run: run["tags"]["b"][:64] if "b" in run["tags"] else None),
    "name": rank_of(lambda run: run["name"]),
    "created": rank_of(lambda run: run["created"]),
    "duration": rank_of(lambda run: run["took"]),
    "note": rank_of(lambda run: run["note"][:64] or None),
    "parent": rank_of(lambda run: run["above"]),
}

orders = st.lists(st.tuples(st.sampled_from(sorted(ORDERS)), st.sampled_from(["", " ASC", " desc"])), max_size=3)


def in_order(runs: Sequence[Has], order: Sequence[tuple[str, str]]) -> list[int]:
    found = sorted(runs, key=lambda run: run["number"], reverse=True)
    for key, way in reversed(order):
        rank = ORDERS[key]
        by_value = []
        for place in range(3):
            group = [run for run in found if rank(run)[0] == place]
            by_value += sorted(group, key=lambda run: rank(run)[1], reverse=way == " desc")
        found = by_value
    return [run["number"] for run in found]


def insert(connection: sa.Connection, project: str, described: list[Has]) -> list[Has]:
    """Keeps runs as tracking does, and gives them with what they got."""
    kept: list[Has] = []
    for place, run in enumerate(described):
        number = connection.execute(
            tables.runs.insert().values(
                id=f"{project[1:]:0>20}{place:06}",
                project=project,
                parent=kept[run["parent"]]["number"]
                if (run["parent"] or 0) < len(kept) and run["parent"] is not None
                else None,
                ended=None if run["took"] is None else run["created"] + run["took"],
                **{name: run[name] for name in ("name", "kind", "status", "created", "creator", "message", "note")},
            )
        ).inserted_primary_key[0]
        above = kept[run["parent"]]["number"] if run["parent"] is not None and run["parent"] < len(kept) else None
        ended = None if run["took"] is None else run["created"] + run["took"]
        refs = {side: [str(parse(ref, project=project)) for ref in run[side]] for side in ("inputs", "outputs")}
        kept.append({**run, **refs, "number": number, "above": above, "ended": ended})
        values: dict[sa.Table, list[Has]] = {
            table: [] for table in (tables.run_params, tables.run_tags, tables.run_series, tables.run_refs)
        }
        for key, value in run["params"].items():
            plain = isinstance(value, int | float) and not isinstance(value, bool) and value != 2**60
            row = {"value": None if plain else json.dumps(value, separators=(",", ":"), ensure_ascii=False)}
            values[tables.run_params].append({"run": number, "key": words[key], "number": spelled(value), **row})
        for key, value in run["tags"].items():
            values[tables.run_tags].append({"run": number, "key": words[key], "value": value})
        for key, series in run["metrics"].items():
            numbers = [v for v in series if not math.isnan(v)]
            last = None if math.isnan(series[-1]) else series[-1]
            low, high = (min(numbers), max(numbers)) if numbers else (None, None)
            row = {"last": last, "low": None if low == last else low, "high": None if high == last else high}
            values[tables.run_series].append({"run": number, "key": words[key], **row, "step": 0, "time": 0})
        for side, name in enumerate(("inputs", "outputs")):
            for at, ref in enumerate(kept[-1][name]):
                values[tables.run_refs].append({"run": number, "side": side, "place": at, "ref": ref})
        for table, rows in values.items():
            if rows:
                connection.execute(table.insert(), rows)
    return kept


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, FakeClock())
    database.create()
    with database.begin() as tx:
        tx.execute(tables.words.insert(), [{"id": number, "word": key} for key, number in words.items()])
    yield database
    database.close()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    described=st.lists(made, max_size=9), term=filters, order=orders, limit=st.integers(1, 4), rounds=st.integers(0, 3)
)
def test_a_search_finds_what_a_plain_reading_finds(
    database: Database, described: list[Has], term: Term, order: list[tuple[str, str]], limit: int, rounds: int
) -> None:
    project = f"p{next(projects)}"
    with database.begin(project=project) as tx:
        kept = insert(tx.write(), project, described)
    wanted = in_order([run for run in kept if term.holds(run)], order)
    found: list[int] = []
    after = None
    near = {"_LOOK": 1, "_AT_LEAST": 1, "_ROUNDS": rounds}  # patterns see so many runs before they see all
    with database.begin(project=project, lazy=True) as tx, patch.multiple(pages, **near):
        while True:
            page, after = find(tx, term.text, [key + way for key, way in order], limit, after, NOW)
            found += page
            if after is None:
                break
            assert len(page) == limit
    assert found == wanted
