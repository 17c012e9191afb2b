"""Without a workspace: reading says so and makes none; adding makes one. Exit codes; errors as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Shell = Any  # conftest's

READING = [
    ["status"], ["data", "ls"], ["runs", "ls"], ["models", "ls"], ["pipeline", "ls"], ["evaluations", "ls"],
    ["rollout", "ls"], ["predictions", "ls", "x"], ["monitor", "ls"], ["alerts", "ls"], ["ledger", "verify"],
    ["lineage", "model:x@1"], ["access", "whoami"],
]  # fmt: skip


@pytest.mark.parametrize("line", READING, ids=" ".join)
def test_reading_says_that_there_is_none(bare: Shell, line: list[str]) -> None:
    said = bare(*line, code=2).err
    assert "no-workspace" in said
    assert str(bare.workspace) in said
    assert "loopline demo" in said
    assert "--workspace" in said
    assert not bare.workspace.exists()


def test_adding_data_makes_one(bare: Shell, write_visits: Any, tmp_path: Path) -> None:
    write_visits(tmp_path / "rows.csv", rows=100)
    assert "Added data:rows@1: 100 rows of 6 columns." in bare("data", "add", "rows", str(tmp_path / "rows.csv")).out
    assert bare("data", "ls", "--json").json[0]["latest"] == "data:rows@1"
    assert "Nothing ran here yet" in bare("status").out


def test_an_error_is_json_where_json_is_asked_for(shell: Shell) -> None:
    said = json.loads(shell("data", "show", "visitz", "--json", code=2).err)
    assert said["error"]["code"] == "no-dataset"
    assert said["error"]["hint"] == "Did you mean 'visits'?"


def test_exit_codes_follow_the_branch_of_the_error(shell: Shell) -> None:
    shell("models", "show", "nothing", code=2)
    shell("data", "read", "visits.test", code=3)
    shell("--server", "http://127.0.0.1:9", "data", "ls", code=4)


def test_a_ref_of_another_project_is_told_apart(shell: Shell) -> None:
    said = shell("models", "show", "model:clinic/visits@1", code=2).err
    assert "--project clinic" in said


def test_a_project_that_is_not_there(shell: Shell) -> None:
    assert "no-project" in shell("--project", "clinics", "data", "ls", code=2).err


@pytest.mark.parametrize("port", ["70000", "-1", "65536"])
def test_what_is_no_port_is_refused(bare: Shell, port: str) -> None:
    said = bare("up", "--port", port, code=2).err
    assert f"{port} is no port" in said
    assert "0 to 65535" in said
    assert not bare.workspace.exists()


def test_a_disk_without_any_space_is_told_as_such(shell: Shell) -> None:
    """SQLite needs a file beside its own also to read; a process that may write no byte stands for the disk."""
    command = [sys.executable, "-m", "loopline", "--workspace", str(shell.workspace), "data", "ls"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 4, done.stderr
    assert "disk-full" in done.stderr
    assert "Free some space" in done.stderr
    assert "visits" in shell("data", "ls").out
