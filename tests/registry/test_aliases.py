"""Aliases against a model of them: history, the way back, and where they pointed at any time."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.operations import Body
from loopline.testing.clock import FakeClock

Bundle = Callable[..., bytes]
ALIASES = st.sampled_from(["champion", "challenger", "blue"])


class AliasMachine(RuleBasedStateMachine):
    """The model: for each alias a list of (time, version), and the stack of versions to roll back to."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.bundle = bundle
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        root = Path(self.folder.name)
        self.platform = Platform.open(workspace=root / "w", checkpoints=str(root / "c"), clock=self.clock)
        self.models = self.platform.session().models
        self.status: dict[int, str] = {}
        self.moves: dict[str, list[tuple[int, int]]] = {}
        self.stacks: dict[str, list[int]] = {}

    def teardown(self) -> None:
        self.platform.close()
        self.folder.cleanup()

    def current(self, alias: str) -> int | None:
        return self.moves[alias][-1][1] if alias in self.moves else None

    def any_version(self, data: st.DataObject) -> int:
        return data.draw(st.integers(1, len(self.status) + 1))

    @precondition(lambda self: len(self.status) < 6)
    @rule(register=st.booleans())
    def draft(self, register: bool) -> None:
        version = self.models.draft("m", self.bundle("m", seed=len(self.status))).version
        assert version == len(self.status) + 1
        self.status[version] = "draft"
        if register:
            self.models.register("m", version)
            self.status[version] = "registered"

    @precondition(lambda self: self.status)
    @rule(alias=ALIASES, data=st.data())
    def point(self, alias: str, data: st.DataObject) -> None:
        version = self.any_version(data)
        self.clock.forward(milliseconds=data.draw(st.sampled_from([0, 1, 1000])))
        if version not in self.status:
            with pytest.raises(NotFound):
                self.models.set_alias("m", alias, version)
        elif self.status[version] != "registered":
            with pytest.raises(Conflict):
                self.models.set_alias("m", alias, version)
        else:
            assert self.models.set_alias("m", alias, version, reason="r").version == version
            if self.current(alias) != version:
                self.moves.setdefault(alias, []).append((self.clock.time, version))
                self.stacks.setdefault(alias, []).append(version)

    @precondition(lambda self: self.status)
    @rule(alias=ALIASES, milliseconds=st.integers(0, 50))
    def roll_back(self, alias: str, milliseconds: int) -> None:
        self.clock.forward(milliseconds=milliseconds)
        if alias not in self.moves:
            with pytest.raises(NotFound):
                self.models.roll_back("m", alias)
            return
        stack = self.stacks[alias][:-1]
        while stack and self.status[stack[-1]] != "registered":
            stack.pop()
        if not stack:
            with pytest.raises(Conflict):
                self.models.roll_back("m", alias)
            return
        assert self.models.roll_back("m", alias).version == stack[-1]
        self.stacks[alias] = stack
        self.moves[alias].append((self.clock.time, stack[-1]))

    @precondition(lambda self: self.status)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.status)))
        named = any(self.current(alias) == version for alias in self.moves)
        if named or self.status[version] == "withdrawn":
            with pytest.raises(Conflict):
                self.models.withdraw("m", version, "why")
        else:
            self.models.withdraw("m", version, "why")
            self.status[version] = "withdrawn"

    @precondition(lambda self: self.moves)
    @rule(data=st.data())
    def ask_when(self, data: st.DataObject) -> None:
        alias = data.draw(st.sampled_from(sorted(self.moves)))
        moves = self.moves[alias]
        time = data.draw(st.integers(moves[0][0] - 5, self.clock.time + 5))
        known = [version for at, version in moves if at <= time]
        if known:
            assert self.models.as_of("m", alias, time).version == known[-1]
        else:
            with pytest.raises(NotFound):
                self.models.as_of("m", alias, time)

    @invariant()
    def agrees(self) -> None:
        if not self.status:
            return
        assert {a.alias: a.version for a in self.models.aliases("m")} == {a: self.current(a) for a in self.moves}
        for alias, moves in self.moves.items():
            found = self.models.alias_history("m", alias)
            assert [(move.at, move.version) for move in found] == moves
            assert [move.number for move in found] == list(range(1, len(moves) + 1))
            assert [move.previous for move in found] == [None, *(version for _, version in moves[:-1])]


def test_history_and_the_way_back_are_those_of_the_model(bundle: Bundle) -> None:
    run_state_machine_as_test(
        lambda: AliasMachine(bundle),
        settings=settings(
            max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.mark.parametrize("alias", ["7", "007", "v3", "latest", "LATEST", "", "a b", "../x", "@champion", "-x"])
def test_an_alias_is_no_number(platform: Platform, alias: str, bundle: Bundle) -> None:
    models = platform.session().models
    models.draft("readmission", bundle())
    models.register("readmission", 1)
    with pytest.raises(Invalid):
        models.set_alias("readmission", alias, 1)


def test_a_version_is_found_by_its_alias(platform: Platform, bundle: Bundle) -> None:
    models = platform.session().models
    models.draft("readmission", bundle())
    models.register("readmission", 1)
    models.set_alias("readmission", "champion", 1, reason="first")
    assert (
        models.show("readmission", "champion")
        == models.show("readmission", "@champion")
        == models.show("readmission", 1)
    )
    assert models.show("readmission", "1").aliases == ("champion",)
    assert models.list()[0].aliases == {"champion": 1}


def test_a_clock_set_back_keeps_the_order(platform: Platform, clock: FakeClock, bundle: Bundle) -> None:
    models = platform.session().models
    for seed in (0, 1):
        models.register("readmission", models.draft("readmission", bundle(seed=seed)).version)
    first = models.set_alias("readmission", "champion", 1)
    clock.forward(seconds=-3600)
    second = models.set_alias("readmission", "champion", 2)
    assert second.since >= first.since
    assert models.as_of("readmission", "champion").version == 2


def test_concurrent_moves_come_one_after_the_other(either: Platform, bundle: Bundle) -> None:
    models = either.session().models
    for seed in range(3):
        models.register("readmission", models.draft("readmission", bundle(seed=seed)).version)
    failures: list[Exception] = []

    def work(version: int) -> None:
        try:
            for _ in range(5):
                models.set_alias("readmission", "champion", version)
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    moves = models.alias_history("readmission", "champion")
    assert [move.number for move in moves] == list(range(1, len(moves) + 1))
    assert [move.previous for move in moves] == [None, *(move.version for move in moves[:-1])]
    assert all(move.previous != move.version for move in moves)


def test_the_way_back_passes_over_what_learnt_from_withdrawn_data(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.datasets.add("rows", Body(b"x,y\n1,no\n2,yes\n", name="rows.csv"))
    run = session.runs.create("fit", inputs=("data:rows@1",))
    for seed, given in enumerate(({}, {"run": run.id}, {})):
        made = session.models.draft("m", bundle("m", seed=seed), **given)
        session.models.register("m", made.version)
        session.models.set_alias("m", "champion", made.version)
    waits = session.models.draft("m", bundle("m", seed=3), run=run.id)
    session.datasets.withdraw("rows", "1", "labels of another year")
    for refused in (
        lambda: session.models.register("m", waits.version),
        lambda: session.models.set_alias("m", "champion", 2),
    ):
        with pytest.raises(Refused, match="data:rows@1 is withdrawn"):
            refused()
    assert session.models.roll_back("m", "champion").version == 1
