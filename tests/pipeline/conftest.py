"""A platform of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline.app import Platform
from loopline.catalog import Session


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform on SQLite."""
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform
    platform.close()


@pytest.fixture
def session(platform: Platform) -> Session:
    """The verbs, as the workspace's owner."""
    return platform.session()
