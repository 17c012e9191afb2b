"""Runs as event files: read back they are what was logged, as far as 32 bits hold it; a file is whole or not there."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from loopline.adapters.tensorboard.writing import write
from loopline.app import Platform
from loopline.errors import Unavailable
from loopline.failpoints import arm
from loopline.foreign import run_source, write_events
from loopline.ports.foreign_runs import ForeignPoint, ForeignRun
from loopline.tracking.records import Point

VALUES = [0.5, 0.1, -0.0, math.nan, math.inf, -math.inf, 1e300, -1e300, 3.4028234663852886e38, 1e-50]


def narrow(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    points = [ForeignPoint("loss", n - 3, 1_700_000_000_123 + n, value) for n, value in enumerate(VALUES)]
    write(tmp_path / "run", 1_700_000_000_000, points)
    (found,) = run_source("tensorboard", str(tmp_path)).runs()
    assert isinstance(found, ForeignRun)
    assert found.left_out == ()
    back = list(found.points())
    assert [(p.key, p.step, p.time) for p in back] == [(p.key, p.step, p.time) for p in points]
    assert [repr(p.value) for p in back] == [repr(narrow(value)) for value in VALUES]


def test_a_run_goes_out_and_comes_in(platform: Platform, tmp_path: Path) -> None:
    runs = platform.session().runs
    run = runs.create("a run: 'one'/.x")
    runs.log(run.id, [Point(key="train/loss", value=n / 4, step=n, time=1_700_000_000_000 + n) for n in range(50)])
    for _ in range(2):
        write_events(tmp_path / "logs", run, runs.history(run.id, "train/loss"))
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name == f"a run_ _one__.x-{run.id[-6:]}"
    assert len(list(folder.iterdir())) == 1, "the same run again takes its place"
    (found,) = run_source("tensorboard", str(tmp_path / "logs")).runs()
    assert isinstance(found, ForeignRun)
    assert [(p.step, p.value) for p in found.points()] == [(n, n / 4) for n in range(50)]


@pytest.mark.parametrize("place", ["tensorboard.write.before_sync", "tensorboard.write.before_rename"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, place: str) -> None:
    arm(f"{place}=ENOSPC")
    try:
        with pytest.raises(Unavailable):
            write(tmp_path / "run", 0, [ForeignPoint("a", 0, 0, 1.0)])
    finally:
        arm("")
    assert list((tmp_path / "run").iterdir()) == []
