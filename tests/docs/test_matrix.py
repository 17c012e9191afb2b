"""docs/matrix.toml: each promise names tests that are written, and README shows the table as it is."""

from __future__ import annotations

import re
from pathlib import Path

import matrix
import matrix_guard
import pytest

ROOT = Path(__file__).parents[2]


def test_every_promise_names_tests_that_are_written() -> None:
    missing = [test for row in matrix.promises() for test in row.tests if not matrix.exists(test)]
    assert missing == []


def test_every_promise_was_verified_at_a_commit() -> None:
    assert [row.says for row in matrix.promises() if not re.fullmatch("[0-9a-f]{10,40}", row.verified)] == []


def test_every_promise_is_one_sentence_and_said_once() -> None:
    sentences = [row.says for row in matrix.promises()]
    assert len(set(sentences)) == len(sentences)
    assert [s for s in sentences if not s.endswith(".") or "|" in s] == []


def test_readme_shows_the_table_as_it_is() -> None:
    text = matrix.README.read_text()
    assert matrix.with_table(text) == text, "run `make readme`"


def test_a_test_that_is_not_written_is_seen() -> None:
    assert matrix.exists("tests/docs/test_matrix.py::test_a_test_that_is_not_written_is_seen")
    assert matrix.exists("tests/store/test_blobs.py::TestLocal::test_delete") is False, "it is inherited"
    assert not matrix.exists("tests/docs/test_matrix.py::test_nowhere")
    assert not matrix.exists("tests/docs/test_nowhere.py::test_nowhere")
    assert not matrix.exists("tests/docs/test_matrix.py")


@pytest.mark.parametrize(
    ("ended", "kept"),
    [
        ({}, False),
        ({"t": {"passed"}}, True),
        ({"t": {"skipped"}}, False),
        ({"t": {"failed"}}, False),
        ({"t[a]": {"passed"}, "t[b]": {"passed"}}, True),
        ({"t[a]": {"passed"}, "t[b]": {"skipped"}}, False),
        ({"t_longer": {"passed"}}, False),
        ({"t::a": {"passed"}, "t::b[c]": {"passed"}}, True),
        ({"t::a": {"passed"}, "t::b[c]": {"failed"}}, False),
    ],
    ids=str,
)
def test_a_promise_is_kept_only_by_tests_that_ran_and_passed(
    ended: dict[str, set[str]], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = matrix.Promise(id="D1", says="It works.", counterpart="itself", grade="contract", tests=("t",), verified="")
    monkeypatch.setattr(matrix, "promises", lambda: (row,))
    monkeypatch.setattr(matrix_guard, "_outcomes", ended)
    assert (matrix_guard.unkept() == []) is kept


def test_what_is_left_to_make_systems_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    test = "tests/systems/test_tensorboard.py::test_what_its_writer_writes_comes_over"
    row = matrix.Promise(id="M2", says="It works.", counterpart="itself", grade="real", tests=(test,), verified="")
    monkeypatch.setattr(matrix, "promises", lambda: (row,))
    for ended, left, unkept in (({}, [test], 0), ({test: {"failed"}}, [], 1), ({test: {"passed"}}, [], 0)):
        monkeypatch.setattr(matrix_guard, "_outcomes", ended)
        assert matrix_guard.left_out() == left
        assert len(matrix_guard.unkept()) == unkept
