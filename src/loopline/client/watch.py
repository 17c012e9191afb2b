"""The light thread beside a run: it writes the console log every second, and a sample of the machine's use now and then."""

from __future__ import annotations

import contextlib
import threading
import time

from loopline.client.console import Console
from loopline.client.going import now
from loopline.tracking.journal import Journal

_TURN_SECONDS = 1.0
_PIECE = 32_000  # characters of the console log in one record


class Watch:
    """Watches for one run, from `start` until `stop`. `every`: seconds between samples of the machine; None: no samples.

    Whatever goes wrong here is no matter of the training: a sample or some text is missing then.
    """

    def __init__(self, journal: Journal, run: str, *, console: bool, every: float | None) -> None:
        self._journal = journal
        self._run = run
        self._console = Console() if console else None
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._turns, name="loopline-watch", daemon=True)

    def start(self) -> None:
        """Begins; the first sample is taken after a second, or earlier where samples are closer."""
        if self._console is not None:
            self._console.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends, and writes what was printed until now."""
        self._ended.set()
        self._thread.join()
        if self._console is not None:
            self._write(self._console.stop())

    def _turns(self) -> None:
        machine = None
        turn = _TURN_SECONDS if self._every is None else min(_TURN_SECONDS, self._every)
        step, due = 0, time.monotonic() + turn
        if self._every is not None:
            with contextlib.suppress(Exception):
                from loopline.client.machine import Machine  # psutil, away from the start of the run

                machine = Machine()
        while not self._ended.wait(turn):
            if self._console is not None:
                self._write(self._console.take())
            if machine is not None and self._every is not None and time.monotonic() >= due:
                due = time.monotonic() + self._every
                at = now()
                with contextlib.suppress(Exception):
                    self._journal.points(self._run, [(key, value, step, at) for key, value in machine.sample().items()])
                    step += 1

    def _write(self, text: str) -> None:
        moment = now()
        with contextlib.suppress(Exception):
            for at in range(0, len(text), _PIECE):
                self._journal.record("console", self._run, text=text[at : at + _PIECE], time=moment)
