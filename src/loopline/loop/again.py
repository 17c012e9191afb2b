"""Runs of a loop on its own file, and again on what was served since, at the request of an alert or a person."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from pyarrow.parquet import read_metadata

from loopline.data.readers import check_file
from loopline.data.records import LIVE
from loopline.errors import Conflict, LooplineError
from loopline.failpoints import failpoint
from loopline.loop import files
from loopline.loop.declaration import Loop
from loopline.loop.house import House
from loopline.loop.lease import alone
from loopline.loop.live import base_version, training_file
from loopline.loop.run import Result, run_loop
from loopline.pipeline.engine import Watcher


def first(
    house: House,
    name: str,
    workspace: Path,
    *,
    data: str | None = None,
    facts: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Runs a loop on the rows that its file names, or on `data`. Its declaration is put on record first."""
    path, loop = _read(house, name)
    rows = Path(data) if data is not None else path.parent / loop.data.path
    check_file(rows, str(rows))
    house.loops.declare(loop.name, str(path), loop.describe())
    with _turn(workspace, loop.name):
        return run_loop(loop, house, rows, scratch=workspace / "scratch", facts=facts, watcher=watcher)


def answer(house: House, request: str, workspace: Path, *, watcher: Watcher | None = None) -> Result:
    """Runs a loop on its base rows and all that was served and labelled since; the request is settled by what it comes to.

    The rows are written to a file first, so that a run which was cut off goes on with the same ones.
    """
    with alone(workspace / "runs" / f"{request}.lock"):  # a controller that was killed may have left one behind
        return _answer(house, request, workspace, watcher)


def _answer(house: House, request: str, workspace: Path, watcher: Watcher | None) -> Result:
    asked = next((r for r in house.loops.requests(limit=1000) if r.id == request), None)
    if asked is None or asked.status not in ("asked", "running"):
        raise Conflict(
            f"The request {request} is {asked.status if asked else 'not there'}.",
            code="request-ended",
            hint="`loopline status` shows what runs.",
        )
    try:
        _, loop = _read(house, asked.loop)
        base = base_version(house, loop.name)
        rows = rows_of(house, loop, request, workspace)
        if not read_metadata(rows).num_rows:
            raise Conflict(
                f"No row that {loop.name} answered has a label yet, so there is nothing new to learn from.",
                code="nothing-new",
                hint=f"`loopline labels add {loop.name} FILE` brings labels.",
            )
        with _turn(workspace, loop.name):
            result = run_loop(
                loop,
                house,
                rows,
                scratch=workspace / "scratch",
                reason=asked.reason,
                onto=base,
                facts={**{k: v for k, v in base.facts.items() if k != "format"}, LIVE: "served rows with their labels"},
                watcher=watcher,
            )
    except LooplineError as e:
        house.loops.settle(request, "failed", str(e)[:1000])
        raise
    house.loops.settle(request, result.outcome, result.reason[:1000])
    return result


def _turn(workspace: Path, name: str) -> contextlib.AbstractContextManager[None]:
    """One run of a loop at a time: one from the command line may stand beside the controller's."""
    return alone(workspace / "runs" / f"{name}.lock")


def rows_of(house: House, loop: Loop, request: str, workspace: Path) -> Path:
    """The file of the rows that a request is answered on, written when it is first asked for."""
    path = workspace / "runs" / f"{request}.parquet"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        training_file(house, loop.name, loop.data.label, aside)
        failpoint("loop.again.before_rename")
        aside.replace(path)
    return path


def _read(house: House, name: str) -> tuple[Path, Loop]:
    """The loop's file and what it declares: NAME.py here, else where it was when it was last run."""
    here = Path.cwd() / (name if name.endswith(".py") else f"{name}.py")
    if here.is_file():
        return here, files.read(here, None if name.endswith(".py") else name)
    known = {loop.name: loop for loop in house.loops.list()}
    path = Path(known[name].path) if name in known else here
    return path, files.read(path, name if name in known else None)
