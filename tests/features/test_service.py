"""Feature views in a workspace: joined to rows, made ready, looked up; the same values on both ways, and nothing half-made."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

import loopline as ll
from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.records import LabelColumn
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.features.definitions import FeatureView
from loopline.features.online import Online
from loopline.operations import Body
from loopline.testing.clock import FakeClock

START = 1_772_323_200_000  # 2026-03-01T00:00Z
DAY = 86_400_000


class Place:
    """A workspace with stays of patients."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.clock = FakeClock(START)
        more = {} if database_url is None else {"database_url": database_url}
        self.platform = Platform.open(
            workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=self.clock, **more
        )
        self.session: Session = self.platform.session()

    def add(self, name: str, frame: pl.DataFrame, **more: Any) -> Any:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return self.session.datasets.add(name, Body(buffer.getvalue(), name=f"{name}.parquet"), **more)

    def rows(self, name: str, version: str = "latest") -> pl.DataFrame:
        return pl.read_ipc_stream(io.BytesIO(self.session.datasets.read(name, version).read()))

    def define(self, view: FeatureView) -> Any:
        return self.session.features.define(view.name, msgspec.to_builtins(view))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.platform.close()


def moment(day: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(START / 1000, dt.UTC).replace(tzinfo=None) + dt.timedelta(days=day)


def stays(n: int = 300) -> pl.DataFrame:
    """Stays of 40 patients in the 100 days before the clock's time; some arrive days late."""
    return pl.DataFrame(
        {
            "patient": [n * 7 % 40 for n in range(n)],
            "left": [moment(-100 + k * 100 / n) for k in range(n)],
            "arrived": [moment(-100 + k * 100 / n + (9 if k % 10 == 3 else 0)) for k in range(n)],
            "days": [1 + k % 13 for k in range(n)],
            "cost": [round(0.1 + k * 17.31 % 50, 3) for k in range(n)],
            "back": [k % 3 == 0 for k in range(n)],
        }
    )


STAYS = ll.feature_view(
    "stays",
    source="stays",
    entity="patient",
    time="left",
    known="arrived",
    ttl="60d",
    features=[
        ll.feature("last_days", "days"),
        ll.feature("stays", by="count"),
        ll.feature("cost", "cost / days", by="mean", over="30d"),
        ll.feature("spread", "cost", by="std"),
        ll.feature("when", 'CAST("left" AS DATE)'),
    ],
)


def test_a_definition_is_a_version(place: Place) -> None:
    first = place.define(STAYS)
    assert (first.ref, first.online) == ("features:stays@1", None)
    assert place.define(STAYS).ref == "features:stays@1"
    changed = place.define(msgspec.structs.replace(STAYS, ttl="90d"))
    assert changed.ref == "features:stays@2"
    assert [one.ref for one in place.session.features.list()] == ["features:stays@2"]
    assert place.session.features.show("stays", "1").declaration == first.declaration
    with pytest.raises(NotFound, match="no feature view 'stay'"):
        place.session.features.show("stay")
    with pytest.raises(NotFound, match="no version 9"):
        place.session.features.show("stays", "9")
    with pytest.raises(Invalid, match="beyond a row"):
        place.session.features.define(
            "stays", msgspec.to_builtins(STAYS) | {"features": [{"name": "a", "of": "SUM(days)"}]}
        )
    with pytest.raises(NotFound, match="never materialised"):
        place.session.features.get("stays", ("1",))


@pytest.mark.parametrize("day", [-80.0, -41.37, 0.0])
def test_online_is_what_offline_says_of_that_moment(place: Place, day: float) -> None:
    place.add("stays", stays())
    place.define(STAYS)
    as_of = START + round(day * DAY)
    made = place.session.features.materialize("stays", as_of=as_of if day else None)
    assert (made.as_of, made.source, made.sealed) == (as_of, "data:stays@1", 0)
    asked = pl.DataFrame({"patient": range(45), "at": [moment(day)] * 45})  # five of them are unknown
    place.add("asked", asked)
    joined = place.session.features.join("stays", "data:asked@1", "at", "asked.features")
    assert joined.inputs == ("data:asked@1", "data:stays@1", "features:stays@1")
    offline = place.rows("asked.features")
    online = place.session.features.get("stays", tuple(map(str, range(45))))
    assert (online.view, online.stale, online.age) == ("features:stays@1", "", 0)
    for row, values in zip(offline.to_dicts(), online.values, strict=True):
        wanted = {name.removeprefix("stays_"): value for name, value in row.items() if name.startswith("stays_")}
        wanted["when"] = wanted["when"] and wanted["when"].isoformat()
        assert values == wanted
    assert online.values[44] == {"last_days": None, "stays": 0, "cost": None, "spread": None, "when": None}
    assert any(values["spread"] for values in online.values)


def test_rows_are_joined_as_of_their_own_time(place: Place) -> None:
    place.add("stays", stays())
    place.define(STAYS)
    made = place.session.features.join("stays", "data:stays@1", "left", "stays.learn")
    assert made.facts == {"features": "stays", "time": "left"}
    rows = place.rows("stays.learn")
    assert rows.select(stays().columns).equals(place.rows("stays"))
    # Its own stay is not known to a row, nor is one that arrived too late.
    seen = stays().with_row_index("row")
    for row in (0, 33, 150, 299):
        mine = seen.row(row, named=True)
        before = seen.filter(
            (pl.col("patient") == mine["patient"])
            & (pl.max_horizontal("left", "arrived") < mine["left"])
            & (pl.col("left") >= mine["left"] - dt.timedelta(days=60))
        )
        assert rows["stays_stays"][row] == before.height
        assert rows["stays_last_days"][row] == (before["days"][-1] if before.height else None)
    with pytest.raises(Conflict, match="has a column 'stays_last_days' already"):
        place.session.features.join("stays", "data:stays.learn@1", "left", "twice")
    other = ll.feature_view(
        "n", source="stays", entity="patient", time="left", features=[ll.feature("all", by="count")]
    )
    place.define(other)
    place.add("people", pl.DataFrame({"who": [1, 2], "at": [moment(-1)] * 2}))
    both = place.session.features.join("stays", "data:people@1", "at", "people.f", entity="who", more=("n",))
    assert [column.name for column in both.columns][-1] == "n_all"
    with pytest.raises(Invalid, match="no column 'patient' in the table"):
        place.session.features.join("stays", "data:people@1", "at", "people.g")


def test_a_label_counts_only_once_it_is_known(place: Place) -> None:
    """The last outcome of a patient, asked a day after: nobody knew it then, though the table says it now."""
    label = LabelColumn(column="back", time="left", matures="30d")
    place.add("stays", stays(), labels=(label,))
    view = ll.feature_view(
        "past", source="stays", entity="patient", time="left",
        features=[
            ll.feature("back", "back"), ll.feature("backs", "CASE WHEN back THEN 1 END", by="count"), ll.feature("n", by="count"),
        ],
    )  # fmt: skip
    place.define(view)
    place.add("asked", pl.DataFrame({"patient": [0, 0, 0], "at": [moment(-99.5), moment(-69.5), moment(-55)]}))
    place.session.features.join("past", "data:asked@1", "at", "asked.f")
    rows = place.rows("asked.f")
    first = stays().filter(pl.col("patient") == 0)["left"]
    known = [int((first + dt.timedelta(days=30) < at).sum()) for at in rows["at"]]
    assert known[0] == 0
    assert known[1] == 1
    assert [value is not None for value in rows["past_back"]] == [bool(n) for n in known]
    assert rows["past_n"][0] == 1  # that there was a stay was known at once
    place.session.features.join("past", "data:stays@1", "left", "stays.f")
    assert place.session.datasets.show("stays.f").labels == place.session.datasets.show("stays").labels
    numbers = msgspec.structs.replace(view, time="days")
    place.define(numbers)
    with pytest.raises(Invalid, match="made of the label 'back'"):
        place.session.features.materialize("past")


def test_what_is_old_says_so_and_the_newest_is_taken_at_once(place: Place) -> None:
    place.add("stays", stays(200))
    place.define(STAYS)
    first = place.session.features.materialize("stays")
    held = Online(STAYS, place.platform.blobs, first.digest)
    place.clock.forward(seconds=60)
    place.add("stays", stays(300))
    old = place.session.features.get("stays", ("1",))
    assert (old.stale, old.age) == ("data:stays@2 is newer than data:stays@1", 60_000)
    second = place.session.features.materialize("stays")
    assert (second.number, second.entities) == (2, 40)
    new = place.session.features.get("stays", ("1",))
    assert (new.stale, new.source) == ("", "data:stays@2")
    assert new.values != old.values
    # Who opened the first one still sees that one, whole; it is needed by nobody, and goes with the next sweep.
    assert tuple(held.get(["1"])) == old.values
    held.close()
    place.clock.forward(seconds=3 * 86_400)
    kept = {blob.digest for blob in place.platform.blobs.list()}
    assert {first.digest, second.digest} <= kept
    from loopline.store.service import Store

    with place.platform.database.begin() as tx:
        store = Store(tx, place.platform.blobs)
        assert (store.owners(first.digest), store.owners(second.digest)) == ([], ["features:stays"])
    place.define(msgspec.structs.replace(STAYS, ttl="90d"))
    assert place.session.features.get("stays", ("1",)).stale == "features:stays@2 is a newer definition"
    assert place.session.ledger.verify().ok


def test_sealed_and_withdrawn_rows_are_in_no_feature(place: Place) -> None:
    place.add("stays", stays())
    place.session.datasets.split("stays", "back", time="left")
    place.define(STAYS)
    made = place.session.features.materialize("stays")
    assert made.sealed == place.session.datasets.show("stays.test").rows > 0
    with pytest.raises(Refused, match="sealed"):
        place.session.features.join("stays", "data:stays.test@1", "left", "peek")
    place.session.datasets.withdraw("stays", "1", "a broken sensor")
    for call in (
        lambda: place.session.features.get("stays", ("1",)),
        lambda: place.session.features.join("stays", "data:stays@1", "left", "more"),
    ):
        with pytest.raises(Refused, match="withdrawn"):
            call()


def test_time_may_be_a_number(place: Place) -> None:
    engines = pl.DataFrame({"unit": [1, 1, 1, 2], "cycle": [1, 2, 3, 1], "heat": [0.5, 0.7, 0.9, 0.1]})
    place.add("engines", engines)
    place.define(
        ll.feature_view(
            "heat",
            source="engines",
            entity="unit",
            time="cycle",
            ttl="2",
            features=[ll.feature("mean", "heat", by="mean")],
        )
    )
    assert place.session.features.materialize("heat").as_of == 4
    assert place.session.features.get("heat", ("1", "2", "x")).values == ({"mean": 0.8}, {"mean": None}, {"mean": None})
    place.session.features.materialize("heat", as_of=2)
    assert place.session.features.get("heat", ("1",)).values == ({"mean": 0.5},)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source": "elsewhere"}, "no-dataset"),
        ({"entity": "patients"}, "no-column"),
        ({"time": "days_"}, "no-column"),
        ({"entity": "cost"}, "bad-feature"),
        ({"known": "days"}, "bad-feature"),
        ({"ttl": "60"}, "bad-duration"),
        ({"source": "data:clinic/stays"}, "no-dataset"),
    ],
)
def test_what_does_not_fit_the_source_is_refused_and_leaves_nothing(
    place: Place, change: dict[str, str], code: str
) -> None:
    place.add("stays", stays())
    place.define(msgspec.structs.replace(STAYS, **change))
    before = {blob.digest for blob in place.platform.blobs.list()}
    with pytest.raises(LooplineError) as caught:
        place.session.features.materialize("stays")
    assert caught.value.code == code
    assert place.session.features.show("stays").online is None
    assert {blob.digest for blob in place.platform.blobs.list()} == before


def test_an_entity_of_any_spelling_is_looked_up(place: Place) -> None:
    odd = ["a'b", 'a"; DROP TABLE features; --', "ü\u202e", "", " ", "a/b", "x" * 5_000]
    place.add("things", pl.DataFrame({"thing": odd, "t": range(len(odd))}))
    place.define(ll.feature_view("f", source="things", entity="thing", time="t", features=[ll.feature("t", "t")]))
    place.session.features.materialize("f")
    found = place.session.features.get("f", tuple(odd)).values
    assert [one["t"] for one in found] == [0, 1, 2, 3, 4, 5, 6]
    for bad in (1.5, None, True):
        with pytest.raises(Invalid):
            place.session.features.get("f", (bad,))  # type: ignore[arg-type]
