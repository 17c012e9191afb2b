"""What a platform does without being asked."""

from __future__ import annotations

import os
import time
from pathlib import Path

from loopline.app import Platform
from loopline.upkeep import LEFT_MILLISECONDS, tidy


def test_what_killed_calls_left_under_way_goes_a_day_later(tmp_path: Path) -> None:
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    outside.mkdir()
    for place in (scratch / "object-a1", scratch / "object-b2" / "deep", scratch / "under-way"):
        place.mkdir(parents=True)
        (place / "part").write_bytes(b"12")
    (scratch / "upload-c3").write_bytes(b"1")
    (scratch / "link").symlink_to(outside)
    (outside / "mine").write_bytes(b"1")
    old = time.time() - LEFT_MILLISECONDS / 1000 - 60
    for place in (*scratch.rglob("*"), *scratch.glob("*")):
        os.utime(place, (old, old), follow_symlinks=False)
    (scratch / "under-way" / "part").write_bytes(b"123")  # somebody is at it
    tidy(scratch, time.time_ns() // 1_000_000)
    assert [place.name for place in scratch.iterdir()] == ["under-way"]
    assert (outside / "mine").exists()
    tidy(tmp_path / "nowhere", 0)


def test_upkeep_tidies_up(tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"))
    left = tmp_path / "w" / "scratch" / "object-a1"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    platform.upkeep()
    assert not left.exists()
    platform.close()
