"""The engine: order, journal, cache, and runs that are cut off and taken up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid
from loopline.pipeline.engine import Node, Outputs, Watcher, ordered, run

Given = Mapping[str, Outputs]


class CutOff(BaseException):
    """The process ends here, as far as the engine can tell."""


class Done:
    """Counts how often each step was worked, and cuts the run off or fails where it is told to."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self.cut_before: set[str] = set()
        self.cut_after: set[str] = set()
        self.fails: set[str] = set()

    def work(self, name: str) -> Callable[[Given], Outputs]:
        def step(given: Given) -> Outputs:
            if name in self.cut_before:
                self.cut_before.remove(name)
                raise CutOff(name)
            if name in self.fails:
                self.fails.remove(name)
                raise ValueError(f"{name} cannot")
            self.times[name] = self.times.get(name, 0) + 1
            if name in self.cut_after:  # it has worked, and is not on the journal yet
                self.cut_after.remove(name)
                raise CutOff(name)
            return {"from": sorted(given), "made": name}

        return step


def chain(done: Done, **more: Any) -> list[Node]:
    """a -> b, c -> d; `more` replaces what a step is given, as `b={"x": 1}`."""
    needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    return [Node(name, done.work(name), of, more.get(name, {})) for name, of in needs.items()]


# Order


def plain(name: str, *needs: str) -> Node:
    return Node(name, lambda given: {}, needs)


