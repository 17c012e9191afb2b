"""What importing rests on: a run under an id of the caller's own is one run, whoever asks and however often."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from loopline.app import Platform
from loopline.errors import Invalid, LooplineError, Unavailable
from loopline.ports.foreign_runs import ForeignPoint, ForeignRun, Unread
from loopline.tracking.exchange.importing import NAME, SOURCE, bring
from loopline.tracking.ids import ulid

ID = ulid(1_700_000_000_000, lambda size: b"\1" * size)


class Source:
    """Runs that a test makes up."""

    system = "made-up"

    def __init__(self, *runs: ForeignRun | Unread) -> None:
        self._runs = runs

    def runs(self) -> Iterator[ForeignRun | Unread]:
        yield from self._runs


def test_an_id_that_is_given_is_one_run(either: Platform) -> None:
    runs = either.session().runs
    made = runs.create("fit", id=ID, created=1_700_000_000_000, params={"a": 1})
    assert (made.id, made.created) == (ID, 1_700_000_000_000)
    again = runs.create("other", id=ID, params={"b": 2})
    assert (again.name, again.params) == ("fit", {"a": 1}), "it is given as it is"
    assert len(either.session().ledger.entries(operation="runs.create")) == 1
    for wrong in ("x", "8" + "Z" * 25, ID.lower(), "", ID + "0"):
        with pytest.raises(Invalid) as told:
            runs.create("fit", id=wrong)
        assert told.value.code == "bad-id"
    with pytest.raises(Invalid):
        runs.create("fit", created=-1)


def test_many_at_once_make_one_run(either: Platform) -> None:
    one = ForeignRun(
        source="1",
        name="fit",
        created=5,
        ended=9,
        points=lambda: [ForeignPoint("loss", n, n, n / 2) for n in range(50)],
    )
    states: list[str] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            states.extend(outcome.state for outcome in bring(either.session(), Source(one)))
        except LooplineError as e:
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(states) <= {"imported", "there already"}
    (run,) = either.session().runs.list().runs
    assert (run.status, run.ended, run.tags[SOURCE]) == ("finished", 9, "made-up:1")
    assert [p.step for p in either.session().runs.history(run.id, "loss")] == list(range(50))
    assert either.session().ledger.verify().ok


@pytest.mark.parametrize("name", ["\n", "a\nb", "x" * 300, "\u200b" * 3])
def test_a_name_that_is_none_here_is_mended(platform: Platform, name: str) -> None:
    (found,) = bring(platform.session(), Source(ForeignRun(source="1", name=name, created=1)))
    assert found.state == "imported", found.why
    assert platform.session().runs.show(found.run).tags[NAME] == name


def test_a_platform_that_is_away_stops_it_and_a_bad_run_does_not(platform: Platform) -> None:
    def away() -> Iterator[ForeignPoint]:
        raise Unavailable("It is away.", code="source-away")
        yield

    good, bad = ForeignRun(source="2", name="b", created=1), ForeignRun(source="1", name="a", created=1, params={"": 1})
    found = list(bring(platform.session(), Source(bad, Unread("3", "torn"), good)))
    assert [one.state for one in found] == ["refused", "refused", "imported"]
    assert found[1].why == "torn"
    with pytest.raises(Unavailable):
        list(bring(platform.session(), Source(ForeignRun(source="4", name="d", created=1, points=away))))
