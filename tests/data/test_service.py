"""Datasets in a real workspace: versions, quarantine, the sealed side, two writers, a full disk, a kill."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.data import versions
from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.hashing import digest_file, digest_table
from loopline.operations import Body
from loopline.quality.blocks import Blocks
from loopline.quality.profile import Profile


def visits(rows: int = 200, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": range(rows), "days": [n % 14 + 1 for n in range(rows)], "back": [n % 3 == 0 for n in range(rows)]}
    ).with_columns(**columns)


def body(frame: pl.DataFrame, name: str = "visits.parquet") -> Body:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return Body(buffer.getvalue(), name=name)


def rows_of(session: Session, name: str, version: int | str = "latest") -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(session.datasets.read(name, str(version)).read()))


# Versions


def test_a_file_becomes_a_version_in_its_order(session: Session, tmp_path: Path) -> None:
    frame = visits().sample(fraction=1, shuffle=True, seed=1)
    frame.write_csv(tmp_path / "my visits.csv")
    made = session.datasets.add("visits", Body(tmp_path / "my visits.csv"))
    assert (made.ref, made.rows, made.quarantined) == ("data:visits@1", 200, 0)
    assert made.source == "source:my-visits.csv@" + digest_file(tmp_path / "my visits.csv").partition(":")[2]
    assert made.facts["format"] == "csv"
    assert rows_of(session, "visits").equals(frame)


def test_what_reading_a_file_had_to_say_is_a_fact_of_the_version(session: Session) -> None:
    odd = Body(b"on,x\n13/01/2026,1\n02/01/2026,2\n", name="odd.csv")
    assert (
        session.datasets.add("odd", odd).facts["told"].startswith("column 'on' stays text: it holds dates written as")
    )
    long = session.datasets.add("long", Body(b"n\n2\n123456789012345678901234567890\n", name="long.csv"))
    assert long.facts["told"] == "column 'n' stays text: it holds numbers of 19 digits or more (1, the first in row 2)"
    many = "\n".join(",".join(line) for line in ([f"c{n}" for n in range(9)], ["1.5.2026"] * 9))
    told = session.datasets.add("many", Body(many.encode(), name="many.csv")).facts["told"]
    assert (told.count("stays text"), told.endswith("; and 4 more")) == (5, True)
    assert "told" not in session.datasets.add("plain", Body(b"x\n1\n", name="plain.csv")).facts


def test_the_order_is_kept_over_many_chunks(session: Session) -> None:
    parts = [visits(50).with_columns(pl.col("id") + 50 * n) for n in (3, 1, 2, 0)]
    frame = pl.concat(parts, rechunk=False)
    session.datasets.add("visits", body(frame))
    assert rows_of(session, "visits")["id"].to_list() == frame["id"].to_list()


def test_the_same_content_is_the_same_version(session: Session, platform: Platform) -> None:
    first = session.datasets.add("visits", body(visits()))
    assert session.datasets.add("visits", body(visits())).ref == first.ref
    assert session.datasets.add("visits", body(visits(201))).version == 2
    assert [v.version for v in session.datasets.log("visits")] == [2, 1]
    assert session.datasets.list()[0].versions == 2


def test_the_same_rows_under_another_contract_are_another_version(
    session: Session, contract: Callable[..., dict[str, Any]]
) -> None:
    import loopline as ll

    session.datasets.add("visits", body(visits()))
    made = session.datasets.add("visits", body(visits()), contract=contract(ll.unique("id")))
    assert (made.version, made.contract != "") == (2, True)


def test_an_old_version_stays_as_it_was(session: Session) -> None:
    first = session.datasets.add("visits", body(visits()))
    before = session.datasets.read("visits", "1").read()
    session.datasets.add("visits", body(visits(50, days=pl.lit("many"), extra=pl.lit(1.5))))
    assert session.datasets.read("visits", "1").read() == before
    old = rows_of(session, "visits", 1)
    assert (
        digest_table(versions.storable(old).to_arrow()) == first.digest == session.datasets.show("visits", "1").digest
    )
    assert rows_of(session, "visits")["days"].to_list() == ["many"] * 50


def test_column_names_as_people_write_them(session: Session) -> None:
    names = [
        "Größe (cm)",
        "has space",
        "comma,semi;",
        "a=b",
        "dot.ted",
        "`tick`",
        "日本",
        "UPPER",
        "tab\there",
        "quote\"'",
    ]
    frame = pl.DataFrame({name: [n, n + 1] for n, name in enumerate(names)})
    session.datasets.add("odd", body(frame))
    assert rows_of(session, "odd").equals(frame)
    assert [c.name for c in session.datasets.show("odd").columns] == names


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 30).flatmap(
        lambda n: st.fixed_dictionaries(
            {
                "int": st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n),
                "float": st.lists(st.none() | st.floats(), min_size=n, max_size=n),
                "text": st.lists(st.none() | st.text(max_size=8), min_size=n, max_size=n),
                "flag": st.lists(st.none() | st.booleans(), min_size=n, max_size=n),
            }
        )
    )
)
def test_what_is_written_is_read_back(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    schema = {"int": pl.Int64, "float": pl.Float64, "text": pl.String, "flag": pl.Boolean}
    frame = pl.DataFrame(columns, schema=schema)
    written: list[pl.DataFrame] = []
    saved = versions.save(tmp_path / "table", Blocks.of(frame), written=written.append)
    again = versions.read(tmp_path / "table", versions.write(tmp_path / "table", saved))
    assert again.equals(frame)
    assert pl.concat(written).equals(frame)
    assert digest_table(versions.arrow(frame)) == digest_table(again.to_arrow())


def test_unsigned_category_and_time_columns_find_a_type(session: Session) -> None:
    frame = pl.DataFrame(
        {
            "small": pl.Series([1, 255], dtype=pl.UInt8),
            "ward": pl.Series(["a", None], dtype=pl.Categorical),
            "nothing": pl.Series([None, None], dtype=pl.Null),
            "day": pl.Series(["2024-01-01", None]).str.to_date(),
            "at": pl.Series(["2024-01-01 10:00", None]).str.to_datetime("%Y-%m-%d %H:%M", time_unit="ns"),
        }
    )
    session.datasets.add("types", body(frame))
    found = rows_of(session, "types")
    assert found["small"].to_list() == [1, 255]
    assert found["ward"].to_list() == ["a", None]
    assert found["day"].dtype == pl.Date
    assert found["at"].dtype == pl.Datetime("us")


def test_what_is_not_there_is_said(session: Session) -> None:
    session.datasets.add("visits", body(visits()))
    with pytest.raises(NotFound) as caught:
        session.datasets.show("visit")
    assert "visits" in caught.value.hint
    with pytest.raises(NotFound, match="no version 9"):
        session.datasets.read("visits", "9")
    with pytest.raises(NotFound, match="no version or tag 'newest'"):
        session.datasets.show("visits", "newest")


def test_another_projects_dataset_is_not_found(platform: Platform, session: Session) -> None:
    session.datasets.add("visits", body(visits()))
    session.projects.create("other")
    with pytest.raises(NotFound):
        platform.session(project="other").datasets.read("visits")


# Contract and quarantine


def test_rows_in_are_rows_out_and_quarantined(session: Session, contract: Callable[..., dict[str, Any]]) -> None:
    import loopline as ll

    frame = visits(days=pl.when(pl.col("id") < 7).then(99).otherwise(pl.col("days")))
    frame = pl.concat([frame, frame.tail(3)])  # three ids come twice
    rules = contract(ll.unique("id"), ll.column("days").between(1, 14))
    made = session.datasets.add("visits", body(frame), contract=rules)
    assert made.rows + made.quarantined == frame.height
    held = session.datasets.quarantine("visits", limit=1000)
    assert held.rows == made.quarantined == len(held.shown)
    assert sum(1 for row in held.shown if "between" in row["_rule"]) == 7
    assert {"_rule", "_reason"} <= set(held.shown[0])
    kept = rows_of(session, "visits")
    assert kept["id"].n_unique() == kept.height
    assert sorted([*kept["id"].to_list(), *(row["id"] for row in held.shown)]) == sorted(frame["id"].to_list())


def test_a_rule_that_stops_writes_nothing(
    session: Session, contract: Callable[..., dict[str, Any]], platform: Platform
) -> None:
    import loopline as ll

    frame = visits(days=pl.when(pl.col("id") < 7).then(99).otherwise(pl.col("days")))
    rules = contract(ll.column("days").between(1, 14))
    for rule in rules["rules"]:
        rule["severity"] = "stop"
    with pytest.raises(LooplineError, match="days"):
        session.datasets.add("visits", body(frame), contract=rules)
    assert session.datasets.list() == []
    assert not (platform.settings.workspace / "tables" / "default" / "visits").exists()


def test_where_no_row_keeps_the_contract_nothing_is_written(
    session: Session, contract: Callable[..., dict[str, Any]]
) -> None:
    import loopline as ll

    with pytest.raises(Invalid, match="No row") as caught:
        session.datasets.add("visits", body(visits()), contract=contract(ll.column("days").between(100, 101)))
    assert caught.value.code == "all-quarantined"
    assert session.datasets.list() == []


def test_uploads_leave_nothing_behind(session: Session, platform: Platform) -> None:
    session.datasets.add("visits", body(visits()))
    with pytest.raises(Invalid):
        session.datasets.add("visits", Body(b"", name="empty.csv"))
    assert list((platform.settings.workspace / "scratch").iterdir()) == []


# The sealed side


@pytest.fixture
def split(session: Session) -> Session:
    session.datasets.add("visits", body(visits(400)))
    session.datasets.split("visits", "back", time="id")
    return session


def test_a_split_seals_its_test_side(split: Session) -> None:
    shown = {side: split.datasets.show(f"visits.{side}") for side in ("train", "validation", "test")}
    assert {side: v.sealed for side, v in shown.items()} == {"train": False, "validation": False, "test": True}
    assert sum(v.rows for v in shown.values()) == 400
    assert all(v.inputs == ("data:visits@1",) for v in shown.values())
    train, validation = (rows_of(split, f"visits.{side}")["id"] for side in ("train", "validation"))
    assert train.max() < validation.min()  # type: ignore[operator]


@pytest.mark.parametrize("verb", ["read", "profile", "split"])
def test_nothing_but_an_evaluation_reads_the_sealed_side(split: Session, verb: str) -> None:
    with pytest.raises(Refused) as caught:
        getattr(split.datasets, verb)("visits.test", **({"label": "back"} if verb == "split" else {}))
    assert caught.value.code == "sealed"
    assert split.datasets.show("visits.test").looks == 0


def test_a_full_profile_is_made_of_the_rows_that_can_be_read(split: Session) -> None:
    plain, full = (
        Profile.from_json(split.datasets.profile("visits", "1", full=full, label="back" if full else None).read())
        for full in (False, True)
    )
    sealed = split.datasets.show("visits.test").rows
    assert (plain.full, plain.rows - sealed, plain.label) == (None, full.rows, None)
    assert full.full is not None
    assert (full.full.rows, full.label) == (full.rows, "back")
    page = split.datasets.profile("visits", "1", form="html", full=True).read().decode()
    assert "What goes together" in page
    with pytest.raises(NotFound, match="Did you mean 'back'"):
        split.datasets.profile("visits", "1", label="bakc")


def test_the_same_split_again_keeps_the_seal_and_its_looks(split: Session, platform: Platform) -> None:
    from loopline.data.service import DatasetsService

    with platform.database.begin(principal="os:tester") as tx:
        workspace = platform.settings.workspace
        datasets = DatasetsService(tx, platform.blobs, workspace / "tables", workspace / "scratch")
        frame, look = datasets.look("data:visits.test@1")
        assert (frame.height, look) == (60, 1)
        assert datasets.count("data:visits.test@1", look, "a test")
        assert not datasets.count("data:visits.test@1", look, "another with the same number")
    again = split.datasets.split("visits", "back", time="id")
    assert again.test == "data:visits.test@1"
    assert split.datasets.show("visits.test").looks == 1


@pytest.mark.parametrize("role", ["viewer", "data_scientist", "sender", "operator", "approver", "admin", "auditor"])
def test_over_the_api_no_role_reads_the_sealed_side(split: Session, platform: Platform, role: str) -> None:
    import http.client

    from loopline.api.server import ApiServer

    split.access.add_principal("someone")
    if role == "auditor":
        split.access.appoint("someone", "auditor")
    else:
        split.access.grant("someone", role)  # type: ignore[arg-type]
    token = split.access.create_token(principal="someone").secret
    with ApiServer(platform) as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
        for what in ("rows", "profile"):
            connection.request(
                "GET",
                f"/api/v1/projects/default/datasets/visits.test/versions/1/{what}",
                headers={"Authorization": f"Bearer {token}"},
            )
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 403, said
        connection.close()
    reads = "read_personal" if role in ("data_scientist", "operator") else ""
    assert (b"sealed" in said) or not reads


def counted(platform: Platform, ref: str) -> int:
    """Looks at a window, and gives which look it was."""
    from loopline.data.service import DatasetsService

    with platform.database.begin(principal="os:tester") as tx:
        workspace = platform.settings.workspace
        datasets = DatasetsService(tx, platform.blobs, workspace / "tables", workspace / "scratch")
        _, look = datasets.look(ref)
        assert datasets.count(ref, look, "a test")
        return look


def test_sealed_rows_are_read_through_no_other_version(split: Session) -> None:
    """Neither through the version that was split, nor through a later one that holds the same rows."""
    test = set(range(400)) - set(rows_of(split, "visits.train")["id"]) - set(rows_of(split, "visits.validation")["id"])
    assert len(test) == 60
    assert set(rows_of(split, "visits")["id"]) == set(range(400)) - test
    split.datasets.add("visits", body(visits(500)))
    assert set(rows_of(split, "visits", "2")["id"]) == set(range(500)) - test


def test_a_split_that_opens_a_window_says_so_and_ends_it_as_evidence(split: Session, platform: Platform) -> None:
    counted(platform, "data:visits.test@1")
    again = split.datasets.split("visits", "back", time="id", fractions=(0.98, 0.01, 0.01))
    opened = split.datasets.show("visits.test", "1")
    assert opened.opened == again.train
    with pytest.raises(Refused) as refused:
        counted(platform, "data:visits.test@1")
    assert refused.value.code == "window-opened"
    assert again.train in str(refused.value)
    assert again.test == "data:visits.test@2"
    assert counted(platform, again.test) == 2, "its rows were looked at in the first window"
    assert split.datasets.show("visits.test", "2").opened == ""


@pytest.mark.parametrize("by", [{"time": "id"}, {"group": "who"}, {}])
def test_a_new_version_s_window_is_of_rows_that_nobody_looked_at(
    session: Session, platform: Platform, by: dict[str, str]
) -> None:
    frame = visits(1000).with_columns((pl.col("id") // 4).alias("who"))
    session.datasets.add("visits", body(frame.head(500)))
    first = session.datasets.split("visits", "back", **by)
    with platform.database.begin(principal="os:tester") as tx:
        workspace = platform.settings.workspace
        from loopline.data.service import DatasetsService

        datasets = DatasetsService(tx, platform.blobs, workspace / "tables", workspace / "scratch")
        seen = set(datasets.look(first.test)[0]["id"])
    assert counted(platform, first.test) == 1
    session.datasets.add("visits", body(frame.slice(500, 100)), onto="1")
    assert session.datasets.show("visits").inputs == ("data:visits@1",)
    second = session.datasets.split("visits", "back", **by)
    with platform.database.begin(principal="os:tester") as tx:
        datasets = DatasetsService(tx, platform.blobs, workspace / "tables", workspace / "scratch")
        new = set(datasets.look(second.test)[0]["id"])
    assert new
    assert not new & seen
    assert counted(platform, second.test) == 1
    assert session.datasets.show("visits.test", "1").opened in (second.train, "")
    assert seen <= set(rows_of(session, "visits.train")["id"]) | set(rows_of(session, "visits.validation")["id"])


def test_too_few_new_rows_make_no_window_and_the_old_ones_bring_their_looks(
    session: Session, platform: Platform
) -> None:
    session.datasets.add("visits", body(visits(400)))
    assert counted(platform, session.datasets.split("visits", "back", time="id").test) == 1
    session.datasets.add("visits", body(visits(405)))
    second = session.datasets.split("visits", "back", time="id")
    assert session.datasets.show("visits.test", "2").rows == 61
    assert counted(platform, second.test) == 2


def test_rows_go_behind_a_version_only_if_they_are_alike(session: Session) -> None:
    session.datasets.add("visits", body(visits(50)))
    with pytest.raises(Invalid, match="'back'") as refused:
        session.datasets.add("visits", body(visits(60).drop("back")), onto="1")
    assert refused.value.code == "no-column"
    with pytest.raises(Invalid) as refused:
        session.datasets.add("visits", body(visits(60).with_columns(pl.lit("x").alias("id"))), onto="1")
    assert refused.value.code == "other-types"
    assert len(session.datasets.log("visits")) == 1


# Two writers, a full disk, a kill


def test_two_writers_at_once_each_get_their_own_rows(platform: Platform) -> None:
    made: dict[int, Any] = {}
    failed: list[BaseException] = []

    def add(n: int) -> None:
        try:
            made[n] = platform.session().datasets.add("visits", body(visits(50 + n), f"v{n}.parquet"))
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(v.version for v in made.values()) == [1, 2, 3, 4, 5, 6]
    session = platform.session()
    for n, version in made.items():
        rows = rows_of(session, "visits", version.version)
        assert rows.height == version.rows == 50 + n
        assert digest_table(rows.to_arrow()) == version.digest


def test_the_same_from_two_writers_is_one_version(platform: Platform) -> None:
    made: list[Any] = []
    threads = [
        threading.Thread(target=lambda: made.append(platform.session().datasets.add("visits", body(visits()))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.ref for v in made] == ["data:visits@1"] * 4


def test_a_full_disk_leaves_no_version(session: Session) -> None:
    failpoints.arm("data.versions.write=ENOSPC")
    with pytest.raises(Unavailable) as caught:
        session.datasets.add("visits", body(visits()))
    assert caught.value.code == "disk-full"
    assert session.datasets.list() == []
    failpoints.arm("")
    assert session.datasets.add("visits", body(visits())).ref == "data:visits@1"
    assert session.ledger.verify().ok


PROGRAM = """
import sys
from loopline.app import Platform
from loopline.operations import Body
from loopline.quality.profile import Profile
platform = Platform.open(workspace=sys.argv[1], checkpoints=sys.argv[1] + ".copies")
session = platform.session()
session.datasets.add("visits", Body(sys.argv[2]))
session.datasets.split("visits", "back", time="id")
platform.close()
"""


@pytest.mark.parametrize(
    "place",
    ["data.versions.write", "data.versions.written@3", "database.tx.after_commit", "database.tx.before_commit@2"],
)
def test_a_killed_ingest_shows_no_half_version(place: str, tmp_path: Path) -> None:
    visits(400).write_parquet(tmp_path / "visits.parquet")
    Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies")).close()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "w"), str(tmp_path / "visits.parquet")]
    name, _, hit = place.partition("@")
    killed = {**os.environ, "LOOPLINE_FAILPOINTS": f"{name}=kill@{hit or 1}"}
    assert subprocess.run(command, env=killed, check=False).returncode == -signal.SIGKILL

    def look(finished: bool) -> None:
        platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "w.copies"))
        try:
            session = platform.session()
            shown = {d.name: session.datasets.log(d.name) for d in session.datasets.list()}
            assert all(len(log) == 1 for log in shown.values())
            assert len(shown) in ((4,) if finished else (0, 1, 4))  # the sides of a split appear together
            sealed = sum(log[0].rows for log in shown.values() if log[0].sealed)
            for name, (version,) in shown.items():
                if name == "visits" and sealed:
                    assert rows_of(session, name).height == version.rows - sealed
                elif not version.sealed:
                    assert digest_table(rows_of(session, name).to_arrow()) == version.digest
            assert session.ledger.verify().ok
        finally:
            platform.close()

    look(finished=False)
    subprocess.run(command, check=True)
    look(finished=True)


def test_what_a_version_was_made_from_is_printed_whole(session: Session, platform: Platform) -> None:
    platform.session().projects.create("other")
    there = platform.session(project="other")
    body = b"a,b\n1,2\n"
    assert there.datasets.add("t", Body(body, name="t.csv"), inputs=["data:u@1"]).inputs == ("data:other/u@1",)
    for bad in ("u", "u@1", "file:///etc/passwd", "data:../u", ""):
        with pytest.raises(Invalid) as refused:
            session.datasets.add("t", Body(body, name="t.csv"), inputs=[bad])
        assert refused.value.code in ("bad-ref", "bad-name")
    assert session.datasets.list() == []


@pytest.mark.parametrize("folder", ["my work", "100%", "é#?"])
def test_a_workspace_lies_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    platform = Platform.open(workspace=place / "w", checkpoints=str(place / "copies"))
    session = platform.session()
    session.datasets.add("visits", Body(b"a,b\n1,2\n3,4\n", name="x.csv"))
    assert pl.read_ipc_stream(io.BytesIO(session.datasets.read("visits").read())).rows() == [(1, 2), (3, 4)]
    platform.close()


def test_a_table_is_added_without_what_only_tests_of_distributions_need() -> None:
    code = "import sys, loopline.data.service; print({'scipy', 'pandas', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
