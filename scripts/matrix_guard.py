"""Watches a whole test run for docs/matrix.toml: a promise is kept only by a test that ran and passed.

A plugin of pytest, at work where CI is set in the environment (elsewhere a machine may lack PostgreSQL and skip its tests) and
all tests are asked for. A row's test that was skipped, or that never ran, fails the run.
"""

from __future__ import annotations

import os

import matrix
import pytest

_outcomes: dict[str, set[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes how each part of a test ended (a skip may come before the call)."""
    if report.when == "call" or report.skipped:
        _outcomes.setdefault(report.nodeid, set()).add(report.outcome)


def unkept() -> list[str]:
    """A line for each promise whose tests did not all run and pass; a test without parameters means all of its cases."""
    lines = []
    for row in matrix.promises():
        for test in row.tests:
            ended = [o for name, o in _outcomes.items() if name == test or name.startswith(f"{test}[")]
            if not ended or any(outcomes != {"passed"} for outcomes in ended):
                how = ", ".join(sorted(set().union(*ended))) or "not run"
                lines.append(f"{test}: {how}. It keeps the promise: {row.says}")
    return lines


def _watching(config: pytest.Config) -> bool:
    return (
        bool(os.environ.get("CI")) and not hasattr(config, "workerinput") and config.args == config.getini("testpaths")
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run where a promise was not kept."""
    if _watching(session.config) and unkept() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names the promises that were not kept."""
    if _watching(config) and (lines := unkept()):
        terminalreporter.section("promises of docs/matrix.toml that were not kept", red=True)
        for line in lines:
            terminalreporter.line(line)
