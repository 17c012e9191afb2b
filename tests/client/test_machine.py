"""Samples of the machine's use: plausible, in the units they say, and without a GPU where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loopline.client.machine import Machine


def test_a_sample_is_plausible(tmp_path: Path) -> None:
    machine = Machine()
    first = machine.sample()
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(8 << 20))
        file.flush()
        os.fsync(file.fileno())
    found = machine.sample()
    assert 0 <= found["system/cpu_percent"] <= 100
    assert 0 < found["system/memory_percent"] <= 100
    assert 2**20 < found["system/process_memory"] < found["system/memory_used"] * 2
    assert all(found[key] >= first[key] for key in found if key.startswith(("system/disk", "system/network")))
    assert all(key.startswith("system/") and value >= 0 for key, value in found.items())


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ("echo '0, 37, 1024'; echo '1, 0, 3'", {"system/gpu_0_percent": 37.0, "system/gpu_1_memory": 3 * 2.0**20}),
        ("echo '0, [N/A], 1024'", {}),
        ("exit 9", {}),
    ],
)
def test_gpus_are_asked_of_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, seen: dict[str, float]
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{told}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = Machine()
    for _ in range(2):
        found = {key: value for key, value in machine.sample().items() if "gpu" in key}
        assert seen.items() <= found.items()
        assert bool(found) == bool(seen)
