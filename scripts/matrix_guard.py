"""Watches a whole test run for docs/matrix.toml: a promise is kept only by a test that ran and passed.

A plugin of pytest, at work where CI is set in the environment (elsewhere a machine may lack PostgreSQL and skip its tests) and
all tests are asked for. A row's test that was skipped, or that never ran, fails the run, but for those of `make systems`, which are
named.
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


def unkept() -> list[tuple[str, str]]:
    """Each test that did not run and pass, with what it leaves unkept; one without parameters, or a class, means all its cases."""
    found = []
    apart = set(left_out())
    for row in matrix.promises():
        for test in row.tests:
            if test in apart:
                continue
            its = (f"{test}[", f"{test}::")
            ended = [outcomes for name, outcomes in _outcomes.items() if name == test or name.startswith(its)]
            if not ended or any(outcomes != {"passed"} for outcomes in ended):
                how = ", ".join(sorted(set().union(*ended))) or "not run"
                found.append((test, f"{how}, and so a promise of docs/matrix.toml is not kept: {row.says}"))
    return found


def left_out() -> list[str]:
    """The tests of promises that are left to `make systems`."""
    ran = {name.split("[")[0] for name in _outcomes}
    tests = (test for row in matrix.promises() for test in row.tests)
    return [test for test in tests if test.split("[")[0] not in ran and matrix.apart(test)]


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
    """Counts the promises that were not kept as errors, so that the summary names them and its last line has their number."""
    if _watching(config):
        terminalreporter.section("left to `make systems`, which makes environments of other systems")
        for test in left_out():
            terminalreporter.line(test)
        terminalreporter.stats.setdefault("error", []).extend(
            pytest.TestReport(test, (test, None, test), {}, "failed", why, "teardown") for test, why in unkept()
        )
