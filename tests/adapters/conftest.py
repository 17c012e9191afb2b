"""A platform of its own for each test, and runs as it shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.app import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform on SQLite."""
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform
    platform.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Platform]:
    """A platform once on SQLite, once on PostgreSQL."""
    database = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    platform = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database or None
    )
    yield platform
    platform.close()
