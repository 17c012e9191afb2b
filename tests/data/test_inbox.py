"""Rows posted to a dataset: kept at once, taken together, each once; what breaks the contract quarantined, nothing lost."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline import failpoints
from loopline.app import Platform
from loopline.data import inbox
from loopline.data.records import Posted
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.operations import Body

from .conftest import Place

RULES = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}


def csv(*days: Any, first: int = 1000) -> Body:
    text = "id,days,back\n" + "".join(f"{first + n},{value},true\n" for n, value in enumerate(days))
    return Body(text.encode(), media="text/csv")


def post(place: Place, body: Body) -> Posted:
    return place.session.inbox.post("visits", body)


@pytest.fixture
def filled(place: Place) -> Place:
    """A dataset with a contract, whose newest version is older than a minute."""
    place.add(contract=RULES)
    place.clock.forward(milliseconds=inbox.MILLISECONDS)
    return place


def test_what_is_posted_now_and_then_is_in_a_version_at_once(filled: Place) -> None:
    posted = post(filled, csv(3, 99, 5))
    assert posted.taken is not None
    assert (posted.taken.version, posted.rows, posted.waiting) == ("data:visits@2", 3, 0)
    assert (posted.taken.rows, posted.taken.quarantined) == (3, 1)
    assert posted.taken.broken == {"days.between(0, 31)": 1}
    version = filled.session.datasets.show("visits")
    assert (version.rows, version.quarantined) == (202, 1)
    assert version.source.startswith("source:posts-to-visits@")
    assert filled.rows()["id"].to_list()[-3:] == [199, 1000, 1002]
    assert filled.session.datasets.quarantine("visits").shown[0]["id"] == 1001


def test_many_small_posts_are_taken_together(filled: Place) -> None:
    assert post(filled, csv(1)).taken is not None
    for n in range(5):
        posted = post(filled, csv(2, 99, first=2000 + 2 * n))
        assert (posted.taken, posted.waiting) == (None, 2 * (n + 1))
    waiting = filled.session.inbox.waiting("visits")
    assert (waiting.posts, waiting.rows, waiting.since) == (5, 10, filled.clock.now())
    assert filled.session.datasets.show("visits").version == 2
    filled.clock.forward(milliseconds=inbox.MILLISECONDS)
    posted = post(filled, csv(3, first=3000))
    assert posted.taken is not None
    assert (posted.taken.posts, posted.taken.rows, posted.taken.quarantined) == (6, 11, 5)
    assert filled.session.inbox.waiting("visits").posts == 0
    assert filled.rows()["id"].to_list()[200:] == [1000, 2000, 2002, 2004, 2006, 2008, 3000]  # as they came


def test_ten_thousand_rows_do_not_wait(filled: Place) -> None:
    post(filled, csv(1))
    half = csv(*[n % 31 for n in range(inbox.MOST_ROWS // 2)])
    assert post(filled, half).taken is None
    taken = post(filled, half).taken
    assert taken is not None
    assert taken.rows == inbox.MOST_ROWS


def test_what_waits_is_taken_on_demand_and_by_the_servers_upkeep(filled: Place) -> None:
    post(filled, csv(1))
    post(filled, csv(2))
    taken = filled.session.inbox.take("visits")
    assert taken is not None
    assert (taken.version, taken.posts) == ("data:visits@3", 1)
    assert filled.session.inbox.take("visits") is None
    post(filled, csv(3))
    filled.platform.upkeep()
    assert filled.session.datasets.show("visits").version == 4
    assert filled.session.inbox.waiting("visits").posts == 0
    assert filled.session.ledger.verify().ok


@pytest.mark.parametrize("form", ["csv", "ndjson", "json", "parquet", "avro", "ipc", "csv.gz"])
@pytest.mark.parametrize("said", [True, False])
def test_each_form_with_its_type_and_without(filled: Place, form: str, said: bool) -> None:
    frame = pl.DataFrame({"id": [5000], "days": [3], "back": [True]})
    out = io.BytesIO()
    getattr(frame, f"write_{form.removesuffix('.gz')}")(out)
    media = {
        "csv": "text/csv", "ndjson": "application/x-ndjson", "json": "application/json", "csv.gz": "text/csv",
        "parquet": "application/vnd.apache.parquet", "avro": "avro/binary", "ipc": "application/vnd.apache.arrow.file",
    }[form]  # fmt: skip
    content = gzip.compress(out.getvalue()) if form == "csv.gz" else out.getvalue()
    coded = "gzip" if form == "csv.gz" and said else ""
    assert post(filled, Body(content, media=media if said else "", encoding=coded)).taken is not None
    assert filled.rows().row(-1) == (5000, 3, True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (Body(b"id,days,back\n1,2,true\n", media="application/json"), "json-broken"),
        (Body(b'[{"id": 1, "days": 2, "back": true}]', media="avro/binary"), "bad-media-type"),
        (Body(b'{"id": 1, "days": 2, "back": true}\n', media="text/csv"), "table-empty"),
        (Body(b"\x89PNG", media="image/png"), "bad-media-type"),
        (Body(b"a=b", media="application/x-www-form-urlencoded"), "bad-media-type"),
        (Body(b"id,days,back\n1,2,true\n", encoding="gzip"), "bad-encoding"),
        (Body(b"id,days,back\n1,2,true\n", encoding="br"), "bad-encoding"),
        (Body(b"id,days,back\n1,2\n"), "ragged-lines"),
        (Body(b"id,days,back\n"), "table-empty"),
        (Body(b"id,back\n1,true\n"), "schema-change"),
        (Body(b"id,days,back\n1,soon,true\n"), "schema-change"),
        (Body(b""), "table-empty"),
    ],
)
def test_what_is_no_row_of_the_dataset_is_refused_and_nothing_kept(filled: Place, body: Body, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        post(filled, body)
    assert (caught.value.code, bool(caught.value.hint)) == (code, True)
    assert filled.session.inbox.waiting("visits").posts == 0
    assert filled.session.datasets.show("visits").version == 1


def test_a_row_that_does_not_fit_is_held_back_and_the_others_taken(filled: Place) -> None:
    taken = post(filled, csv(1, "soon", 3)).taken
    assert taken is not None
    assert (taken.rows, taken.quarantined) == (3, 1)
    assert filled.rows()["days"].to_list()[-2:] == [1, 3]


def test_texts_stay_as_they_are_spelled(place: Place) -> None:
    place.add(place.visits(code=pl.lit("a1")))
    place.clock.forward(milliseconds=inbox.MILLISECONDS)
    post(place, Body(b"id,days,back,code\n1,2,true,1.50\n2,2,false,007\n"))
    assert place.rows()["code"].to_list()[-2:] == ["1.50", "007"]


def test_rows_go_only_where_they_may(filled: Place) -> None:
    with pytest.raises(NotFound, match="loopline data add"):
        filled.session.inbox.post("nowhere", csv(1))
    filled.session.datasets.split("visits", "back")
    with pytest.raises(Refused, match="sealed"):
        filled.session.inbox.post("visits.test", csv(1))
    filled.session.datasets.withdraw("visits", "1", "wrong")
    with pytest.raises(NotFound):
        filled.session.inbox.post("visits", csv(1))


def test_the_contract_holds_on_behind_rows_that_came_without_it(filled: Place) -> None:
    post(filled, csv(1, 99))
    filled.session.datasets.release("visits", "2", "it was so")  # a version that was checked against nothing
    filled.clock.forward(milliseconds=inbox.MILLISECONDS)
    taken = post(filled, csv(2, 98)).taken
    assert taken is not None
    assert taken.quarantined == 1
    assert 99 in filled.rows()["days"]


def test_what_cannot_be_taken_for_all_waits_and_is_told(place: Place) -> None:
    rules = {"rules": [{"rule": "rows", "at_most": 201}]}
    place.add(contract=rules)
    place.clock.forward(milliseconds=inbox.MILLISECONDS)
    posted = post(place, csv(1, 2))
    assert (posted.taken, posted.waiting) == (None, 2)
    assert "rows" in posted.problem
    place.platform.upkeep()  # goes on with all else
    assert place.session.inbox.waiting("visits").rows == 2


def test_under_a_key_rows_are_taken_once_and_another_body_is_a_conflict(filled: Place, tmp_path: Path) -> None:
    def send(content: bytes) -> Any:
        file = tmp_path / "spooled"
        file.write_bytes(content)
        from loopline.hashing import digest_bytes

        body = Body(file, media="text/csv", spooled=digest_bytes(content))
        return filled.platform.call(
            "inbox.post", {"name": "visits"}, principal=filled.platform.owner, project="default", body=body,
            idempotency_key="flowfile-1",
        )  # fmt: skip

    content = b"id,days,back\n7000,2,true\n"
    first = send(content)
    assert send(content) == first
    assert filled.rows()["id"].to_list().count(7000) == 1
    with pytest.raises(Conflict) as caught:
        send(content + b"7001,2,true\n")
    assert caught.value.code == "key-reused"


def test_many_senders_at_once_lose_nothing_and_double_nothing(database_url: str, tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "c"), database=database_url)
    datasets = platform.session().datasets
    datasets.add("visits", Body(b"id,days,back\n0,1,true\n", name="visits.csv"))
    refused: list[LooplineError] = []

    def work(sender: int) -> None:
        session = platform.session()
        for n in range(6):
            try:
                session.inbox.post("visits", csv(1, 2, first=10_000 * (sender + 1) + 2 * n))
                if n % 3 == 2:
                    session.inbox.take("visits")
            except LooplineError as e:
                refused.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {e.code for e in refused} <= {"inbox-busy", "dataset-moved", "database-busy"}
    while platform.session().inbox.take("visits") is not None:
        pass
    ids = pl.read_ipc_stream(io.BytesIO(datasets.read("visits").read()))["id"].to_list()
    assert len(ids) == len(set(ids))
    sent = {10_000 * (s + 1) + n for s in range(4) for n in range(12)}
    assert set(ids) - {0} == sent  # takes were refused at most: what was posted was kept
    assert platform.session().ledger.verify().ok
    platform.close()


def test_one_key_sent_by_many_at_once_is_one_post(database_url: str, tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "c"), database=database_url)
    platform.session().datasets.add("visits", Body(b"id,days,back\n0,1,true\n", name="visits.csv"))
    said: list[str] = []

    def send() -> None:
        named: dict[str, Any] = {"principal": platform.owner, "project": "default", "idempotency_key": "one"}
        try:
            platform.call("inbox.post", {"name": "visits"}, body=csv(1, 2), **named)
            said.append("kept")
        except LooplineError as e:
            said.append(e.code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "kept" in said
    assert set(said) <= {"kept", "key-in-use"}
    assert platform.session().inbox.waiting("visits").posts == 1
    platform.close()


def test_a_full_disk_is_told_and_nothing_is_half_kept(filled: Place) -> None:
    post(filled, csv(1))
    failpoints.arm("store.put.write=ENOSPC")
    with pytest.raises(LooplineError) as caught:
        post(filled, csv(2))
    assert caught.value.code == "disk-full"
    failpoints.arm("")
    assert filled.session.inbox.waiting("visits").posts == 0
    assert post(filled, csv(2)).waiting == 1


def test_posts_that_wait_outlive_a_sweep(filled: Place) -> None:
    post(filled, csv(1))
    posted = post(filled, csv(2, first=9000))
    path = filled.platform.blobs.path(posted.digest)
    assert path is not None
    os.utime(path, (1, 1))
    filled.clock.forward(seconds=3 * 24 * 3600)
    filled.session.store.sweep()
    taken = filled.session.inbox.take("visits")
    assert taken is not None
    assert 9000 in filled.rows()["id"]
    filled.clock.forward(seconds=3 * 24 * 3600)
    os.utime(path, (1, 1))
    filled.session.store.sweep()
    assert not filled.platform.blobs.exists(posted.digest)
