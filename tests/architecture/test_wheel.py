"""The wheel: what it carries, and that it runs where nothing of this tree is."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_it_carries_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "loopline/py.typed",
        "loopline/examples/readmission.py",
        "loopline/migrations/env.py",
        "loopline/migrations/versions/0001_tables.py",
    } <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"loopline"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_command_runs_from_it_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    bare = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")} | {"PYTHONPATH": str(unpacked)}
    where = [sys.executable, "-c", "import loopline; print(loopline.__file__)"]
    found = subprocess.run(where, env=bare, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == str(unpacked / "loopline" / "__init__.py")
    shown = subprocess.run(
        [sys.executable, "-m", "loopline", "--help"],
        env=bare, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "The whole machine-learning lifecycle as one closed loop." in shown.stdout
