"""A workspace for datasets, and tables to put into it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.records import DatasetVersion
from loopline.operations import Body
from loopline.testing.clock import FakeClock


class Place:
    """A workspace at a time of one's own, with a dataset of visits to fill."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(1_772_323_200_000)  # 2026-03-01T00:00Z
        self.platform = Platform.open(
            workspace=folder / "workspace", checkpoints=str(folder / "copies"), clock=self.clock
        )
        self.session = self.platform.session()

    def visits(self, rows: int = 200, **columns: Any) -> pl.DataFrame:
        """A table of so many visits, with further columns."""
        return pl.DataFrame(
            {"id": range(rows), "days": [n % 14 + 1 for n in range(rows)], "back": [n % 3 == 0 for n in range(rows)]}
        ).with_columns(**columns)

    def add(self, rows: int | pl.DataFrame = 200, **more: Any) -> DatasetVersion:
        """The next version of the visits."""
        buffer = io.BytesIO()
        (self.visits(rows) if isinstance(rows, int) else rows).write_parquet(buffer)
        return self.session.datasets.add("visits", Body(buffer.getvalue(), name="visits.parquet"), **more)

    def rows(self, name: str = "visits", version: int | str = "latest") -> pl.DataFrame:
        """The rows of a version."""
        return pl.read_ipc_stream(io.BytesIO(self.session.datasets.read(name, str(version)).read()))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.platform.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    """A platform once on SQLite, once on PostgreSQL."""
    database = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    platform = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database or None
    )
    yield platform
    platform.close()


@pytest.fixture
def platform(place: Place) -> Platform:
    return place.platform


@pytest.fixture
def session(place: Place) -> Session:
    return place.session


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def contract() -> Callable[..., dict[str, Any]]:
    """Builds a contract as a loop declares it, as JSON values."""
    import msgspec

    import loopline as ll

    def make(*rules: Any, personal: Sequence[str] = ()) -> dict[str, Any]:
        made: dict[str, Any] = msgspec.to_builtins(ll.contract(*rules, personal=personal))
        return made

    return make
