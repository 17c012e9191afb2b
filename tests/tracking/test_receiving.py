"""Batches of journals at the platform: each is taken once, in order, whole or not at all, whatever is sent."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.failpoints import arm
from loopline.operations import Body
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import ENTRIES, KEY_LENGTH, KINDS, POINT, POINTS, frame, pack, run_prefix
from loopline.tracking.records import Point

SENDER = ulid(1)
RUN = ulid(2)


def said(kind: str, run: str = RUN, **fields: Any) -> bytes:
    return frame(KINDS.index(kind) + 1, run_prefix(run) + json.dumps(fields).encode())


def point(key: str, value: float, step: int, time: int = 1_000, run: str = RUN) -> bytes:
    name = key.encode()
    return frame(POINTS, run_prefix(run) + KEY_LENGTH.pack(len(name)) + name + POINT.pack(step, time, value))


BEGUN = said(
    "run", name="fit", created=1_700_000_000_000, params={"rate": 0.1}, tags={"by": "hand"}, inputs=["data:v@1"]
)


def batch(*frames: bytes) -> Body:
    return Body(pack(b"".join(frames)))


def test_a_batch_of_many_entries_is_refused_whole_and_cut_into_smaller_ones(either: Platform) -> None:
    runs = either.session().runs
    many = [said("run", ulid(9 + n), name="fit", created=1) for n in range(ENTRIES + 1)]
    with pytest.raises(Invalid, match=r"1,001 entries") as refused:
        runs.send(SENDER, 1, batch(*many, point("loss", 0.5, 1, run=ulid(9))))
    assert refused.value.code == "bad-batch"
    assert (runs.received(SENDER).number, runs.list().runs) == (0, ())
    assert runs.send(SENDER, 1, batch(*many[:ENTRIES])).number == 1
    assert runs.send(SENDER, 2, batch(many[-1])).number == 2
    assert len(runs.search(limit=1000).runs) == ENTRIES


def test_a_run_is_as_its_journal_says(either: Platform) -> None:
    runs = either.session().runs
    assert runs.received(SENDER).number == 0
    points = [point("loss", 1 / (step + 1), step) for step in range(50)] + [
        point("loss", math.nan, 50),
        point("acc", 1.0, 0),
    ]
    assert runs.send(SENDER, 1, batch(BEGUN, *points, said("note", text="*fine*"))).number == 1
    shown = runs.show(RUN)
    assert (shown.name, shown.created, shown.status) == ("fit", 1_700_000_000_000, "running")
    assert (shown.params, shown.tags, shown.inputs, shown.note) == (
        {"rate": 0.1},
        {"by": "hand"},
        ("data:v@1",),
        "*fine*",
    )
    assert shown.metrics == {"loss": "NaN", "acc": 1.0}
    assert len(runs.history(RUN, "loss")) == 51
    more = [
        said("params", params={"depth": 3}), said("tags", tags={"by": None}), said("link", inputs=["data:w@2"]),
        said("console", text="epoch 1\n", time=5), said("console", text="epoch 2\n", time=6),
        said("artifact", path="a.txt", digest="blake3:" + "0" * 64, size=3),
        said("finish", status="failed", message="no", ended=1_700_000_009_000, outputs=["model:m@1"]),
    ]  # fmt: skip
    assert runs.send(SENDER, 2, batch(*more)).number == 2
    shown = runs.show(RUN)
    assert (shown.params, shown.tags, shown.outputs) == ({"rate": 0.1, "depth": 3}, {}, ("model:m@1",))
    assert (shown.status, shown.message, shown.ended) == ("failed", "no", 1_700_000_009_000)
    assert shown.inputs == ("data:v@1", "data:w@2")
    assert runs.console(RUN).read() == b"epoch 1\nepoch 2\n"
    assert runs.received(SENDER).number == 2


def test_a_batch_is_taken_once_and_none_is_left_out(either: Platform) -> None:
    runs = either.session().runs
    first = batch(BEGUN, point("loss", 1.0, 0))
    with pytest.raises(Conflict, match="the last that was is 0") as gap:
        runs.send(SENDER, 2, batch(point("loss", 2.0, 1)))
    assert gap.value.code == "journal-gap"
    for _ in range(3):
        assert runs.send(SENDER, 1, first).number == 1
    assert len(runs.history(RUN, "loss")) == 1
    with either.database.snapshot() as connection:
        bodies = connection.execute(sa.text("SELECT body FROM ledger_entries")).scalars().all()
    entries = [json.loads(body) for body in bodies if "runs.send" in body]
    assert [entry["n"] for entry in entries] == [2], "one entry counts what the batch held"
    assert entries[0]["u"] == [f"run:{RUN}"]


def test_what_a_second_program_sets_is_a_correction(either: Platform) -> None:
    runs = either.session().runs
    runs.send(SENDER, 1, batch(BEGUN))
    runs.send(ulid(9), 1, batch(said("params", params={"rate": 0.2})))
    assert runs.show(RUN).params == {"rate": 0.2}
    (former,) = runs.corrections(RUN)
    assert (former.key, former.value, former.reason) == ("rate", 0.1, "set again by another program")


def test_runs_of_a_journal_that_is_closed_were_killed(either: Platform) -> None:
    runs = either.session().runs
    ended, other = ulid(3), ulid(4)
    runs.send(
        SENDER,
        1,
        batch(BEGUN, said("run", run=ended, name="b", created=1), said("finish", run=ended, status="failed", ended=2)),
    )
    runs.send(ulid(9), 1, batch(said("run", run=other, name="c", created=1)))
    for _ in range(2):
        assert runs.close(SENDER).number == 1
    assert [runs.show(run).status for run in (RUN, ended, other)] == ["killed", "failed", "running"]
    assert "program" in runs.show(RUN).message


BAD: dict[str, list[bytes]] = {
    "half a frame": [BEGUN, point("loss", 1.0, 0)[:-1]],
    "a run that is no ULID": [said("run", run="../../x", name="a", created=1)],
    "an empty key": [BEGUN, point("", 1.0, 0)],
    "a key that climbs": [BEGUN, point("../a", 1.0, 0)],
    "a NUL in a key": [BEGUN, point("a\0b", 1.0, 0)],
    "a key too long": [BEGUN, point("a" * 251, 1.0, 0)],
    "a time before 1970": [BEGUN, point("loss", 1.0, 0, time=-1)],
    "a run without a name": [said("run", created=1)],
    "an unknown field": [said("run", name="a", created=1, wanted=True)],
    "a wrong type": [said("run", name="a", created="soon")],
    "a time that is no time": [said("run", name="a", created=2**70)],
    "an unknown status": [BEGUN, said("finish", status="great", ended=1)],
    "a long text": [BEGUN, said("note", text="a" * 64_001)],
    "a long param": [said("run", name="a", created=1, params={"a": "b" * 70_000})],
    "half a character": [frame(1 + KINDS.index("note"), run_prefix(RUN) + b'{"text": "\\ud800"}')],
    "an environment nested deep": [
        frame(
            1 + KINDS.index("run"),
            run_prefix(RUN) + b'{"name": "a", "created": 1, "environment": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        )
    ],
    "an artifact that climbs": [BEGUN, said("artifact", path="../../x", digest="blake3:" + "0" * 64, size=1)],
    "a year that nobody has": [said("run", name="a", created=2**62)],
    "a bad ref": [said("run", name="a", created=1, inputs=["data:"])],
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD.keys())
def test_a_bad_batch_is_refused_whole(platform: Platform, frames: list[bytes]) -> None:
    runs = platform.session().runs
    with pytest.raises(Invalid):
        runs.send(SENDER, 1, batch(*frames))
    assert runs.received(SENDER).number == 0
    assert runs.list().runs == ()
    assert runs.send(SENDER, 1, batch(BEGUN)).number == 1, "and it is no obstacle to a good one"


def test_a_run_of_another_journal_is_waited_for(platform: Platform) -> None:
    runs = platform.session().runs
    own = ulid(3)
    child = said("run", run=own, name="fold", created=1, parent=RUN)
    with pytest.raises(Unavailable) as awaited:
        runs.send(ulid(9), 1, batch(child))
    assert awaited.value.code == "run-awaited"
    runs.send(SENDER, 1, batch(BEGUN))
    runs.send(ulid(8), 1, batch(child))
    assert runs.show(own).parent == RUN


def test_journals_and_runs_of_another_project_are_out_of_reach(platform: Platform) -> None:
    here = platform.session()
    here.projects.create("clinic")
    there = platform.session(project="clinic")
    there.runs.send(SENDER, 1, batch(BEGUN))
    for attempt in (
        lambda: here.runs.received(SENDER),
        lambda: here.runs.send(SENDER, 2, batch(point("loss", 1.0, 0))),
        lambda: here.runs.send(ulid(9), 1, batch(point("loss", 1.0, 0))),
    ):
        with pytest.raises(LooplineError):
            attempt()
    with pytest.raises(NotFound):
        here.runs.send(SENDER, 1, batch(BEGUN))
    assert here.runs.list().runs == ()
    here.runs.send(ulid(8), 1, batch(said("run", name="mine", created=1), point("loss", 1.0, 0)))
    assert here.runs.show(RUN).name == "mine", (
        "the same id in another project is another run, and tells nothing of the first"
    )
    assert there.runs.show(RUN).name == "fit"
    assert there.runs.show(RUN).metrics == {}


@pytest.mark.parametrize("where", ["tracking.points.written", "tracking.receive.before_acknowledged"])
def test_a_batch_that_fails_is_nowhere_and_comes_again(platform: Platform, where: str) -> None:
    runs = platform.session().runs
    runs.send(SENDER, 1, batch(BEGUN, point("loss", 1.0, 0)))
    second = batch(
        point("loss", 2.0, 1), said("params", params={"depth": 3}), said("finish", status="finished", ended=5)
    )
    arm(f"{where}=ENOSPC")
    try:
        with pytest.raises((OSError, Unavailable)):
            runs.send(SENDER, 2, second)
    finally:
        arm("")
    assert runs.received(SENDER).number == 1
    assert [p.number for p in runs.history(RUN, "loss")] == [1.0]
    assert runs.show(RUN).params == {"rate": 0.1}
    assert runs.show(RUN).status == "running"
    runs.send(SENDER, 2, second)
    assert [p.number for p in runs.history(RUN, "loss")] == [1.0, 2.0]
    assert runs.show(RUN).status == "finished"


def test_the_same_value_twice_is_two_points(either: Platform) -> None:
    runs = either.session().runs
    same = [point("acc", 1.0, 3) for _ in range(50)]
    runs.send(SENDER, 1, batch(BEGUN, *same))
    for number in range(2, 90):
        runs.send(SENDER, number, batch(*same))
    assert len(runs.history(RUN, "acc")) == 89 * 50
    runs.log(RUN, [Point(key="acc", value=1.0, step=3, time=1_000)])  # may be a call that is made again
    runs.send(SENDER, 90, batch(said("finish", status="finished", ended=5)))
    assert len(runs.history(RUN, "acc")) == 89 * 50


def test_a_console_has_an_end(platform: Platform) -> None:
    runs = platform.session().runs
    runs.send(SENDER, 1, batch(BEGUN))
    for number in range(2, 7):
        runs.send(SENDER, number, batch(*(said("console", text="x" * 60_000, time=1) for _ in range(69))))
    assert 15_900_000 < len(runs.console(RUN).read()) <= 16_000_000


def test_a_journal_is_of_who_began_it(platform: Platform) -> None:
    owner = platform.session()
    for name in ("ann", "bob"):
        owner.access.add_principal(name)
        owner.access.grant(name, "data_scientist")
    ann, bob = (platform.session(Principal(name=name)).runs for name in ("ann", "bob"))
    ann.send(SENDER, 1, batch(BEGUN))
    for attempt in (
        lambda: bob.send(SENDER, 2, batch(point("fake", 666.0, 0))),
        lambda: bob.send(SENDER, 1, batch(BEGUN)),
        lambda: bob.close(SENDER),
        lambda: bob.received(SENDER),
    ):
        with pytest.raises(Refused):
            attempt()
    ann.send(SENDER, 2, batch(point("true", 1.0, 0)))
    assert set(owner.runs.show(RUN).metrics) == {"true"}
    assert owner.runs.close(SENDER).number == 2, "who administers may end it"


def test_another_batch_under_a_number_that_is_taken_is_told(platform: Platform) -> None:
    runs = platform.session().runs
    runs.send(SENDER, 1, batch(BEGUN))
    runs.send(SENDER, 2, batch(point("loss", 1.0, 0)))
    with pytest.raises(Conflict) as forked:
        runs.send(SENDER, 2, batch(point("loss", 2.0, 0)))
    assert forked.value.code == "journal-forked"
    assert runs.send(SENDER, 2, batch(point("loss", 1.0, 0))).number == 2


def test_two_that_send_one_journal_at_once_lose_and_double_nothing(either: Platform) -> None:
    runs = either.session().runs
    batches = [batch(BEGUN)] + [batch(*(point("loss", 1.0, n * 10 + k) for k in range(10))) for n in range(20)]
    failures: list[Exception] = []

    def ship() -> None:
        try:
            number = 1
            while number <= len(batches):
                number = runs.send(SENDER, number, batches[number - 1]).number + 1
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=ship) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert runs.received(SENDER).number == 21
    assert [p.step for p in runs.history(RUN, "loss")] == list(range(200))
