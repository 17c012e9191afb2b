"""Versions restored, tagged and taken out of quarantine, killed anywhere: each is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

RULES: dict[str, Any] = {"rules": [{"rule": "between", "column": "days", "low": 0, "high": 31}]}


STEPS: tuple[dict[str, Any], ...] = (
    {"step": "deduplicate", "columns": ["days"]},
    {"step": "clip", "columns": ["days"]},
)


def opened(folder: Path, days: int = 0) -> Any:
    """The platform, so many days from now."""
    import time

    from loopline.app import Platform
    from loopline.testing.clock import FakeClock

    clock = FakeClock(time.time_ns() // 1_000_000 + days * 86_400_000) if days else None
    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=clock)


def work(folder: Path) -> None:
    """Two versions, of which the first one is restored, and its held row taken after all; what no version needs, and one that
    nobody needs, goes."""
    import polars as pl

    from loopline.data import versions
    from loopline.operations import Body
    from loopline.quality.blocks import Blocks

    platform = opened(folder)
    datasets = platform.session().datasets
    known = {d.name: d.versions for d in datasets.list()}.get("visits", 0)
    for number, days in ((1, (3, 99, 5)), (2, (3, 4, 5))):
        if known < number:
            rows = "\n".join(["id,days", *(f"{n},{value}" for n, value in enumerate(days))])
            if number == 2:  # times without a zone, which the Delta table was not made for
                rows = "\n".join(
                    f"{line},{at}"
                    for line, at in zip(rows.split("\n"), ("at", *["2026-03-01T10:00:00"] * 3), strict=True)
                )
            datasets.add("visits", Body(rows.encode(), name="visits.csv"), contract=RULES if number == 1 else None)
    if known < 3:
        table = folder / "workspace" / "tables" / "default" / "visits"
        for rows in (7, 8):  # never named
            versions.write(table, versions.save(table, Blocks.of(pl.DataFrame({"id": range(rows)}))))
        datasets.restore("visits", "1")
    if datasets.quarantine("visits", "1").held:
        datasets.release("visits", "1", "it was meant so")
    datasets.clean("visits", STEPS, version="1")
    datasets.tag("visits", "1", "published")
    for number in range(
        1 + {d.name: d.versions for d in datasets.list()}.get("codes", 0), 4
    ):  # the third is the first again
        datasets.add("codes", Body(f"code\n{number % 2}\n".encode(), name="codes.csv"))
    if datasets.show("codes", "1").purged is None:
        datasets.purge(versions=("data:codes@1",))
    platform.close()
    for file in (folder / "workspace" / "tables" / "default").glob("*/*.parquet"):
        os.utime(file, (1, 1))  # long ago: what kills have left is nobody's
    platform = opened(folder, days=2)
    platform.session().datasets.vacuum()
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
                if version.purged is not None:  # whole on record; its rows are nobody's
                    assert (name, version.version) == ("codes", 1)
                    continue
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
            assert held.released == sum(version.message.startswith("taken after all") for version in log)
        if finished:
            assert [v.rows for v in log] == [3, 2, 3, 2]
            assert session.datasets.show("visits", "published").version == 1
            assert [v.rows for v in logs["visits.clean"]] == [2]
            assert [v.purged is None for v in logs["codes"]] == [True, True, False]
            assert len([*(folder / "workspace" / "tables" / "default" / "codes").glob("*.parquet")]) == 2
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS = {"versions": (work, check)}
ROOMS = {"versions": ("data",)}


class Slow:
    """A source that keeps what it gave until it is told that it is in a version for good, as a broker does."""

    name = "slow://clinic"
    grows = once = True

    def __init__(self, folder: Path) -> None:
        self.log, self.told = folder / "slow.json", folder / "told.json"

    def read(self, after: Any) -> Any:
        import polars as pl

        from loopline.ports.source import Piece, Refusal

        start = (after or {}).get("next", 0)
        assert start >= self._forgotten(), "what was told to be done was not"
        for first in range(start, 6, 2):
            bad = (Refusal(f"{first}", "a poison message", b"\xff"),) if first == 2 else ()
            rows = pl.DataFrame({"id": [first, first + 1][: 2 - len(bad)]}).to_arrow()
            yield Piece(name=f"{first}", position={"next": first + 2}, rows=rows, refused=bad)

    def done(self, position: Any) -> None:
        self.told.write_text(str(max(self._forgotten(), position["next"])))

    def close(self) -> None:
        pass

    def _forgotten(self) -> int:
        return int(self.told.read_text()) if self.told.exists() else 0


def collected(folder: Path) -> Any:
    from loopline.data.service import DatasetsService
    from loopline.data.sources import SourcesService

    def open_source(address: str, options: Any, scratch: Path, *, kept: Path) -> Any:
        from loopline.foreign import row_source

        return Slow(folder) if address == Slow.name else row_source(address, options, scratch, kept=kept)

    platform = opened(folder)
    original = platform._service

    def service(group: str, tx: Any) -> Any:
        made = original(group, tx)
        if isinstance(made, SourcesService):
            assert isinstance(made.datasets, DatasetsService)
            return SourcesService(tx, made.datasets, open_source, folder / "kept")
        return made

    platform._service = service
    return platform


def collect(folder: Path) -> None:
    """A folder and a broker, collected, and collected again when more has come."""
    clinic = folder / "clinic"
    clinic.mkdir(exist_ok=True)

    def put(number: int) -> None:
        if not (file := clinic / f"{number}.csv").exists():
            file.write_text(f"id,days\n{2 * number},1\n{2 * number + 1},{99 if number == 1 else 2}\n")

    for number in range(3):
        put(number)
    platform = collected(folder)
    sources = platform.session().sources
    sources.collect("slow", [{"address": Slow.name}])
    sources.collect("visits", [{"address": f"{clinic}/[01].csv"}], contract=RULES)
    wider = [{"address": str(clinic)}]
    sources.collect("all", wider)
    put(3)
    sources.sync("all")
    sources.sync("slow")
    sources.schedule("slow", every="1h")
    sources.turn("slow", "it does not answer")
    platform.close()


def check_collected(folder: Path, finished: bool) -> None:
    """Each row is in the newest version once, or nowhere yet; a position and its version are there together."""
    import io

    import polars as pl

    platform = collected(folder)
    session = platform.session()
    try:
        versions = {d.name: session.datasets.log(d.name) for d in session.datasets.list()}
        collections = {c.name: c for c in session.sources.list()}
        assert set(versions) == set(collections)
        for name, log in versions.items():
            newest = log[0]
            ids = pl.read_ipc_stream(io.BytesIO(session.datasets.read(name).read()))["id"].to_list()
            assert len(set(ids)) == len(ids) == newest.rows
            position = collections[name].sources[0].position or {}
            took = position["next"] if "next" in position else 2 * len(position["files"])
            assert sum(v.quarantined for v in log) + len(ids) == took
        if finished:
            assert {name: log[0].rows for name, log in versions.items()} == {"slow": 5, "visits": 3, "all": 8}
            assert (folder / "told.json").read_text() == "6"
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS["collect"] = (collect, check_collected)
ROOMS["collect"] = ("data",)


POSTS = 4


def posting(folder: Path) -> None:
    """Four posts under keys: taken at once, waiting, taken together; each sent again until it is answered."""
    from loopline.app import Platform
    from loopline.data.inbox import MILLISECONDS
    from loopline.operations import Body
    from loopline.testing.clock import FakeClock

    clock = FakeClock(1_772_323_200_000)
    platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=clock)
    session = platform.session()
    if not session.datasets.list():
        session.datasets.add("visits", Body(b"id\n-1\n", name="visits.csv"))
    for number in range(POSTS):
        if number in (0, 3):
            clock.forward(milliseconds=MILLISECONDS)
        body = Body(f"id\n{number}\n".encode(), media="text/csv")
        named: dict[str, Any] = {"principal": platform.owner, "project": "default", "idempotency_key": f"file-{number}"}
        platform.call("inbox.post", {"name": "visits"}, body=body, **named)
        if number == 1:
            session.inbox.take("visits")
    session.inbox.take("visits")
    platform.close()


def check_posting(folder: Path, finished: bool) -> None:
    """Each row that was posted is in the newest version or waits, never both and never twice; in the end all are in it."""
    import io

    import polars as pl

    platform = opened(folder)
    session = platform.session()
    try:
        if session.datasets.list():
            found = pl.read_ipc_stream(io.BytesIO(session.datasets.read("visits").read()))["id"].to_list()
            waiting = session.inbox.waiting("visits")
            assert len(found) == len(set(found))
            assert set(found) <= {*range(-1, POSTS)}
            assert len(found) + waiting.rows <= POSTS + 1
            if finished:
                assert (sorted(found), waiting.rows) == ([*range(-1, POSTS)], 0)
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS["inbox"] = (posting, check_posting)
ROOMS["inbox"] = ("data",)


def filed(folder: Path) -> None:
    """Two versions of a folder, checked out one over the other; then from a store that is not at hand."""
    from loopline.data.files.adding import add
    from loopline.data.files.checkout import checkout
    from loopline.data.files.dvc import export_dvc

    platform = opened(folder)
    files, states = platform.session().files, folder / "workspace" / "folders"
    source = folder / "in"
    for name, data in FILED.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "b.txt").unlink(missing_ok=True)
    if not (source / "link").is_symlink():
        (source / "link").symlink_to("a.txt")
    add(files, "images", source, states=states)
    checkout(files, "images", "1", folder / "out", states=states)
    (source / "b.txt").write_bytes(b"b")
    (source / "a.txt").write_bytes(b"another")
    add(files, "images", source, states=states)
    checkout(files, "images", "latest", folder / "out", states=states)
    checkout(Far(files), "images", "latest", folder / "far", states=states)  # type: ignore[arg-type]
    (source / "link").unlink()
    add(files, "plain", source, states=states)
    export_dvc(files, "plain", "latest", folder / "plain.dvc", folder / "remote")
    platform.close()


FILED = {"a.txt": b"a", "b.txt": b"b", "deep/large": bytes(range(256)) * 6000}


class Far:
    """The verbs of files of a platform on another machine."""

    def __init__(self, files: Any) -> None:
        self.files = files
        self.objects = files.objects

    def open(self, name: str, version: str) -> Any:
        import msgspec

        return msgspec.structs.replace(self.files.open(name, version), store="/nowhere")


def check_filed(folder: Path, finished: bool) -> None:
    """A version has all its objects; a file that has its name in a folder is whole."""
    platform = opened(folder)
    session = platform.session()
    try:
        known = {name: {data} for name, data in FILED.items()}
        known["a.txt"].add(b"another")
        for name in ("out", "far"):
            place = folder / name
            for file in place.rglob("*"):
                path = str(file.relative_to(place))
                if file.is_file() and not file.is_symlink() and ".writing-" not in path:
                    assert file.read_bytes() in known[path]
            if finished:
                kept = {p: (folder / "in" / p).read_bytes() for p in FILED}
                assert {p: (place / p).read_bytes() for p in FILED} == kept
                assert (place / "link").is_symlink()
                assert not list(place.rglob(".writing-*"))
        for object_file in (folder / "remote").rglob("*"):
            if object_file.is_file() and not object_file.name.startswith(".writing-"):
                md5 = (object_file.parent.name + object_file.name).removesuffix(".dir")
                assert hashlib.md5(object_file.read_bytes()).hexdigest() == md5
        for dataset in session.datasets.list():
            for version in session.datasets.log(dataset.name):
                for file in session.files.open(dataset.name, str(version.version)).manifest.files:
                    kept_bytes = b"".join(platform.blobs.read(part.digest) for part in file.objects)
                    assert kept_bytes in known[file.path]
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS["files"] = (filed, check_filed)
ROOMS["files"] = ("data", "store")