def test_each_step_comes_after_those_it_needs() -> None:
    graph = [plain("d", "b", "c"), plain("b", "a"), plain("c", "a"), plain("a")]
    assert [node.name for node in ordered(graph)] == ["a", "b", "c", "d"]


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.permutations(range(n)),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30),
        )
    )
)
def test_any_graph_without_a_circle_is_ordered(drawn: tuple[list[int], list[tuple[int, int]]]) -> None:
    order, edges = drawn
    needs: dict[int, set[int]] = {n: set() for n in order}
    for one, other in edges:
        if one != other:
            needs[max(one, other)].add(min(one, other))
    found = [node.name for node in ordered(plain(f"s{n}", *(f"s{m}" for m in sorted(needs[n]))) for n in order)]
    assert sorted(found) == sorted(f"s{n}" for n in order)
    for n, of in needs.items():
        assert all(found.index(f"s{m}") < found.index(f"s{n}") for m in of)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ([plain("a", "b"), plain("b", "c"), plain("c", "b")], "b -> c -> b"),
        ([plain("a", "a")], "a -> a"),
        ([plain("train", "splitt"), plain("split")], "'splitt', which is no step"),
        ([plain("a"), plain("a")], "Two steps are named 'a'"),
    ],
)
def test_what_is_no_graph_is_said(graph: list[Node], said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        ordered(graph)
    assert caught.value.code == "bad-pipeline"
    if "splitt" in said:
        assert "split" in caught.value.hint


def test_a_bad_graph_starts_no_run(session: Session) -> None:
    with pytest.raises(Invalid):
        run("p", [plain("a", "b")], session.pipelines)
    assert session.pipelines.list() == []


# The journal and the cache


def test_outputs_go_to_the_steps_that_need_them(session: Session) -> None:
    record, outputs = run("p", chain(Done()), session.pipelines, reason="first")
    assert outputs["d"] == {"from": ["b", "c"], "made": "d"}
    assert (record.status, record.reason, record.resumed) == ("finished", "first", False)
    assert [step.step for step in record.steps] == ["a", "b", "c", "d"]
    assert not any(step.cached for step in record.steps)
    assert session.pipelines.show(record.id) == record


def test_the_same_again_is_not_done_again(session: Session) -> None:
    done = Done()
    first, _ = run("p", chain(done), session.pipelines)
    second, outputs = run("p", chain(done), session.pipelines)
    assert done.times == dict.fromkeys("abcd", 1)
    assert second.id != first.id
    assert all(step.cached for step in second.steps)
    assert outputs["d"] == {"from": ["b", "c"], "made": "d"}


def test_what_a_step_is_given_decides_what_is_done_again(session: Session) -> None:
    done = Done()
    run("p", chain(done), session.pipelines)
    run("p", chain(done, b={"rate": 0.1}), session.pipelines)
    # b is another step now; but it gives what it gave, so d's inputs are the same.
    assert done.times == {"a": 1, "b": 2, "c": 1, "d": 1}


def test_a_step_whose_inputs_changed_is_done_again(session: Session) -> None:
    done: list[str] = []

    def graph(value: int) -> list[Node]:
        def work(name: str, outputs: Outputs) -> Callable[[Given], Outputs]:
            def step(_: Given) -> Outputs:
                done.append(name)
                return outputs

            return step

        return [Node("a", work("a", {"v": value}), (), {"v": value}), Node("b", work("b", {}), ["a"])]

    run("p", graph(1), session.pipelines)
    run("p", graph(2), session.pipelines)
    run("p", graph(1), session.pipelines)
    assert done == ["a", "b", "a", "b"]


def test_a_step_that_is_not_cached_happens_each_run(session: Session) -> None:
    times = []
    graph = [Node("a", lambda given: times.append(1) or {}, cached=False)]  # type: ignore[func-returns-value]
    run("p", graph, session.pipelines)
    run("p", graph, session.pipelines)
    assert len(times) == 2


def test_the_cache_is_of_one_pipeline_and_one_project(platform: Platform) -> None:
    done = Done()
    mine = platform.session()
    mine.projects.create("other")
    run("p", chain(done), mine.pipelines)
    run("q", chain(done), mine.pipelines)
    run("p", chain(done), platform.session(project="other").pipelines)
    assert done.times == dict.fromkeys("abcd", 3)


def test_a_watcher_hears_of_each_step(session: Session) -> None:
    heard: list[tuple[str, ...]] = []

    class Told(Watcher):
        def started(self, step: str) -> None:
            heard.append(("started", step))

        def ended(self, step: str, outputs: Outputs, seconds: float, *, reused: bool) -> None:
            heard.append(("reused" if reused else "ended", step))

    done = Done()
    done.cut_before = {"c"}
    with pytest.raises(CutOff):
        run("p", chain(done), session.pipelines, watcher=Told())
    run("p", chain(done), session.pipelines, watcher=Told())
    assert heard == [
        ("started", "a"), ("ended", "a"), ("started", "b"), ("ended", "b"), ("started", "c"),
        ("reused", "a"), ("reused", "b"), ("started", "c"), ("ended", "c"), ("started", "d"), ("ended", "d"),
    ]  # fmt: skip


def test_a_run_stops_where_it_is_told_to(session: Session) -> None:
    done = Done()
    record, outputs = run(
        "p", chain(done), session.pipelines, stop=lambda step, outputs: "enough" if step == "b" else None
    )
    assert (record.status, record.message) == ("stopped", "enough")
    assert sorted(outputs) == ["a", "b"]
    assert done.times == {"a": 1, "b": 1}
    again, _ = run("p", chain(done), session.pipelines)
    assert (again.status, again.id == record.id) == ("finished", False)
    assert done.times == dict.fromkeys("abcd", 1)


# Cut off, and taken up


def test_a_failing_step_ends_the_run_and_loses_nothing(session: Session) -> None:
    done = Done()
    done.fails = {"c"}
    with pytest.raises(ValueError, match="c cannot"):
        run("p", chain(done), session.pipelines)
    (failed,) = session.pipelines.list("p")
    assert (failed.status, failed.message) == ("failed", "c cannot")
    assert [step.step for step in failed.steps] == ["a", "b"]
    record, _ = run("p", chain(done), session.pipelines)
    assert (record.status, record.resumed) == ("finished", False)
    assert done.times == dict.fromkeys("abcd", 1)


def test_a_run_that_was_cut_off_is_taken_up(session: Session) -> None:
    done = Done()
    done.cut_before = {"d"}
    with pytest.raises(CutOff):
        run("p", chain(done), session.pipelines, reason="an alert")
    (left,) = session.pipelines.list("p")
    assert left.status == "running"
    record, _ = run("p", chain(done), session.pipelines)
    assert (record.id, record.status, record.reason) == (left.id, "finished", "an alert")
    assert done.times == dict.fromkeys("abcd", 1)
    assert len(session.pipelines.list("p")) == 1


def test_a_step_that_is_not_cached_is_not_done_twice_in_one_run(session: Session) -> None:
    times: list[str] = []
    cut = [True]

    def second(_: Given) -> Outputs:
        if cut.pop() if cut else False:
            raise CutOff
        return {}

    graph = [Node("first", lambda given: times.append("first") or {}, cached=False), Node("second", second, ["first"])]  # type: ignore[func-returns-value]
    with pytest.raises(CutOff):
        run("p", graph, session.pipelines)
    run("p", graph, session.pipelines)
    assert times == ["first"]


def test_a_changed_declaration_ends_the_old_run(session: Session) -> None:
    done = Done()
    done.cut_before = {"d"}
    with pytest.raises(CutOff):
        run("p", chain(done), session.pipelines)
    record, _ = run("p", chain(done, d={"leaves": 8}), session.pipelines)
    new, old = session.pipelines.list("p")
    assert new == record
    assert old.status == "stopped"
    assert "changed" in old.message
    assert done.times == dict.fromkeys("abcd", 1)  # what both have in common is not done again


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.sets(st.sampled_from("abcd")),
    fails=st.sets(st.sampled_from("abcd")),
    number=st.integers(0, 10**9),
)
def test_whatever_cuts_it_off_each_step_is_done_once(
    session: Session, before: set[str], fails: set[str], number: int
) -> None:
    """A step that ended is on the journal: only one that was cut off in the middle is worked again."""
    done = Done()
    done.cut_before, done.fails = set(before), set(fails)
    name = f"p{number}-{len(session.pipelines.list(limit=1000))}"
    for _ in range(len(before) + len(fails) + 1):
        try:
            record, outputs = run(name, chain(done), session.pipelines)
            break
        except (CutOff, ValueError):
            continue
    assert done.times == dict.fromkeys("abcd", 1)
    assert (record.status, len(record.steps)) == ("finished", 4)
    assert outputs["d"]["from"] == ["b", "c"]


