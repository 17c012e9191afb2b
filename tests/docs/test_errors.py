"""docs/errors.md explains every code that the source raises, as the script writes it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from loopline.cli.problems import EXIT_CODES
from loopline.errors import BRANCHES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("errors_page", ROOT / "scripts" / "errors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_as_the_script_writes_it(script: ModuleType) -> None:
    assert script.PAGE.read_text() == script.page(), "run `make errors`"


def test_the_script_sees_errors_however_they_are_raised(script: ModuleType) -> None:
    said = {(s.branch, s.code) for s in script.said()}
    assert ("Conflict", "workspace-newer") in said, "raised outright"
    assert ("NotFound", "no-endpoint") in said, "handed to another class"
    assert ("Invalid", "unknown-category") in said, "by a function that takes the code"
    assert ("Unavailable", "busy") in said, "by its default"
    assert all(code == code.lower() and " " not in code for _, code in said)


def test_its_branches_are_those_of_the_family(script: ModuleType) -> None:
    assert {branch.__name__ for branch in BRANCHES.values()} == set(script.BRANCHES)
    for branch, kind in BRANCHES.items():
        assert script.BRANCHES[kind.__name__][2] == str(EXIT_CODES[branch])
