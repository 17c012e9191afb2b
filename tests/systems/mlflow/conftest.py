"""These tests make environments of MLflow's and take minutes: `make systems` runs them, and CI; `make test` says that it left them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("LOOPLINE_SYSTEMS") or os.environ.get("CI"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="`make systems` runs MLflow's own clients"))
