"""Contracts as TOML: what is written is read as the same contract; what is none is refused with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid
from loopline.quality.contract import column, contract, fresh, like, rows, rule, schema, unique
from loopline.quality.contract_toml import from_toml, to_toml

_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
_NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    _TEXT,
    st.lists(_NUMBER, min_size=1, max_size=3, unique=True),
    st.lists(_TEXT, min_size=1, max_size=3, unique=True),
    st.sampled_from(["warn", "quarantine", "stop"]),
)
def test_what_is_written_is_read_again(name: str, numbers: list[float], texts: list[str], severity: str) -> None:
    made = contract(
        unique(name, severity=severity),
        column(name).between(min(numbers), None, name="range"),
        column(name).one_of(*numbers, name="numbers"),
        column(name).one_of(*texts, name="texts", severity=severity),
        column(name).matches(r"\d+\\\"'", name="pattern"),
        rule("condition", "a > 1 AND b = 'x'"),
        rows(at_least=3, severity="warn"),
        schema(dict.fromkeys(texts, "number"), others=True),
        column(name).refers_to("data:codes", texts[0]),
        column(name).rising(strict=True, by=f"{name}2"),
        fresh(name, within="2d"),
        like("data:visits@1", columns=texts, false_alarms=0.01),
        personal=[name, *texts],
    )
    assert from_toml(to_toml(made)) == made


def test_a_contract_as_people_write_it() -> None:
    made = from_toml(
        """
        [[rules]]
        rule = "between"
        column = "on"
        low = 2026-01-01
        severity = "warn"

        [[rules]]
        rule = "one_of"
        column = "sex"
        values = ["f", "m"]
        """
    )
    assert made == contract(column("on").between("2026-01-01", severity="warn"), column("sex").one_of("f", "m"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[rules]]\nrule = "betwen"', "Rule 1 of the contract is a 'betwen', which there is not."),
        ('[[rules]]\nrule = "between"\nhigj = 3', "Rule 1 of the contract (between) has no 'higj'."),
        ('[[rules]]\nrule = "between"\nhigh = 3', "Rule 1 of the contract (between) lacks 'column'."),
        ('[[rules]]\ncolumn = "a"', "Rule 1 of the contract does not say what kind it is"),
        ("[[rules]]\nrule = unique", "line 2"),
        ('[[rule]]\nrule = "unique"', "no 'rule'"),
        ('[[rules]]\nrule = "magic"', "magic"),
        ('[[rules]]\nrule = "between"\ncolumn = "x"', "no bound"),
        ('[[rules]]\nrule = "between"\ncolumn = "x"\nlow = 1\nhihg = 2\n', "hihg"),
    ],
)
def test_what_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_toml(text)
    assert said in caught.value.message
