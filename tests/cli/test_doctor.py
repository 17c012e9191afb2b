"""The doctor finds what was spoiled on purpose, each by its line, and changes nothing."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

Shell = Any  # conftest's


@pytest.fixture
def spoiled(shell: Shell, tmp_path: Path) -> Shell:
    """A copy of the workspace, to be spoiled."""
    copied: Shell = shell.copy(tmp_path)
    return copied


def found(ended: Any) -> dict[str, list[dict[str, str]]]:
    """The checks that are not ok, by name."""
    bad: dict[str, list[dict[str, str]]] = {}
    for check in ended.json["checks"]:
        if check["state"] != "ok":
            assert check["way_out"], check
            bad.setdefault(check["name"], []).append(check)
    return bad


def names(ended: Any) -> set[str]:
    return {check["name"] for check in ended.json["checks"]}


def test_a_sound_workspace(shell: Shell) -> None:
    ended = shell("doctor", "--json")
    assert ended.json["ok"]
    assert names(ended) >= {
        "Python", "packages", "cores", "memory", "open files", "clock", "settings", "disk", "workspace", "address",
        "database", "keys", "left over", "ledger", "bytes",
    }  # fmt: skip
    said = shell("doctor").out
    assert "No problems" in said
    assert f"workspace {shell.workspace} (from the call)" in said


def test_without_a_workspace_nothing_is_made(bare: Shell) -> None:
    ended = bare("doctor", "--json")
    assert not bare.workspace.exists()
    assert names(ended) >= {"Python", "packages", "workspace", "address"}
    assert "bytes" not in names(ended)


def test_open_keys_damaged_missing_bytes_and_temporary_files(spoiled: Shell) -> None:
    key = next((spoiled.workspace / "keys").glob("ledger-*.pem"))
    key.chmod(0o644)
    blobs = sorted((spoiled.workspace / "blobs").glob("[0-9a-f][0-9a-f]/*"))
    blobs[0].chmod(0o600)
    blobs[0].write_bytes(b"something else")
    blobs[1].unlink()
    left = spoiled.workspace / "blobs" / ".writing-1-aa"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    bad = found(spoiled("doctor", "--json", code=1))
    assert str(key) in bad["keys"][0]["said"]
    assert f"chmod 600 {key}" in bad["keys"][0]["way_out"]
    assert {blobs[0].name[:10] in "".join(c["said"] for c in bad["bytes"])} == {True}
    assert len(bad["bytes"]) == 2
    assert str(left) in bad["left over"][0]["said"]
    assert bad["left over"][0]["state"] == "warning"
    assert left.exists()


def test_a_changed_ledger(spoiled: Shell) -> None:
    with sqlite3.connect(spoiled.workspace / "loopline.db") as database:
        database.execute("UPDATE ledger_entries SET body = replace(body, 'os:', 'so:') WHERE seq = 5")
    database.close()
    ended = spoiled("ledger", "verify", code=3)
    assert "does not hold" in ended.out
    assert "error" in ended.out
    assert found(spoiled("doctor", "--json", code=1))["ledger"][0]["state"] == "problem"
    assert spoiled("ledger", "verify", "--json", code=3).json["ok"] is False


def test_older_and_newer_tables_are_left_as_they_are(spoiled: Shell) -> None:
    def revise(revision: str) -> None:
        with sqlite3.connect(spoiled.workspace / "loopline.db") as database:
            database.execute("UPDATE alembic_version SET version_num = ?", [revision])
        database.close()

    revise("9999")
    assert "Update loopline" in found(spoiled("doctor", "--json", code=1))["database"][0]["way_out"]
    revise("0000")
    ended = spoiled("doctor", "--json")
    assert found(ended)["database"][0]["state"] == "warning"
    assert "bytes" not in names(ended), "opening it would bring the tables to the new revision"


def test_a_file_that_is_no_database(spoiled: Shell) -> None:
    (spoiled.workspace / "loopline.db").write_bytes(b"no database at all" * 100)
    for beside in spoiled.workspace.glob("loopline.db-*"):
        beside.unlink()
    assert "cannot be read" in found(spoiled("doctor", "--json", code=1))["database"][0]["said"]


def test_a_bad_setting(spoiled: Shell) -> None:
    (spoiled.workspace / "settings.toml").write_text("prot = 1\n")
    (bad,) = found(spoiled("doctor", "--json", code=1))["settings"]
    assert "prot" in bad["said"]
    assert "'port'" in bad["way_out"]


def test_a_held_port_is_told_with_its_holder(spoiled: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("LOOPLINE_PORT", str(other.getsockname()[1]))
        (bad,) = found(spoiled("doctor", "--json"))["address"]
    assert f"process {os.getpid()} (" in bad["said"]
    assert "--port 0" in bad["way_out"]


def test_a_server_that_is_away(bare: Shell) -> None:
    assert found(bare("doctor", "--json", "--server", "http://127.0.0.1:9", code=1))["server"]
