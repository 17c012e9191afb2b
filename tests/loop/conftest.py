"""A small loop on synthetic patients, run for real."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.app import Platform
from loopline.data.synthetic import synthetic_readmission
from loopline.loop import files
from loopline.loop.run import Result, run_loop
from loopline.pipeline.engine import Outputs, Watcher

LOOP = """\
import loopline as ll


@ll.step
def fit(train: ll.Table, *, learning_rate: float = 0.1, leaves: int = 15) -> ll.Model:
    return ll.boosted(train, learning_rate=learning_rate, leaves=leaves)


@ll.step
def baseline(train: ll.Table) -> ll.Model:
    return ll.constant(train)


loop = ll.Loop(
    "readmission",
    data=ll.source(
        "rows.parquet", label="readmitted", time="encounter_id", group="patient_nbr", protected=["gender"]
    ),
    contract=ll.contract(
        ll.unique("encounter_id"), ll.column("time_in_hospital").between(1, 13), ll.column("readmitted").one_of("YES", "NO")
    ),
    clean=[ll.clean.placeholders(), ll.clean.repair()],
    baseline=baseline,
    train=fit,
    tune=ll.tune(leaves=(4, 16), trials=2, seed=7),
    gates=[{gates}],
    rollout=ll.rollout.shadow(rows=150).canary(20, 50, rows=100),
    monitor=ll.monitor(false_alarms="1/quarter", look="1s", rows=500),
    retrain=ll.retrain(on=["quality", "drift"], cool_down="1d", at_least=1000),
)
"""
PASSING = ", ".join(
    (
        'll.gate.at_least("roc_auc", 0.52)',
        'll.gate.beats("baseline", "roc_auc")',
        'll.gate.not_worse_than("@champion", "roc_auc", margin=0.2)',
    )
)
HOPELESS = PASSING + ', ll.gate.at_least("roc_auc", 0.99)'
ASKING = PASSING + ', ll.gate.fair("race", "equal_opportunity_difference", at_most=0.10, too_few="ask")'


class Told(Watcher):
    """Remembers which steps were worked and which were found done."""

    def __init__(self) -> None:
        self.worked: list[str] = []
        self.reused: list[str] = []

    def ended(self, step: str, outputs: Outputs, seconds: float, *, reused: bool) -> None:
        (self.reused if reused else self.worked).append(step)


class Place:
    """A workspace and a folder with the loop's file and rows; `first` is the result of its first run, where there was one."""

    first: Result

    def __init__(self, folder: Path, rows: pl.DataFrame, gates: str = PASSING) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        rows.write_parquet(folder / "rows.parquet")
        self.declare(gates)
        self.platform = Platform.open(workspace=self.workspace, checkpoints=str(folder / "copies"), port=0)
        self.session = self.platform.session()

    def declare(self, gates: str, **replaced: str) -> None:
        """Writes the loop's file; `replaced` maps old texts to new ones."""
        protected = '["gender"]' if "race" not in gates else '["gender", "race"]'
        text = LOOP.replace("{gates}", gates).replace('["gender"]', protected)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (self.folder / "readmission.py").write_text(text)

    def run(self, told: Told | None = None, **given: Any) -> Result:
        loop = files.read(self.folder / "readmission.py")
        self.session.loops.declare(loop.name, str(self.folder / "readmission.py"), loop.describe())
        return run_loop(
            loop, self.session, self.folder / "rows.parquet", scratch=self.workspace / "scratch", watcher=told, **given
        )

    def count(self, table: str) -> int:
        with self.platform.database.snapshot() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

    def close(self) -> None:
        self.platform.close()


@pytest.fixture(scope="session")
def patients() -> pl.DataFrame:
    """6,000 synthetic visits in the order of time."""
    return synthetic_readmission(6000, seed=3)


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture
def place(tmp_path: Path, patients: pl.DataFrame) -> Iterator[Callable[..., Place]]:
    """Makes a place: `place(gates)`, on the first 3,000 visits."""
    made: list[Place] = []

    def make(gates: str = PASSING, rows: pl.DataFrame | None = None) -> Place:
        folder = tmp_path / f"place{len(made)}"
        folder.mkdir()
        made.append(Place(folder, patients.head(3000) if rows is None else rows, gates))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, patients: pl.DataFrame) -> Iterator[Place]:
    """A place whose first run ended with a champion; tests that change it make one of their own."""
    place = Place(tmp_path_factory.mktemp("promoted"), patients.head(3000))
    place.first = place.run(Told())
    yield place
    place.close()
