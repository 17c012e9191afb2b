"""Runs as event files, for TensorBoard: a folder a run, its metrics as scalars.

A scalar has 32 bits there: of a value that needs more the nearest is written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from loopline.adapters.tensorboard.messages import Event
from loopline.adapters.tensorboard.records import frame
from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, disk_errors, removed_on_error, sync_folder
from loopline.ports.foreign_runs import ForeignPoint

_VERSION = "brain.Event:2"
_LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def write(folder: Path, created: int, points: Iterable[ForeignPoint]) -> Path:
    """Writes the event file of a run into its folder, in place of the one that was written of it before; gives its path.

    `created` and the times of points are in milliseconds since 1970 UTC. It is whole or not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{created // 1000:010d}.loopline"
    aside = path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
    with disk_errors(path), removed_on_error(aside):
        with aside.open("xb") as file:
            file.write(frame(Event(wall_time=created / 1000, file_version=_VERSION).SerializeToString()))
            for point in points:
                event = Event(wall_time=point.time / 1000, step=point.step)
                event.summary.value.add(tag=point.key, simple_value=_narrow(point.value))
                file.write(frame(event.SerializeToString()))
            file.flush()
            failpoint("tensorboard.write.before_sync")
            os.fsync(file.fileno())
        failpoint("tensorboard.write.before_rename")
        os.replace(aside, path)
        sync_folder(folder)
    return path


def _narrow(value: float) -> float:
    """The value, where 32 bits can hold its size; else the infinity of its sign."""
    if abs(value) <= _LARGEST or value != value:
        return value
    return float("inf") if value > 0 else float("-inf")
