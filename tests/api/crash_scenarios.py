"""The file that says who serves a workspace, killed while it is written: it names one server whole, or none."""

from __future__ import annotations

import os
from pathlib import Path

from loopline.api.up import Address, address_of, note


def work(folder: Path) -> None:
    """Two servers after each other."""
    for number in range(2):
        note(folder, Address(url=f"http://127.0.0.1:{8400 + number}", pid=os.getppid(), started=number))


def check(folder: Path, finished: bool) -> None:
    """What can be read names a server; after a whole run, the last."""
    found = address_of(folder)
    assert found is None or found.url in ("http://127.0.0.1:8400", "http://127.0.0.1:8401")
    if finished:
        assert found is not None
        assert found.started == 1


SCENARIOS = {"server file": (work, check)}
