"""A journal and its sender, killed anywhere: what was logged before is on the server once, after a sync."""

from __future__ import annotations

import os
import time
from pathlib import Path


def _log(folder: Path, line: str) -> None:
    with (folder / "logged").open("a") as file:
        file.write(line + "\n")


def work(folder: Path) -> None:
    """Logs two runs, with a file, into small segments; sends in the midst and at the end."""
    from loopline.app import Platform
    from loopline.client.sender import Sender, sync
    from loopline.tracking.ids import ulid
    from loopline.tracking.journal import Journal

    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    (folder / "file").write_bytes(b"content")
    _sync(folder, sync)
    journal = Journal.open(folder / "journals", quota=64_000)
    sender = Sender(journal, lambda: Platform.open(workspace=folder / "workspace").session())
    for _ in range(2):
        run = ulid(time.time_ns() // 1_000_000)
        journal.record("run", run, name="fit", created=1)
        for step in range(90):
            journal.point(run, "loss", 0.5, step, 1)
            _log(folder, f"{run} {step}")
        digest, size = journal.keep_file(folder / "file")
        journal.record("artifact", run, path="file", digest=digest, size=size)
        _log(folder, f"{run} file")
        assert sender.flush()
    sender.stop()


def check(folder: Path, finished: bool) -> None:
    """After a sync: nothing is left, every point and file that a call had returned for is there, each point once."""
    from loopline.app import Platform
    from loopline.client.sender import sync

    if not (folder / "logged").exists():
        return
    os.environ["LOOPLINE_CHECKPOINTS"] = str(folder / "copies")
    _sync(folder, sync)
    logged = [line.split() for line in (folder / "logged").read_text().splitlines()]
    platform = Platform.open(workspace=folder / "workspace")
    runs = platform.session().runs
    for run in sorted({run for run, _ in logged}):
        steps = [point.step for point in runs.history(run, "loss")]
        returned = sum(name == run and what != "file" for name, what in logged)
        assert steps == list(range(len(steps)))
        assert returned <= len(steps) <= returned + 1, (run, returned, len(steps))
        if [run, "file"] in logged:
            assert runs.artifact(run, "file").read() == b"content"
    if finished:
        assert len(logged) >= 182
    platform.close()


def _sync(folder: Path, sync: object) -> None:
    from loopline.app import Platform

    platform = Platform.open(workspace=folder / "workspace")
    for report in sync(folder / "journals", lambda _: platform.session()):  # type: ignore[operator]
        assert report.state == "sent", report
        assert report.lost == (), report
        assert report.damages == (), report
    platform.close()
    assert not (folder / "journals").exists() or list((folder / "journals").iterdir()) == []


SCENARIOS = {"journal": (work, check)}
ROOMS = {"journal": ("tracking",)}
