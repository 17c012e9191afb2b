"""Versions restored, tagged and taken out of quarantine, killed anywhere: each is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

RULES: dict[str, Any] = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}


STEPS: tuple[dict[str, Any], ...] = ({"step": "deduplicate", "columns": ["days"]}, {"step": "clip", "columns": ["days"]})


def opened(folder: Path) -> Any:
    from loopline.app import Platform

    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))


def work(folder: Path) -> None:
    """Two versions, of which the first one is restored, and its held row taken after all; what no version needs goes."""
    import polars as pl

    from loopline.data import versions
    from loopline.operations import Body

    platform = opened(folder)
    datasets = platform.session().datasets
    known = {d.name: d.versions for d in datasets.list()}.get("visits", 0)
    for number, days in ((1, (3, 99, 5)), (2, (3, 4, 5))):
        if known < number:
            rows = "\n".join(["id,days", *(f"{n},{value}" for n, value in enumerate(days))])
            datasets.add("visits", Body(rows.encode(), name="visits.csv"), contract=RULES if number == 1 else None)
    if known < 3:
        table = folder / "workspace" / "tables" / "default" / "visits"
        for rows in (7, 8):  # never named
            versions.write(table, pl.DataFrame({"id": range(rows)}))
        datasets.restore("visits", "1")
    if datasets.quarantine("visits", "1").held:
        datasets.release("visits", "1", "it was meant so")
    datasets.clean("visits", STEPS, version="1")
    datasets.tag("visits", "1", "published")
    for file in (folder / "workspace" / "tables" / "default" / "visits").glob("*.parquet"):
        os.utime(file, (1, 1))  # long ago: what kills have left is nobody's
    datasets.vacuum()
    platform.close()


def check(folder: Path, finished: bool) -> None:
    """Versions are whole and in order, rows in are rows out and quarantined, and the ledger verifies."""
    import io

    import polars as pl

    from loopline.hashing import digest_table

    platform = opened(folder)
    session = platform.session()
    try:
        logs = {dataset.name: session.datasets.log(dataset.name) for dataset in session.datasets.list()}
        for name, versions in logs.items():
            assert [v.version for v in versions] == list(range(len(versions), 0, -1))
            for version in versions:
                frame = pl.read_ipc_stream(io.BytesIO(session.datasets.read(name, str(version.version)).read()))
                assert digest_table(frame.to_arrow()) == version.digest
                assert frame.height == version.rows
        log = logs.get("visits", ())
        if "visits.clean" in logs:
            assert session.datasets.cleaning("visits.clean").report.kept == 2
        if log:
            held = session.datasets.quarantine("visits", "1")
            assert held.rows == held.held + held.released + held.dropped == 1
            # A release is decided in the transaction that names the version its rows are in.
            assert held.released == sum(version.message.startswith("1 quarantined") for version in log)
        if finished:
            assert [v.rows for v in log] == [3, 2, 3, 2]
            assert session.datasets.show("visits", "published").version == 1
            assert [v.rows for v in logs["visits.clean"]] == [2]
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS = {"versions": (work, check)}
ROOMS = {"versions": ("data",)}
