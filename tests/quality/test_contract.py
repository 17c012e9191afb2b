"""Declaring a contract: spelling, JSON, digests and what is refused at once."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.quality.contract import Contract, column, contract, fresh, like, rows, rule, schema, spell, unique

_FACE = SimpleNamespace(
    contract=contract, unique=unique, column=column, rule=rule, rows=rows, schema=schema, fresh=fresh, like=like
)
_NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
_SEVERITY = st.sampled_from(["warn", "quarantine", "stop"])
_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_RULES = st.one_of(
    st.builds(lambda c, s: unique(*c, severity=s), st.lists(_NAMES, min_size=1, max_size=3, unique=True), _SEVERITY),
    st.builds(
        lambda c, bounds, s: column(c).between(*sorted(bounds), severity=s),
        _NAMES,
        st.tuples(_NUMBERS, _NUMBERS),
        _SEVERITY,
    ),
    st.builds(lambda c, v, s: column(c).one_of(*v, severity=s), _NAMES, st.lists(_NAMES, min_size=1), _SEVERITY),
    st.builds(lambda c, v: column(c).one_of(*v), _NAMES, st.lists(_NUMBERS, min_size=1)),
    st.builds(lambda c: column(c).one_of(True, False), _NAMES),
    st.builds(lambda c, n: column(c).not_null(name=n), _NAMES, _NAMES),
    st.builds(lambda c, p: column(c).matches(p), _NAMES, _NAMES),
    st.builds(lambda c, t: column(c).of_type(t), _NAMES, st.sampled_from(["integer", "number", "text", "date"])),
    st.builds(rule, _NAMES, st.just("a > 1 AND b <> 'x'"), severity=_SEVERITY),
    st.builds(lambda n: rows(at_least=n), st.integers(0, 10**9)),
    st.builds(lambda n: rows(at_most=n, severity="warn"), st.integers(0, 10**9)),
    st.builds(lambda c, to, s: column(c).refers_to("data:codes@3", to, severity=s), _NAMES, _NAMES, _SEVERITY),
    st.builds(lambda c, strict: column(c).rising(strict=strict), _NAMES, st.booleans()),
    st.builds(lambda c, by: column(f"{c}.").rising(by=by), _NAMES, _NAMES.filter(lambda n: not n.endswith("."))),
    st.builds(
        lambda columns, others: schema(columns, others=others),
        st.dictionaries(_NAMES, st.sampled_from(["integer", "number", "text", "date", "any"]), min_size=1, max_size=9),
        st.booleans(),
    ),
    st.builds(lambda c, w: fresh(c, within=w), _NAMES, st.sampled_from(["2d", "90 min"])),
    st.builds(
        lambda c, rate, s: like("data:visits@1", columns=c, false_alarms=rate, severity=s),
        st.lists(_NAMES, max_size=3, unique=True),
        st.floats(0, 1, exclude_min=True, exclude_max=True),
        st.sampled_from(["warn", "stop"]),
    ),
)
CONTRACTS = st.builds(
    lambda rules, personal: contract(*rules, personal=personal),
    st.lists(_RULES, max_size=8, unique_by=lambda r: r.title),
    st.lists(_NAMES, max_size=2),
)


@given(CONTRACTS)
def test_json_gives_the_contract_again(made: Contract) -> None:
    again = Contract.from_json(made.to_json())
    assert again == made
    assert again.digest == made.digest


@given(CONTRACTS)
def test_the_spelling_is_python_that_gives_the_contract_again(made: Contract) -> None:
    assert eval(spell(made), {"ll": _FACE}) == made


def test_the_spelling_is_what_a_person_would_write() -> None:
    made = contract(
        unique("encounter_id"),
        column("time_in_hospital").between(1, 14),
        column("gender").one_of("Female", "Male", severity="warn"),
        column("code").matches(r"\d{3}"),
        column("admitted").between(date(2020, 1, 1)),
        rule("leaves alive", "discharge <> 11"),
        rows(at_least=100),
        column("state").one_of(*(f"State number {i}" for i in range(12))),
        column("code").refers_to("data:codes", "code"),
        column("admitted").rising(by="ward"),
        fresh("admitted", within="2d"),
        schema({"id": "integer", "ward": "text"}, others=True),
        schema({f"reading {i}": "number" for i in range(6)}, severity="warn", name="readings"),
        like("data:visits@1", columns=["age"], severity="stop"),
        personal=["name"],
    )
    assert spell(made) == (
        "ll.contract(\n"
        '    ll.unique("encounter_id"),\n'
        '    ll.column("time_in_hospital").between(1, 14),\n'
        '    ll.column("gender").one_of("Female", "Male", severity="warn"),\n'
        '    ll.column("code").matches(r"\\d{3}"),\n'
        '    ll.column("admitted").between("2020-01-01", None),\n'
        '    ll.rule("leaves alive", "discharge <> 11"),\n'
        "    ll.rows(at_least=100),\n"
        '    ll.column("state").one_of(\n'
        '        "State number 0", "State number 1", "State number 2", "State number 3", "State number 4", "State number 5",\n'
        '        "State number 6", "State number 7", "State number 8", "State number 9", "State number 10", "State number 11",\n'
        "    ),\n"
        '    ll.column("code").refers_to("data:codes", "code"),\n'
        '    ll.column("admitted").rising(by="ward"),\n'
        '    ll.fresh("admitted", within="2d"),\n'
        '    ll.schema({"id": "integer", "ward": "text"}, others=True),\n'
        "    ll.schema(\n"
        '        {"reading 0": "number", "reading 1": "number", "reading 2": "number", "reading 3": "number",\n'
        '        "reading 4": "number", "reading 5": "number"}, severity="warn", name="readings",\n'
        "    ),\n"
        '    ll.like("data:visits@1", columns=["age"], severity="stop"),\n'
        '    personal=["name"],\n'
        ")"
    )
    assert max(map(len, spell(made).splitlines())) <= 120
    assert [r.title for r in made.rules[:3]] == [
        "unique(encounter_id)",
        "time_in_hospital.between(1, 14)",
        "gender.one_of(Female, Male)",
    ]


def test_the_digest_follows_the_meaning() -> None:
    one = contract(column("a").between(1, 14))
    assert one.digest == contract(column("a").between(1, 14)).digest
    assert one.digest != contract(column("a").between(1, 15)).digest
    assert one.digest != contract(column("a").between(1, 14, severity="warn")).digest


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: contract("age > 3"), "not a rule"),  # type: ignore[arg-type]
        (lambda: contract(column("age")), "not a rule"),  # type: ignore[arg-type]
        (lambda: contract(column("age").between()), "no bound"),
        (lambda: contract(column("age").between(5, 1)), "no value passes"),
        (lambda: contract(column("age").between(float("nan"), 1)), "finite"),
        (lambda: contract(column("age").between("old", None)), "ISO date"),
        (lambda: contract(column("age").between(1, "2020-01-01")), "one bound of text"),
        (lambda: contract(column("age").one_of()), "no value"),
        (lambda: contract(column("age").one_of(1, "a")), "mixes"),
        (lambda: contract(column("age").of_type("int")), "integer, number"),
        (lambda: contract(column("").not_null()), "names no column"),
        (lambda: contract(unique()), "names no column"),
        (lambda: contract(unique("a", "a")), "one twice"),
        (lambda: contract(column("age").not_null(severity="fatal")), "severity 'fatal'"),
        (lambda: contract(rows()), "no bound"),
        (lambda: contract(rows(at_least=3, at_most=2)), "more rows than it allows"),
        (lambda: contract(rows(at_least=3, severity="quarantine")), "warn or stop"),
        (lambda: contract(schema({})), "names no column"),
        (lambda: contract(schema({"a": "int"})), "asks 'a' to be 'int'; types are integer, number"),
        (lambda: contract(schema({"a": "text"}, severity="quarantine")), "warn or stop"),
        (lambda: contract(column("a").refers_to("visits:x", "a")), "names no dataset"),
        (lambda: contract(column("a").refers_to("data:x", "")), "names no column of the other"),
        (lambda: contract(column("a").rising(by="a")), "own column"),
        (lambda: contract(fresh("a", within="two days")), "which is none"),
        (lambda: contract(fresh("a", within="0d")), "no age at all"),
        (lambda: contract(fresh("a", within="2d", severity="quarantine")), "warn or stop"),
        (lambda: contract(like("data:x@1", severity="quarantine")), "warn or stop"),
        (lambda: contract(like("model:x@1")), "names no dataset"),
        (lambda: contract(like("data:x@1", columns="age")), "wants a list"),
        (lambda: contract(like("data:x@1", columns=["a", "a"])), "a column twice"),
        (lambda: contract(like("data:x@1", false_alarms=1.0)), "false alarms"),
        (lambda: contract(personal="name"), "list of columns"),
        (lambda: contract(rule("", "a > 1")), "needs a name"),
        (lambda: contract(column("a").not_null(), column("a").not_null()), "Two rules"),
        (lambda: contract(column("a").one_of(2**60)), "cannot be written down"),
        (lambda: Contract.from_json(b'{"rules":[{"rule":"magic"}]}'), "is a 'magic', which"),
        (lambda: Contract.from_json(b'{"rules":[{"rule":"rows","at_least":"x"}]}'), "not a contract"),
        (lambda: Contract.from_json(b"{"), "not a contract"),
        (lambda: Contract.from_json(b'{"rules":[{"rule":"rows","at_least":1,"severity":"x"}]}'), "severity"),
    ],
)
def test_a_contract_that_cannot_hold_is_refused(build: object, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        build()  # type: ignore[operator]


def test_declaring_loads_nothing_heavy() -> None:
    code = "import sys, loopline.quality.contract as c; c.contract(c.unique('a')); print('polars' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
