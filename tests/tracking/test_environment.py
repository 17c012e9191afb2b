"""What is captured of the environment: of this process, of this machine, and which packages are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from loopline.hashing import digest_json
from loopline.tracking.environment import capture, hardware, requirements


def test_this_process_is_captured(tmp_path: Path) -> None:
    found = capture(tmp_path)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"] == digest_json(found["requirements"])
    assert found["packages"].startswith("sha256:")
    assert found == capture(tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert "commit" not in found, "a folder of its own is no working copy"


def test_the_machine_is_described() -> None:
    found = hardware()
    assert 1 <= found["cores"] <= found["cpus"]
    assert found["memory"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["cpu"]


def test_requirements_are_what_the_metadata_says() -> None:
    """Read from the names of folders, they are the same that `importlib.metadata` reads out of each file."""
    said = {}
    for found in metadata.distributions():
        said.setdefault(metadata.Prepared(found.metadata["Name"]).normalized.replace("_", "-"), found.version)
    assert requirements() == sorted(f"{name}=={version}" for name, version in said.items())


def test_the_package_that_is_imported_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, version in (("first", "2.0"), ("second", "1.0")):
        (tmp_path / folder / f"some_thing-{version}.dist-info").mkdir(parents=True)
    older = tmp_path / "second" / "old.egg-info"
    older.mkdir()
    (older / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: Older.Thing\nVersion: 0.3\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "nowhere")])
    assert requirements() == ["older-thing==0.3", "some-thing==2.0"]


def test_the_seed_of_hashes_is_told() -> None:
    program = "import json; from loopline.tracking.environment import process; print(json.dumps(process()))"
    for seed, told in (("7", "7"), (None, "random")):
        rest = {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**rest, **({"PYTHONHASHSEED": seed} if seed else {})},
            capture_output=True,
        )
        assert json.loads(ended.stdout)["hash_seed"] == told
