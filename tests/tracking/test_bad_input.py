"""What no program should send, and what befalls a server: each is refused whole or taken whole, on SQLite and on PostgreSQL.

What MLflow's clients send is in tests/api/mlflow/test_bad_input.py, 32 writers for a minute in tests/soak, killed servers in
tests/client/test_sender.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.database import Database
from loopline.errors import Invalid, Unavailable
from loopline.operations import Body
from loopline.testing.clock import FakeClock
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import KEY_LENGTH, POINT, POINTS, frame, pack, run_prefix
from loopline.tracking.records import Point


@pytest.fixture
def turned(database_url: str, tmp_path: Path) -> Iterator[tuple[Platform, FakeClock]]:
    """A platform on SQLite and on PostgreSQL, with its clock."""
    clock = FakeClock()
    made = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database_url, clock=clock
    )
    yield made, clock
    made.close()


BAD: dict[str, dict[str, Any]] = {
    "an empty key": {"key": ""}, "a NUL in a key": {"key": "a\0b"}, "a key that climbs": {"key": "../../etc/passwd"},
    "an absolute key": {"key": "/etc/passwd"}, "a long key": {"key": "a" * 251}, "no key": {"key": None},
    "a surrogate in a key": {"key": "\ud800"}, "a text": {"value": "nan"}, "nothing": {"value": None}, "a list": {"value": [1.0]},
    "a step of 2^63": {"step": 2**63}, "a step below -2^63": {"step": -(2**63) - 1}, "half a step": {"step": 0.5},
    "a time of 2^63": {"time": 2**63}, "a time before 1970": {"time": -2},
}  # fmt: skip


def test_a_thousand_points_with_a_bad_one_among_them_are_refused_whole(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for what, bad in BAD.items():
        points: list[Any] = [{"key": f"m{n}", "value": 1.0, "step": n, "time": 1} for n in range(1000)]
        points[500] |= bad
        with pytest.raises(Invalid):
            runs.log(run, points, params={"p": 1}, tags={"t": "1"})
        kept = runs.show(run)
        assert (kept.metrics, kept.params, kept.tags) == ({}, {}, {}), what
        assert runs.history(run, "m0") == (), what


def test_keys_and_values_that_look_like_something_else_are_themselves(either: Platform) -> None:
    runs = either.session().runs
    keys = [
        "NaN",
        "nan",
        "None",
        "null",
        "Infinity",
        "-1",
        "1e999",
        "true",
        "größe/δ",
        "鍵",
        "a:b",
        "'; DROP TABLE runs; --",
    ]
    run = runs.create("a", params={key: key for key in keys}, tags={key: key for key in keys}).id
    runs.log(run, [Point(key=key, value=math.nan, step=-(2**63), time=0) for key in keys])
    runs.log(run, [Point(key=key, value=-math.inf, step=2**63 - 1, time=2**47) for key in keys])
    kept = runs.show(run)
    assert (kept.params, kept.tags) == ({key: key for key in keys},) * 2
    assert kept.metrics == dict.fromkeys(keys, "-Infinity")
    for key in keys:
        assert [(p.step, repr(p.number)) for p in runs.history(run, key)] == [(-(2**63), "nan"), (2**63 - 1, "-inf")]
        quoted = key.replace("'", "''")
        assert [
            one.id for one in runs.search(f"""params."{key}" = '{quoted}' AND tags."{key}" = '{quoted}'""").runs
        ] == [run]


def test_ten_megabytes_of_a_param_are_refused_by_its_name(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for call in (
        lambda: runs.params(run, {"fine": 1, "large": "x" * 10_000_000}),
        lambda: runs.log(run, [Point(key="m", value=1.0)], params={"large": "x" * 10_000_000}),
        lambda: runs.create("b", params={"large": ["x" * 10_000_000]}),
    ):
        with pytest.raises(Invalid, match="'large' has") as refused:
            call()
        assert refused.value.code == "too-long"
    assert (runs.show(run).params, runs.show(run).metrics, len(runs.list().runs)) == ({}, {}, 1)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_100_000_params_of_one_run_are_kept(either: Platform) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    for start in range(0, 100_000, 10_000):
        runs.params(run, {f"p{n}": n for n in range(start, start + 10_000)})
    assert runs.show(run).params == {f"p{n}": n for n in range(100_000)}
    assert [one.id for one in runs.search("params.p99999 = 99999 AND params.p0 = 0").runs] == [run]


def test_a_clock_that_goes_back_takes_nothing_back(turned: tuple[Platform, FakeClock]) -> None:
    platform, clock = turned
    runs = platform.session().runs
    made = [runs.create("before").id]
    runs.log(made[0], [Point(key="loss", value=3.0, step=3, time=-1)])
    clock.forward(seconds=-86_400)
    runs.log(made[0], [Point(key="loss", value=4.0, step=4, time=-1), Point(key="loss", value=3.5, step=3, time=-1)])
    runs.finish(made[0])
    made += [runs.create(f"after {n}").id for n in range(20)]
    clock.forward(seconds=-365 * 86_400)
    made += [runs.create(f"long after {n}").id for n in range(20)]
    first = runs.show(made[0])
    assert first.metrics == {"loss": 4.0}, "the last is the one of the highest step, whatever the time"
    assert [p.number for p in runs.history(made[0], "loss")] == [3.5, 3.0, 4.0]
    assert first.ended is not None
    assert first.ended < first.created
    assert len(set(made)) == 41
    found, after = [], None
    while True:
        page = runs.search(order=("created",), limit=7, after=after)
        found += [one.id for one in page.runs]
        after = page.after
        if after is None:
            break
    assert sorted(found) == sorted(made), "each is on one page"
    assert [one.id for one in runs.search("duration < 0").runs] == made[:1]
    assert platform.session().ledger.verify().ok


def journalled(run: str, key: str, steps: range) -> Body:
    name = key.encode()
    head = run_prefix(run) + KEY_LENGTH.pack(len(name)) + name
    return Body(pack(b"".join(frame(POINTS, head + POINT.pack(step, 1_000, 0.5)) for step in steps)))


def test_two_clients_with_one_run_lose_and_double_nothing(either: Platform) -> None:
    """By journals of their own and by calls, as a resumed run and a notebook beside it do."""
    runs = either.session().runs
    run = runs.create("a", params={"rate": 1}).id
    journals = [ulid(7), ulid(8)]
    for turn in range(6):
        for place, journal in enumerate(journals):
            steps = range(turn * 20 + place * 10, turn * 20 + place * 10 + 10)
            runs.send(journal, turn + 1, journalled(run, "loss", steps))
            assert runs.send(journal, turn + 1, journalled(run, "loss", steps)).number == turn + 1
        runs.log(run, [Point(key="loss", value=0.5, step=1000 + turn, time=5)])
        runs.log(run, [Point(key="loss", value=0.5, step=1000 + turn, time=5)])
    assert [p.step for p in runs.history(run, "loss")] == [*range(120), *range(1000, 1006)]
    runs.finish(run)
    runs.send(journals[0], 7, journalled(run, "loss", range(2000, 2003)))
    assert len(runs.history(run, "loss")) == 129, "what came late is there, too"


def filled(database: Database, full: bool) -> None:
    """Has the disk of a database full: SQLite by its own limit, PostgreSQL by the error that its server gives then."""
    if database.sqlite:
        with database.begin() as tx:
            pages = tx.scalar(sa.text("PRAGMA page_count"))
            tx.execute(sa.text(f"PRAGMA max_page_count = {pages if full else 2**30}"))
        return
    text = 'could not extend file "base/5/16397": No space left on device'
    with database.begin() as tx:
        if full:
            tx.execute(
                sa.text(
                    f"CREATE FUNCTION full_disk() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{text}' "
                    "USING ERRCODE = 'disk_full', HINT = 'Check free disk space.'; END $$ LANGUAGE plpgsql"
                )
            )
            tx.execute(sa.text("CREATE TRIGGER full_disk BEFORE INSERT ON run_points_hot EXECUTE FUNCTION full_disk()"))
        else:
            tx.execute(sa.text("DROP FUNCTION full_disk CASCADE"))


@pytest.mark.parametrize("which", ["the control file", "the file of points"])
def test_a_database_on_a_full_disk_is_told_and_goes_on_when_there_is_room(either: Platform, which: str) -> None:
    runs = either.session().runs
    run = runs.create("a").id
    database = either.database if which == "the control file" or either.metrics is None else either.metrics
    rounds: list[list[Point]] = [
        [Point(key=f"m{n}", value=math.sin(turn * 1000 + n), step=turn, time=1) for n in range(1000)]
        for turn in range(3)
    ]
    runs.log(run, rounds[0], params={"a": 1})
    before = runs.show(run)
    filled(database, True)
    with pytest.raises(Unavailable) as told:
        runs.log(run, rounds[1], params={f"p{n}": "x" * 1000 for n in range(500)})
    assert told.value.code == "disk-full"
    filled(database, False)
    assert runs.show(run) == before, "not half of a batch"
    for points in rounds[1:]:
        runs.log(run, points, params={"b": 2})
    assert runs.show(run).params == {"a": 1, "b": 2}
    for n in (0, 999):
        assert [p.step for p in runs.history(run, f"m{n}")] == [0, 1, 2]
    assert either.session().ledger.verify().ok
