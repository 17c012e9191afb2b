"""Datasets that are collected by themselves: at their time, as often as said, and told where they fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid, NotFound
from loopline.loop.collecting import collect_due
from loopline.loop.status import summary
from loopline.testing.clock import FakeClock

MINUTE = 60_000


class Clinic:
    """A folder of files, collected by rules at a time of one's own."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(1_772_323_200_000)  # 2026-03-01T00:00Z
        self.platform = Platform.open(
            workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=self.clock
        )
        self.session: Session = self.platform.session()
        self.folder = folder / "clinic"
        self.folder.mkdir()
        self.put("0", 0)
        self.session.sources.collect("visits", [{"address": str(self.folder)}])

    def put(self, name: str, *ids: int) -> None:
        (self.folder / f"{name}.csv").write_text("\n".join(["id", *map(str, ids)]) + "\n")

    def after(self, minutes: float) -> int:
        """The newest version once the platform has looked so many minutes later."""
        self.clock.forward(milliseconds=int(minutes * MINUTE))
        collect_due(self.session.sources, self.clock.now())
        return self.session.datasets.show("visits").version


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    clinic = Clinic(tmp_path)
    yield clinic
    clinic.platform.close()


def test_every_so_often(clinic: Clinic) -> None:
    clinic.put("1", 1)
    assert clinic.after(60) == 1, "nothing is read by itself that nobody asked for"
    clinic.session.sources.schedule("visits", every="15min")
    assert clinic.after(14) == 1
    assert clinic.after(1) == 2
    clinic.put("2", 2)
    assert clinic.after(14) == 2
    assert clinic.after(2) == 3
    clinic.session.sources.unschedule("visits")
    clinic.put("3", 3)
    assert clinic.after(60) == 3


def test_by_a_line_of_cron(clinic: Clinic) -> None:
    shown = clinic.session.sources.schedule("visits", cron="30 2 * * *")
    assert shown.due == clinic.clock.now() + 150 * MINUTE
    clinic.put("1", 1)
    assert clinic.after(149) == 1
    assert clinic.after(1) == 2
    assert clinic.session.sources.show("visits").due == clinic.clock.now() + 24 * 60 * MINUTE


def test_when_something_arrives_or_enough_waits(clinic: Clinic) -> None:
    clinic.session.sources.schedule("visits", waiting=1)
    assert clinic.after(1) == 1
    clinic.put("1", 1)
    assert clinic.after(1) == 2
    clinic.session.sources.schedule("visits", waiting=5)
    clinic.put("2", 2, 3, 4)
    assert clinic.after(1) == 2
    clinic.put("3", 5, 6)
    assert clinic.after(1) == 3
    assert clinic.session.datasets.show("visits").rows == 7


def test_what_fails_is_told_and_tried_ever_less_often(clinic: Clinic) -> None:
    clinic.session.sources.schedule("visits", waiting=1)
    (clinic.folder / "1.csv").write_text("id\nmany\n")
    pauses = []
    for _ in range(12):
        clinic.after(24 * 60)
        shown = clinic.session.sources.show("visits")
        assert shown.due is not None
        pauses.append((shown.due - clinic.clock.now()) // MINUTE)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]
    assert shown.failures == 12
    assert "1.csv has changed: column 'id' holds text where integers were" in shown.problem
    (need,) = summary(clinic.session).needs
    assert (need.kind, need.command) == ("failed", "loopline data sync visits")
    assert "holds text" in need.text
    entries = clinic.session.ledger.entries(limit=1000)
    assert sum(e.operation == "sources.turn" for e in entries) == 1, "that it began to fail, and not each turn"
    clinic.put("1", 1)
    assert clinic.after(24 * 60) == 2
    shown = clinic.session.sources.show("visits")
    assert (shown.failures, shown.problem) == (0, "")
    assert not summary(clinic.session).needs


def test_what_fails_raises_one_alert_that_closes_once_it_works_again(clinic: Clinic) -> None:
    clinic.session.sources.schedule("visits", waiting=1)
    (clinic.folder / "1.csv").write_text("id\nmany\n")
    for _ in range(3):
        clinic.after(24 * 60)
    (alert,) = clinic.session.alerts.list()
    assert (alert.kind, alert.dataset, alert.endpoint, alert.status, alert.found) == (
        "collecting", "visits", "", "open", 3,
    )  # fmt: skip
    assert alert.summary.startswith("data:visits is not collected any more: ")
    assert len(summary(clinic.session).needs) == 1
    assert clinic.session.loops.heed().asked == ()
    clinic.put("1", 1)
    clinic.after(24 * 60)
    closed = clinic.session.alerts.show(alert.id)
    assert (closed.status, closed.comment) == ("closed", "closed: it is collected again")
    turns = [entry for entry in clinic.session.ledger.entries(limit=1000) if entry.operation == "sources.turn"]
    assert [alert.ref in entry.outputs for entry in turns] == [True, True]
    (clinic.folder / "2.csv").write_text("id\nmany\n")
    clinic.after(24 * 60)
    assert len(clinic.session.alerts.list(status="open")) == 1
    clinic.session.sources.unschedule("visits")
    assert clinic.session.alerts.list(status="open") == []


def test_one_that_fails_keeps_no_other_from_its_turn(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.session.sources.collect("another", [{"address": str(clinic.folder / "0.csv")}])
    for name in ("another", "visits"):
        clinic.session.sources.schedule(name, waiting=1)
    (clinic.folder / "0.csv").unlink()
    clinic.put("0", 0)
    (clinic.folder / "0.csv").write_bytes(b"\x00\xff")
    clinic.after(1)
    assert all(clinic.session.sources.show(name).failures == 1 for name in ("another", "visits"))

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("hunter2")

    monkeypatch.setattr("loopline.foreign.row_source", broken)
    clinic.after(60)
    for name in ("another", "visits"):
        assert clinic.session.sources.show(name).problem == "an error of its source's own: ZeroDivisionError"


def test_what_is_no_rule_is_refused(clinic: Clinic) -> None:
    schedule = clinic.session.sources.schedule
    for given in (
        {},
        {"every": "1h", "waiting": 1},
        {"waiting": 0},
        {"every": "1ms"},
        {"every": "1 fortnight"},
        {"cron": "x"},
    ):
        with pytest.raises(Invalid):
            schedule("visits", **given)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="No source of 'nowhere'"):
        schedule("nowhere", every="1h")
    with pytest.raises(NotFound, match="not collected by itself"):
        clinic.session.sources.turn("visits")
