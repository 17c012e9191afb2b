"""What is captured of the environment: of this process, and of a real working copy of Git."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from loopline.tracking.environment import capture, masked, packages, working_copy


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_a_working_copy_is_known_with_what_differs(tmp_path: Path) -> None:
    assert working_copy(tmp_path) == {}
    git(tmp_path, "init", "-q")
    assert working_copy(tmp_path) == {}, "no commit yet"
    (tmp_path / "a.py").write_text("one\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = working_copy(tmp_path)
    assert clean["dirty"] is False
    assert len(clean["commit"]) == 40
    assert "patch" not in clean
    (tmp_path / "a.py").write_text("two\n")
    changed = working_copy(tmp_path)
    assert changed["dirty"] is True
    assert changed["commit"] == clean["commit"]
    (tmp_path / "a.py").write_text("three\n")
    assert working_copy(tmp_path)["patch"] != changed["patch"]
    (tmp_path / "a.py").write_text("one\n")
    assert working_copy(tmp_path) == clean
    (tmp_path / "new.py").write_text("x")
    assert working_copy(tmp_path)["dirty"] is True


def test_this_process_is_captured(tmp_path: Path) -> None:
    found = capture(tmp_path)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cpus"] >= 1
    assert found["packages"].startswith("sha256:")
    assert found == capture(tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert any(name.startswith("msgspec==") for name in packages())
    assert packages() == sorted(set(packages()))


def test_secrets_on_the_command_line_are_masked() -> None:
    given = ["train.py", "--token", "s3cret", "--api-key=abc", "--rate=0.1", "--password", "x", "data.csv"]
    assert masked(given) == [
        "train.py",
        "--token",
        "***",
        "--api-key=***",
        "--rate=0.1",
        "--password",
        "***",
        "data.csv",
    ]
