"""Tables that lie elsewhere become datasets, and each row of them is in a version once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Conflict
from loopline.testing.objects import Objects


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform.session()
    platform.close()


def ids(session: Session, name: str) -> list[int]:
    content = session.datasets.read(name).read()
    return sorted(pl.read_ipc_stream(io.BytesIO(content))["id"].to_list())


def collect(session: Session, name: str, address: str, **options: str) -> Any:
    return session.sources.collect(name, ({"address": address, "options": options},))  # type: ignore[arg-type]


def test_a_bucket_is_collected_and_synced_without_a_secret_on_record(
    session: Session, object_store: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_KEY", object_store.access_key_id)
    monkeypatch.setenv("CLINIC_SECRET", object_store.secret_access_key)
    bucket = object_store.bucket("collected")
    bucket.put("visits/monday.csv", b"id,days\n1,3\n2,4\n")
    options = {"access_key_id": "${CLINIC_KEY}", "secret_access_key": "${CLINIC_SECRET}"}
    there = {"endpoint": object_store.endpoint, "region": object_store.region}
    first = collect(session, "visits", "s3://collected/visits/", **options, **there)
    assert (first.version.version, first.read) == (1, 2)
    assert not session.sources.sync("visits").new
    bucket.put("visits/a-later-one.csv", b"id,days\n3,5\n")
    assert session.sources.sync("visits").read == 1
    assert ids(session, "visits") == [1, 2, 3]
    kept = b"".join(file.read_bytes() for file in (tmp_path / "workspace").rglob("*") if file.is_file())
    assert object_store.secret_access_key.encode() not in kept


def test_a_delta_table_of_others_is_collected_by_what_is_appended(session: Session, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    write_deltalake(table, pl.DataFrame({"id": [1, 2]}).to_arrow())
    collect(session, "visits", table)
    write_deltalake(table, pl.DataFrame({"id": [3]}).to_arrow(), mode="append")
    assert session.sources.sync("visits").read == 1
    assert ids(session, "visits") == [1, 2, 3]
    DeltaTable(table).delete("id = 1")
    with pytest.raises(Conflict, match="changed or removed rows"):
        session.sources.sync("visits")
    assert ids(session, "visits") == [1, 2, 3]
    assert collect(session, "visits", table, whole="true").version.rows == 2
    assert ids(session, "visits") == [2, 3]
