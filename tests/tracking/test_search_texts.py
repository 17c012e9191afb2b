"""What patterns need of a text: told before the texts are read, and never wrongly."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from loopline.tracking.search.texts import Budget, check_pattern, literal, matching, of_like


@pytest.mark.parametrize(
    ("pattern", "needed"),
    [
        ("7.*77$", "77"), ("^try 4711$", "try 4711"), ("ab+c", "ab"), ("ab*cd", "cd"), ("abc?", "ab"), (r"v1\.\d+-final", "-final"),
        ("[a-z]+_loss", "_loss"), ("a|b", ""), ("(?i)loss", ""), (r"\x41bc", ""), (r"\pLu", ""), ("a{0}b", ""), ("[]a]", ""),
        ("[a[b]c]", ""), ("", ""), ("é", ""), (of_like("%loss%", fold=False), "loss"), (of_like("%loss%", fold=True), ""),
    ],
)  # fmt: skip
def test_what_a_pattern_needs(pattern: str, needed: str) -> None:
    assert literal(pattern) == needed


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most texts are no pattern, or one that needs nothing
@given(pattern=st.text("ab1x .*+?[]()|\\{},^$-dpLQEK:&~#", max_size=9), text=st.text("ab1x 4AL.-", max_size=6))
@example(pattern=r"\x61b", text="ab")
@example(pattern=r"[\]a]b", text="]b")
def test_what_fits_has_what_the_pattern_needs(pattern: str, text: str) -> None:
    assume(literal(pattern) and not check_pattern(pattern))
    (found,) = matching([text], pattern, Budget())
    assert literal(pattern) in text or not found