def test_a_step_cut_off_at_its_end_is_worked_again(session: Session) -> None:
    """Its work was not on the journal, so it cannot be known to be done: steps must bear that."""
    done = Done()
    done.cut_after = {"b"}
    with pytest.raises(CutOff):
        run("p", chain(done), session.pipelines)
    run("p", chain(done), session.pipelines)
    assert done.times == {"a": 1, "b": 2, "c": 1, "d": 1}


PROGRAM = """
import os, signal, sys
from pathlib import Path
from loopline.app import Platform
from loopline.pipeline.engine import Node, run

platform = Platform.open(workspace=sys.argv[1], checkpoints=sys.argv[1] + ".copies")
told = Path(sys.argv[2])

def work(name):
    def step(given):
        with told.open("a") as file:
            file.write(name)
        if name == os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"made": name}
    return step

nodes = [Node(n, work(n), of) for n, of in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("c",)))]
record, outputs = run("p", nodes, platform.session().pipelines)
print(record.status, "".join(outputs))
"""


@pytest.mark.parametrize("where", ["KILL=c", "LOOPLINE_FAILPOINTS=database.tx.before_commit=kill@4",
                                   "LOOPLINE_FAILPOINTS=database.tx.after_commit=kill@4"])  # fmt: skip
def test_kill_9_in_the_middle_and_again(where: str, tmp_path: Path) -> None:
    Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies")).close()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "w"), str(tmp_path / "told")]
    name, _, value = where.partition("=")
    killed = subprocess.run(command, env={**os.environ, name: value}, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert again.stdout.split() == ["finished", "abcd"]
    # Transactions: start, a, b, c. Only the step that was under way is worked a second time.
    assert (tmp_path / "told").read_text() == ("abcd" if "after_commit" in where else "abccd")
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies"))
    try:
        (record,) = platform.session().pipelines.list()
        assert [step.step for step in record.steps] == ["a", "b", "c", "d"]
        assert platform.session().ledger.verify().ok
    finally:
        platform.close()
