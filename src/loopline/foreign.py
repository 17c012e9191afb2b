"""Runs of other systems: the adapter of each behind its port. With `app.py` the only file that names adapters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from loopline.ports.foreign_runs import ForeignPoint, RunSource
from loopline.tracking.records import Point, Run

ForeignSystem = Literal["mlflow", "tensorboard", "modeldb"]
"""Systems whose runs can be imported."""


def run_source(system: ForeignSystem, place: str) -> RunSource:
    """Where runs of another system are: a folder, a file or a URL. Raises `Invalid` and `NotFound` where there are none."""
    match system:
        case "mlflow":
            if "://" in place:
                from loopline.adapters.mlflow.server import MlflowServer

                return MlflowServer(place)
            from loopline.adapters.mlflow.folder import MlflowFolder

            return MlflowFolder(Path(place))
        case "tensorboard":
            from loopline.adapters.tensorboard.reading import TensorboardFolder

            return TensorboardFolder(Path(place))
        case "modeldb":
            from loopline.adapters.modeldb.export import ModeldbExport

            return ModeldbExport(Path(place))


def write_events(folder: Path, run: Run, points: Iterable[Point]) -> None:
    """Writes a run's metrics as an event file of TensorBoard, into a folder of the run's own."""
    from loopline.adapters.tensorboard.writing import write

    name = re.sub(r"[^\w.+=@,() -]", "_", run.name).strip(" .")[:100]
    place = folder / f"{name or 'run'}-{run.id[-6:]}"
    write(place, run.created, (ForeignPoint(point.key, point.step, point.time, point.number) for point in points))
