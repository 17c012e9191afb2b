"""The stages of a run as they go: a line each, with a spinner on a terminal, plain lines elsewhere, JSON events for programs."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import msgspec

from loopline.pipeline.engine import Outputs, Watcher

_WIDTH = 10


class Lines(Watcher):
    """A line a stage: what was found or decided, and how long it took."""

    def __init__(self) -> None:
        self._status: Any = None

    def started(self, step: str) -> None:
        if sys.stdout.isatty():
            from rich.console import Console

            self._status = Console().status(f"{step} ...", spinner="dots")
            self._status.start()

    def ended(self, step: str, outputs: Outputs, seconds: float, *, reused: bool) -> None:
        self.clear()
        taken = "  as before" if reused else f"{seconds:8.1f} s"
        tell(f"{click.style(f'{step:<{_WIDTH}}', bold=True)} {taken}  {outputs.get('said', '')}")

    def clear(self) -> None:
        """Takes the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


class Events(Watcher):
    """One JSON object a line for each stage begun and ended."""

    def started(self, step: str) -> None:
        event("stage_started", stage=step)

    def ended(self, step: str, outputs: Outputs, seconds: float, *, reused: bool) -> None:
        event("stage_ended", stage=step, seconds=round(seconds, 3), reused=reused, outputs=outputs)


def event(name: str, **facts: Any) -> None:
    """One JSON event on standard output."""
    tell(msgspec.json.encode({"event": name, **facts}).decode())


def tell(line: str) -> None:
    """A line on standard output. Where nobody reads it any more (`| head -1`) the work goes on all the same, silently."""
    try:
        click.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
