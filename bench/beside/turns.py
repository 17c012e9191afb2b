"""Works of several processes in turns, so that the machine's moods hit all alike; what each took, as medians."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS = Path(sys.executable)
Took = dict[str, float]
"""Medians of the seconds of the clock, of the `cpu`, and of the `mb` that the process grew."""


class Worker(AbstractContextManager["Worker"]):
    """A script of this folder that calls `works.serve`, run by the Python of an environment."""

    def __init__(self, python: Path, script: str, *words: str | Path) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - progress bars, as a rule
        self._process = subprocess.Popen(
            [python, "-W", "ignore", HERE / script, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        self.works: list[str] = json.loads(self._said())

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise SystemExit(f"{self._process.args} ended:\n{self._errors.read()[-3000:]}")
        return line

    def do(self, work: str) -> Took:
        """Does one of its works now."""
        assert self._process.stdin is not None
        self._process.stdin.write(work + "\n")
        self._process.stdin.flush()
        took: Took = json.loads(self._said())
        return took

    def __exit__(self, *why: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._errors.close()


def in_turns(ways: Iterable[tuple[str, Worker, str]], rounds: int) -> dict[str, Took]:
    """The works of (name, worker, work), one after the other, as many rounds; one round before that warms up."""
    ways = list(ways)
    found: dict[str, list[Took]] = {name: [] for name, _, _ in ways}
    for turn in range(rounds + 1):
        for name, worker, work in ways:
            took = worker.do(work)
            if turn:
                found[name].append(took)
    return {name: {key: statistics.median(one[key] for one in some) for key in some[0]} for name, some in found.items()}


def show(title: str, found: dict[str, Took], ours: str, goals: dict[str, str] | None = None) -> None:
    """A table; how many times as long as ours, by the clock and by the processor."""
    print(f"\n{title}")
    print(f"  {'':34}{'seconds':>10}{'to ours':>10}{'CPU s':>10}{'to ours':>10}{'MB':>8}")
    for name, took in found.items():
        times = [f"{took[key] / found[ours][key]:9.2f}x" for key in ("seconds", "cpu")]
        goal = (goals or {}).get(name, "")
        print(
            f"  {name:34}{took['seconds']:10.4f}{times[0]:>10}{took['cpu']:10.4f}{times[1]:>10}{took['mb']:8.0f}  {goal}"
        )


def kept(path: Path | None, found: Any) -> None:
    """Writes the figures to a file, where one is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
