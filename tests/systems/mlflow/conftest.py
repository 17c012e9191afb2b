"""An empty platform, and what an unmodified client sees of a server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import environment

from loopline.app import Platform


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"), database=database_url)
    yield platform
    platform.close()


def seen(client: str, version: str, url: str, **more: str) -> dict[str, Any]:
    """What the program `client`, beside this file, sees of a server with a version of MLflow, with nothing set but the address."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
    done = subprocess.run(
        [environment(version), "-W", "ignore", Path(__file__).parent / client],
        env={**env, "MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet", **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
