"""A folder mlruns/ as MLflow 3.17.2 wrote it: its files, with their places and users made anonymous, are in mlruns.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    """The folder: two experiments with six live runs, one that goes on, nested ones, deleted ones."""
    folder = tmp_path / "mlruns"
    for name, text in json.loads((Path(__file__).parent / "mlruns.json").read_text()).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder
