"""A collection that is killed at any place is whole once it is done again: each message is in one version, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import collected
from .conftest import Broker

PLACES = [
    "data.versions.appended",
    "data.sources.done",
    pytest.param("data.versions.write", marks=pytest.mark.soak),
    pytest.param("data.versions.written", marks=pytest.mark.soak),
    pytest.param("data.versions.append", marks=pytest.mark.soak),
    pytest.param("database.tx.before_commit@5", marks=pytest.mark.soak),
    pytest.param("store.put.before_rename@2", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_done_again(place: str, program: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", program.address)
    name, _, passage = place.partition("@")
    armed = {**os.environ, "LOOPLINE_FAILPOINTS": f"{name}=kill@{passage or 1}"}
    killed = subprocess.run(
        [sys.executable, collected.__file__, str(tmp_path)], env=armed, capture_output=True, text=True
    )
    assert killed.returncode == -9, killed.stderr
    collected.check(tmp_path, finished=False)
    for _ in range(2):
        collected.work(tmp_path)
        collected.check(tmp_path, finished=True)
