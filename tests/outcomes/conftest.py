"""A workspace with a prediction log that is written as workers write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.outcomes import frames
from loopline.outcomes.tables import segments
from loopline.serving.log import Frame, Part, PredictionLog, encode
from loopline.store.service import Store
from loopline.testing.clock import FakeClock


class Worker:
    """Writes the log of one worker; `now` is the time of the answers."""

    def __init__(self, workspace: Path, clock: FakeClock, number: int = 0, **limits: int) -> None:
        options = {"segment_bytes": 1 << 20, "segment_age_ms": 3_600_000, **limits}
        self.clock = clock
        self.log = PredictionLog(workspace / "serving" / "log", number, now=clock.now(), **options)
        self.count = 0

    def answer(
        self,
        rows: int = 1,
        *,
        endpoint: str = "risk",
        variant: str = "champion",
        version: int = 1,
        shadow: bool = False,
        status: int = 200,
        latency: int = 1000,
        output: Any = None,
        ids: list[str] | None = None,
    ) -> list[str]:
        """One request of some rows; gives the ids."""
        self.count += 1
        ids = ids or [f"{self.log.prefix}{self.count}-{n}" for n in range(rows)]
        sent = [{"x": n, "name": f"row {n}"} for n in range(rows)]
        answered = [
            {"id": id, **(output or {"probability": 0.25 + n % 7 / 10, "label": "yes" if n % 2 else "no"})}
            for n, id in enumerate(ids)
        ]
        frame = Frame(
            time_ms=self.clock.now(),
            request=f"{self.log.prefix}{self.count}",
            endpoint=endpoint,
            parts=[Part(f"model:risk@{version}", variant, "shadow" if shadow else "live", 0.5)],
            status=status,
            latency_us=latency,
            form="none" if shadow or status >= 400 else "list",
            sent=msgspec.json.encode(sent),
            answered=msgspec.json.encode(answered),
            error="bad-row" if status >= 400 else "",
        )
        self.log.append([encode(frame)], self.clock.now())
        return [] if status >= 400 else ids


@pytest.fixture
def clock() -> FakeClock:
    """Stands still until it is turned."""
    return FakeClock()


@pytest.fixture
def platform(tmp_path: Path, clock: FakeClock) -> Iterator[Platform]:
    """A platform on SQLite."""
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), clock=clock)
    # The log of an endpoint "risk" that was there once, and of which nothing is served any more: so it takes any label.
    empty = platform.blobs.put([frames.to_parquet(frames.of_log([]))]).digest
    with platform.database.begin() as tx:
        tx.execute(
            segments.insert().values(
                project="default", endpoint="risk", number=0, until=0, blob=empty, rows=0, first=0, last=0, collected=0
            )
        )
        Store(tx, platform.blobs).retain(empty, "endpoint:risk@log.0")
    yield platform
    platform.close()


@pytest.fixture
def session(platform: Platform) -> Session:
    """The verbs, as the workspace's owner."""
    return platform.session()


@pytest.fixture
def worker(platform: Platform, clock: FakeClock) -> Worker:
    """A worker's log in the workspace."""
    return Worker(platform.settings.workspace, clock)
