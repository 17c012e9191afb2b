"""Datasets collected from sources: every row once, whatever comes in between; what does not fit is refused or held back."""

from __future__ import annotations

import datetime as dt
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest
import sqlalchemy as sa

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.records import Collected
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.operations import Body
from loopline.quality.profile import Profile


class Clinic:
    """A folder into which a clinic puts its files, collected as `visits`."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.folder = folder
        folder.mkdir()

    def put(self, name: str, *lines: str) -> None:
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def collect(self, **given: Any) -> Collected:
        options = given.pop("options", {})
        return self.session.sources.collect("visits", [{"address": str(self.folder), "options": options}], **given)

    def sync(self, **given: Any) -> Collected:
        return self.session.sources.sync("visits", **given)

    def rows(self, version: str = "latest") -> pl.DataFrame:
        return pl.read_ipc_stream(io.BytesIO(self.session.datasets.read("visits", version).read()))

    def ids(self, version: str = "latest") -> list[int]:
        return self.rows(version)["id"].to_list()

    def held(self, version: str = "latest") -> list[dict[str, Any]]:
        return list(self.session.datasets.quarantine("visits", version, limit=1000).shown)


@pytest.fixture
def clinic(either: Platform, tmp_path: Path) -> Iterator[Clinic]:
    yield Clinic(either.session(), tmp_path / "clinic")
    assert either.session().ledger.verify().ok


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def between(column: str, low: float, high: float) -> dict[str, Any]:
    return {"rules": [{"rule": "between", "column": column, "low": low, "high": high}]}


def test_what_comes_later_goes_behind_in_order(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "3,1", "1,2")
    first = clinic.collect(message="the first day")
    assert (first.version.ref, first.version.message, first.new, first.read) == (
        "data:visits@1",
        "the first day",
        True,
        2,
    )
    assert not clinic.sync().new
    clinic.put("c.csv", "id,days", "9,1")
    clinic.put("b.csv", "id,days", "2,1")
    second = clinic.sync(message="the next")
    assert (second.version.version, second.read, second.version.message) == (2, 2, "the next")
    assert second.version.inputs == ("data:visits@1",)
    assert clinic.ids() == [3, 1, 2, 9]
    assert clinic.ids("1") == [3, 1]
    assert not clinic.sync().new


def test_rows_that_are_there_are_not_written_again(clinic: Clinic, either: Platform) -> None:
    clinic.put("a.csv", "id,days,ward,at", *(f"{n},{n % 9},north,2026-01-0{n % 9 + 1}" for n in range(2000)))
    clinic.collect()
    table = either.settings.workspace / "tables" / "default" / "visits"
    (big,) = table.glob("*.parquet")
    before = big.stat().st_mtime_ns
    clinic.put("b.csv", "id,days,ward,at", "2000,1,south,2026-01-01")
    version = clinic.sync().version
    files = set(table.glob("*.parquet"))
    assert len(files) == 2
    assert big.stat().st_mtime_ns == before
    assert max(f.stat().st_size for f in files - {big}) < big.stat().st_size / 2
    assert pl.read_delta(str(table)).height == deltalake.DeltaTable(str(table)).to_pyarrow_table().num_rows == 2001
    assert clinic.session.datasets.profile("visits").read()
    from loopline.hashing import digest_table

    assert digest_table(clinic.rows().to_arrow()) == version.digest


def test_rows_that_repeat_earlier_ones_are_counted_across_parts(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,1", "2,1", "2,1")
    clinic.collect()
    clinic.put("b.csv", "id,days", "1,1", "3,1", "3,1", "2,1")
    clinic.sync()
    made, again = (
        Profile.from_json(clinic.session.datasets.profile("visits", full=full).read()) for full in (False, True)
    )
    assert (made.rows, made.duplicates) == (again.rows, again.duplicates) == (7, 4)


def test_a_table_of_very_many_parts_is_written_anew(
    clinic: Clinic, either: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopline.data.versions._MOST_FILES", 3)
    clinic.put("0.csv", "id", "0")
    clinic.collect()
    table = deltalake.DeltaTable(str(either.settings.workspace / "tables" / "default" / "visits"))
    parts = []
    for n in range(1, 8):
        clinic.put(f"{n}.csv", "id", f"{n}")
        clinic.sync()
        table.update_incremental()
        parts.append(len(table.file_uris()))
    assert parts == [2, 3, 1, 2, 3, 1, 2]
    assert clinic.ids() == list(range(8))


def test_one_file_is_the_whole_table_each_time(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1", "2")
    address = str(clinic.folder / "a.csv")
    clinic.session.sources.collect("visits", [{"address": address}])
    clinic.put("a.csv", "id", "7")
    found = clinic.sync()
    assert clinic.ids() == [7]
    assert found.version.inputs == ()
    (clinic.folder / "a.csv").touch()
    assert not clinic.sync().new, "the same content is that version"
    assert not clinic.sync().new


def test_the_same_sources_again_go_on_and_others_begin_anew(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    assert clinic.collect().read == 1
    assert clinic.ids() == [1, 2]
    whole = clinic.collect(options={"whole": "true"})
    assert (whole.read, whole.version.version) == (2, 3)
    clinic.put("c.csv", "id", "3")
    clinic.put("a.csv", "id", "4")
    clinic.sync()
    assert clinic.ids() == [4, 2, 3]


def test_rows_in_are_rows_out_and_quarantined(clinic: Clinic) -> None:
    rule = {"rules": [*between("days", 0, 31)["rules"], {"rule": "unique", "columns": ["id"]}]}
    clinic.put("a.csv", "id,days", "1,2", "2,99", "3,4")
    first = clinic.collect(contract=rule)
    assert (first.read, first.version.rows, first.quarantined) == (3, 2, 1)
    clinic.put("b.csv", "id,days", "3,5", "4,5", "5,-1", "6,1", "6,2")
    second = clinic.sync()
    assert second.read == 5 == second.version.rows - first.version.rows + second.quarantined
    assert clinic.ids() == [1, 3, 4, 6], "what is there stays; what clashes with it is held back"
    assert {row["id"] for row in clinic.held()} == {3, 5, 6}
    assert sum(second.version.broken.values()) == 3, "of what came; what was there is not judged again"
    assert second.version.contract == first.version.contract


def test_a_reading_of_which_nothing_fits_is_a_version_of_held_rows(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect(contract=between("days", 0, 31))
    for number, name in enumerate("bc", 2):
        clinic.put(f"{name}.csv", "id,days", f"{number},99")
        found = clinic.sync()
        assert (found.new, found.version.version, found.quarantined) == (True, number, 1)
        assert [row["id"] for row in clinic.held()] == [number]
    assert clinic.ids() == [1]


def test_a_first_reading_of_which_nothing_fits_is_refused(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,99")
    with pytest.raises(Invalid, match=r"No row of .* can be taken") as caught:
        clinic.collect(contract=between("days", 0, 31))
    assert caught.value.code == "all-quarantined"
    assert clinic.session.datasets.list() == []
    assert clinic.session.sources.list() == ()


def test_files_without_rows_among_others_are_told(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.put("b.csv", "id")
    found = clinic.collect()
    assert found.version.facts["told"] == "b.csv has no rows"
    clinic.put("c.csv", "id")
    assert not clinic.sync().new
    assert not clinic.sync().new
    clinic.put("d.csv", "id", "2")
    clinic.sync()
    assert clinic.ids() == [1, 2]


# Schema changes


def test_what_widens_is_taken(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days,day,empty,code", "1,2,2026-01-01,,A1")
    clinic.collect()
    clinic.put("b.csv", "id,days,day,empty,code,ward", "2,2.5,2026-01-02T10:00,5,77,north")
    found = clinic.sync()
    assert clinic.rows().to_dict(as_series=False) == {
        "id": [1, 2],
        "days": [2.0, 2.5],
        "day": [at("2026-01-01"), at("2026-01-02T10:00")],
        "empty": [None, 5],
        "code": ["A1", "77"],
        "ward": [None, "north"],
    }
    assert found.changes == (
        "column 'days' holds numbers now, and held integers",
        "column 'day' holds times now, and held days",
        "column 'ward' is new",
    )
    assert "'ward' is new" in found.version.facts["told"]
    clinic.put("c.csv", "code,ward,id,day,days,empty", "8,s,3,2026-01-03,4,")
    clinic.sync()
    assert clinic.rows().row(2) == (3, 4.0, at("2026-01-03"), None, "8", "s")


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("id,days", "2,many", r"b\.csv has changed: column 'days' holds text where integers were"),
        ("id", "2", r"b\.csv has changed: column 'days' is not there any more"),
        ("id,days", "2,true", r"column 'days' holds yes or no where integers were"),
        ("id,days", "2,2026-01-01", r"column 'days' holds days where integers were"),
    ],
)
def test_what_breaks_is_refused_by_name_and_nothing_is_lost(clinic: Clinic, header: str, row: str, said: str) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect()
    clinic.put("b.csv", header, row)
    with pytest.raises(Invalid, match=said) as caught:
        clinic.sync()
    assert caught.value.code == "schema-change"
    assert len(clinic.session.datasets.log("visits")) == 1
    clinic.put("b.csv", "id,days", "2,3")
    clinic.sync()
    assert clinic.ids() == [1, 2]


def test_what_breaks_is_held_back_where_that_is_the_policy(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect(on_change="quarantine")
    clinic.put("b.csv", "id,days", "2,many", "3,4", "4,")
    clinic.put("c.csv", "id", "5", "6")
    found = clinic.sync()
    assert (found.read, found.quarantined) == (5, 3)
    assert clinic.rows().rows() == [(1, 2), (3, 4), (4, None)]
    held = clinic.held()
    assert [(row["_rule"], row["_reason"]) for row in held] == [
        ("columns", "column 'days' holds text where integers were"),
        *[("columns", "column 'days' is not there any more")] * 2,
    ]
    assert held[0]["_content"] == '{"id":2,"days":"many"}'
    assert found.version.broken == {"columns": 3}
    with pytest.raises(Invalid, match="do not fit its columns") as caught:
        clinic.session.datasets.release("visits", "latest", "all of them")
    assert caught.value.code == "not-a-row"
    assert clinic.session.datasets.drop("visits", "latest", "typing errors").rows == 3


def test_any_change_is_refused_where_that_is_the_policy(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect(on_change="refuse")
    clinic.put("b.csv", "id,days", "2,2.5")
    with pytest.raises(Invalid, match="'days' holds numbers now"):
        clinic.sync()
    clinic.put("b.csv", "id,days,ward", "2,2,n")
    with pytest.raises(Invalid, match="'ward' is new"):
        clinic.sync()
    clinic.collect(on_change="widen")
    assert clinic.ids() == [1, 2]


def test_a_whole_table_that_lost_a_column_is_refused(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.session.sources.collect("visits", [{"address": str(clinic.folder / "a.csv")}])
    clinic.put("a.csv", "id", "1")
    with pytest.raises(Invalid, match=r"a\.csv has changed: column 'days' is not there any more"):
        clinic.sync()


def test_a_contract_says_what_a_column_is(clinic: Clinic) -> None:
    rule = {"rules": [{"rule": "of_type", "column": "days", "type": "integer"}]}
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect(contract=rule)
    clinic.put("b.csv", "id,days", "2,many", "3,4")
    found = clinic.sync()
    assert found.quarantined == 1
    assert clinic.rows().rows() == [(1, 2), (3, 4)]
    assert clinic.held()[0]["days"] == "many"


# Several sources


def several(clinic: Clinic, *names: str, **given: Any) -> Collected:
    sources = [{"address": str(clinic.folder / name)} for name in names]
    return clinic.session.sources.collect("visits", sources, **given)


def test_sources_go_one_behind_the_other(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2")
    clinic.put("b.csv", "id,days,ward", "2,3,n")
    found = several(clinic, "a.csv", "b.csv")
    assert clinic.rows().rows() == [(1, 2, None), (2, 3, "n")]
    assert len(found.version.inputs) == 1
    assert found.version.inputs[0].startswith("source:b.csv@")
    clinic.put("b.csv", "id,days,ward", "2,4,n")
    clinic.sync()
    assert clinic.rows().rows() == [(1, 2, None), (2, 4, "n")]


def test_another_contract_is_asked_of_a_file_that_is_as_it_was(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2", "2,99")
    rules = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}
    assert several(clinic, "a.csv", contract=rules).quarantined == 1
    assert several(clinic, "a.csv", contract=rules).new is False
    wider = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 99}]}
    found = several(clinic, "a.csv", contract=wider)
    assert (found.new, found.version.version, found.version.rows, found.quarantined) == (True, 2, 2, 0)
    assert clinic.sync().new is False


def test_another_contract_of_a_folder_waits_for_rows_and_says_so(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days", "1,2", "2,99")
    clinic.collect()
    rules = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}
    with pytest.raises(Invalid, match="Nothing came for visits that the other contract could be asked of") as caught:
        clinic.collect(contract=rules)
    assert caught.value.code == "contract-unasked"
    clinic.put("b.csv", "id,days", "3,3", "4,98")
    found = clinic.collect(contract=rules)
    assert (found.version.rows, found.quarantined) == (3, 1)


def test_what_gives_each_message_once_stands_beside_nothing_that_is_read_whole(clinic: Clinic) -> None:
    clinic.put("wards.csv", "ward", "1")
    sources = [{"address": "mqtt://127.0.0.1:9/ward/#"}, {"address": str(clinic.folder / "wards.csv")}]
    for given in ({"join": ("ward",)}, {}):
        with pytest.raises(Invalid, match=r"mqtt://127\.0\.0\.1:9/ward/# gives each message once") as caught:
            clinic.session.sources.collect("wards", sources, **given)
        assert caught.value.hint == "Collect it into a dataset of its own."
    assert clinic.session.datasets.list() == []


def test_sources_are_joined_and_what_does_not_agree_is_counted(clinic: Clinic) -> None:
    clinic.put("visits.csv", "id,patient,age", "1,10,30", "2,11,41", "3,12,", "4,,50", "5,10,31")
    clinic.put("patients.csv", "patient,age,sex", "10,30,f", "11,40,m", "12,52,f", "13,9,m", ",1,m")
    found = several(clinic, "visits.csv", "patients.csv", join=("patient",))
    assert clinic.rows().rows() == [
        (1, 10, 30, "f"),
        (2, 11, 41, "m"),
        (3, 12, 52, "f"),
        (4, None, 50, None),
        (5, 10, 31, "f"),
        (None, 13, 9, "m"),
        (None, None, 1, "m"),
    ]
    assert found.version.facts["joined 2"] == (
        "patients.csv by patient: 4 rows matched, 2 are in it alone, 1 not in it; it disagreed about age in 2: "
        "what came first was taken"
    )
    clinic.put("patients.csv", "patient,age,sex", "10,30,m")
    assert clinic.sync().version.version == 2
    assert clinic.rows()["sex"].to_list() == ["m", None, None, None, "m"]


@pytest.mark.parametrize(
    ("first", "second", "code", "said"),
    [
        (("id,x", "1,1", "1,2"), ("id,y", "1,1", "1,2"), "key-clash", "1 values of id stand more than once both"),
        (("id,x", "1,1"), ("id,y", "a,1"), "join-types", "Column 'id' of b.csv is String"),
        (("id,x", "1,1"), ("idd,y", "1,1"), "no-column", "b.csv has no column 'id'"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    clinic: Clinic, first: tuple[str, ...], second: tuple[str, ...], code: str, said: str
) -> None:
    clinic.put("a.csv", *first)
    clinic.put("b.csv", *second)
    with pytest.raises(Invalid, match=said) as caught:
        several(clinic, "a.csv", "b.csv", join=("id",))
    assert caught.value.code == code
    assert clinic.session.datasets.list() == []


# Who, and what is told


def test_only_the_own_user_of_the_machine_names_a_source(clinic: Clinic, either: Platform) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    owner = either.session()
    owner.access.add_principal("ann")
    owner.access.grant("ann", "data_scientist")
    ann = either.session(either.authenticate(owner.access.create_token(principal="ann").secret))
    for address in ("/etc/passwd", "http://169.254.169.254/latest/meta-data", str(clinic.folder)):
        with pytest.raises(Refused, match="may not name a source") as caught:
            ann.sources.collect("visits", [{"address": address}])
        assert caught.value.code == "forbidden"
    clinic.put("b.csv", "id", "2")
    assert ann.sources.sync("visits").version.rows == 2
    owner.access.add_principal("eve")
    owner.access.grant("eve", "viewer")
    eve = either.session(either.authenticate(owner.access.create_token(principal="eve").secret))
    assert eve.sources.show("visits").sources[0].address == str(clinic.folder)
    with pytest.raises(Refused):
        eve.sources.sync("visits")


@pytest.mark.parametrize(
    ("address", "options", "what"),
    [
        ("postgresql://ann:hunter2@127.0.0.1/x", {}, "password of 127.0.0.1"),
        ("https://api.example/x?api_key=hunter2", {}, "api_key"),
        ("https://api.example/x?a=1&access_token=hunter2", {}, "access_token"),
        ("https://api.example/x", {"bearer": "hunter2"}, "bearer"),
        ("s3://bucket/x", {"secret_access_key": "hunter2"}, "secret_access_key"),
    ],
)
def test_a_secret_that_is_written_out_is_refused(
    clinic: Clinic, address: str, options: dict[str, str], what: str
) -> None:
    with pytest.raises(Invalid, match=what) as caught:
        clinic.session.sources.collect("visits", [{"address": address, "options": options}])
    assert caught.value.code == "secret-literal"
    assert "hunter2" not in str(caught.value.to_dict())


def test_secrets_come_from_the_environment_and_are_told_nowhere(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter+2@x"
    with pytest.raises(Invalid, match="no CLINIC_PW"):
        clinic.session.sources.collect("visits", [{"address": "gopher://ann:${CLINIC_PW}@127.0.0.1/x"}])
    monkeypatch.setenv("CLINIC_PW", secret)
    with pytest.raises(LooplineError) as caught:
        clinic.session.sources.collect("visits", [{"address": str(clinic.folder / "no ${CLINIC_PW}")}])
    assert "hunter" not in str(caught.value.to_dict())
    assert "${CLINIC_PW}" in str(caught.value)


def test_what_is_collected_is_shown(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    (shown,) = clinic.session.sources.list()
    assert shown == clinic.session.sources.show("visits")
    assert (shown.name, shown.ref) == ("visits", "data:visits@1")
    assert list((shown.sources[0].position or {})["files"]) == ["a.csv"]
    with pytest.raises(NotFound, match="No source of 'visist'") as caught:
        clinic.session.sources.sync("visist")
    assert "Did you mean 'visits'" in caught.value.hint


# Versions that others make


def test_the_list_asks_the_database_the_same_however_many_datasets_there_are(clinic: Clinic) -> None:
    asked: list[str] = []

    def listed() -> tuple[int, int]:
        asked.clear()
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
        try:
            return len(clinic.session.sources.list()), len(asked)
        finally:
            sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "dataset_" in statement:
            asked.append(statement)

    for number in range(4):
        clinic.put("a.csv", "id", f"{number}")
        for name in ("one", "two", "three")[: 1 if number == 0 else 3]:
            clinic.session.sources.collect(name, [{"address": str(clinic.folder / "a.csv")}])
        if number == 0:
            first = listed()
    clinic.session.sources.schedule("two", every="1h")
    clinic.session.datasets.withdraw("three", "3", "a mistake")
    assert (first, listed()) == ((1, 2), (3, 2))
    found = {one.name: one for one in clinic.session.sources.list()}
    assert list(found) == ["one", "three", "two"]
    assert {name: one.ref for name, one in found.items()} == {
        "one": "data:one@4", "two": "data:two@3", "three": "data:three@2",
    }  # fmt: skip
    assert all(one == clinic.session.sources.show(name) for name, one in found.items())
    assert [name for name, one in found.items() if one.schedule] == ["two"]


def test_a_withdrawn_version_is_read_again(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    clinic.sync()
    clinic.session.datasets.withdraw("visits", "2", "the sensor was broken")
    with pytest.raises(Refused, match=r"those of data:visits@2 again, which is withdrawn \(the sensor was broken\)"):
        clinic.sync()  # nobody says that it was a mistake: the source gives still what it gave
    assert clinic.ids() == [1]
    clinic.put("b.csv", "id", "7")
    found = clinic.sync()
    assert found.version.version == 3
    assert clinic.ids() == [1, 7]


def test_rows_go_behind_what_was_restored_or_added_by_hand(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    clinic.sync()
    clinic.session.datasets.restore("visits", "1")
    clinic.put("c.csv", "id", "3")
    clinic.sync()
    assert clinic.ids() == [1, 3]
    clinic.session.datasets.add("visits", Body(b"id\n5\n", name="x.csv"))
    clinic.put("d.csv", "id", "4")
    clinic.sync()
    assert clinic.ids() == [5, 4]


def test_of_two_readings_at_once_one_is_kept_and_the_other_told(
    clinic: Clinic, either: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    both = threading.Barrier(2, timeout=60)
    from loopline.data import collecting

    really = collecting.read

    def together(*given: Any, **more: Any) -> Any:
        found = really(*given, **more)
        both.wait()
        return found

    monkeypatch.setattr("loopline.data.sources.read", together)
    outcomes: list[object] = []

    def sync() -> None:
        try:
            outcomes.append(either.session().sources.sync("visits").version.version)
        except LooplineError as e:
            outcomes.append(e.code)

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["2", "dataset-moved"]
    monkeypatch.undo()
    assert clinic.ids() == [1, 2]
    assert not clinic.sync().new


def test_a_version_that_somebody_adds_meanwhile_is_not_covered_up(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    from loopline.data import collecting

    really = collecting.read

    def meanwhile(*given: Any, **more: Any) -> Any:
        found = really(*given, **more)
        clinic.session.datasets.add("visits", Body(b"id\n5\n", name="x.csv"))
        return found

    monkeypatch.setattr("loopline.data.sources.read", meanwhile)
    with pytest.raises(Conflict, match="Another call"):
        clinic.sync()
    monkeypatch.undo()
    clinic.sync()
    assert clinic.ids() == [5, 2]


def test_a_full_disk_makes_no_version_and_moves_no_position(clinic: Clinic) -> None:
    clinic.put("a.csv", "id", "1")
    clinic.collect()
    clinic.put("b.csv", "id", "2")
    failpoints.arm("data.versions.append=ENOSPC")
    with pytest.raises(LooplineError, match="no space left"):
        clinic.sync()
    failpoints.arm("")
    assert clinic.sync().version.version == 2
    assert clinic.ids() == [1, 2]


def test_two_who_add_at_once_both_make_a_version(either: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopline.data import versions

    both, really = threading.Barrier(2, timeout=60), versions.write

    def together(*given: Any) -> Any:
        found = really(*given)
        both.wait()
        return found

    monkeypatch.setattr("loopline.data.versions.write", together)
    made: list[int] = []

    def add(number: int) -> None:
        content = f"id\n{number}\n".encode()
        made.append(either.session().datasets.add("visits", Body(content, name="x.csv")).version)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [1, 2]


def test_columns_that_differ_in_case_alone_are_refused(clinic: Clinic) -> None:
    clinic.put("a.csv", "id,days,Days", "1,2,3")
    with pytest.raises(Invalid, match="'days' and 'Days' differ in their case alone") as caught:
        clinic.collect()
    assert caught.value.code == "table-names"
    clinic.put("a.csv", "id,days", "1,2")
    clinic.collect()
    clinic.put("b.csv", "id,days,ID", "2,2,2")
    with pytest.raises(Invalid, match="'id' and 'ID' differ"):
        clinic.sync()
    with pytest.raises(Invalid, match="'id' and 'ID' differ"):
        clinic.session.inbox.post("visits", Body(b"ID,id,days\n1,2,3\n", media="text/csv"))
    assert clinic.session.inbox.waiting("visits").posts == 0
    assert clinic.ids() == [1]
