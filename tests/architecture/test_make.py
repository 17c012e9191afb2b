"""The Makefile explains itself, and the locks hold what it installs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "LOOPLINE_"))} | environment
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_help_tells_every_target() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    told = set(re.findall(r"^  (\w+) +\S", make("help"), re.MULTILINE))
    assert told == set(phony.split())
    assert make() == make("help")


def test_arguments_reach_the_demo_and_the_tests() -> None:
    assert "loopline demo --fresh --break-challenger --exit" in make("-n", "demo", "ARGS=--break-challenger --exit")
    assert re.search(r'-m pytest .*-m "not soak and not systems" tests/data', make("-n", "test", "ARGS=tests/data"))


def test_the_folder_of_data_is_ones_own_where_it_is_given() -> None:
    shown = make("-n", "-p", "help", LOOPLINE_DATA="/somewhere")
    assert re.search(r"^LOOPLINE_DATA = /somewhere$", shown, re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """The pinned requirements of a lock: name with marker, and version."""
    found = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if match := re.match(r"([\w.-]+(?:\[[\w,]+\])?)==(\S+)\s*(;[^\\]*)?", line):
            found[match[1] + (match[3] or "").strip()] = match[2]
    return found


@pytest.mark.parametrize("name", ["core.txt", "dev.txt"])
def test_a_lock_is_of_pins_and_hashes_alone(name: str) -> None:
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        assert re.match(r"[\w.-]+(\[[\w,]+\])?==\S+|    --hash=sha256:[0-9a-f]{64}", line), line
    assert not [pin for pin in pins(name) if pin.startswith(("torch", "nvidia", "tensorflow"))]


def test_the_lock_for_tests_holds_the_lock_of_the_core() -> None:
    core, dev = pins("core.txt"), pins("dev.txt")
    assert core.items() <= dev.items()
    assert len(core) > 40
