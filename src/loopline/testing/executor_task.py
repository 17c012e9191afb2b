"""A task for the conformance suite of executors: what a piece says, it does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from loopline.errors import Refused
from loopline.ports.executor import Work

TASK = "loopline.testing.executor_task:opened"


def opened(given: bytes, files: Path) -> Work:
    """Pieces are a word and what it is about, with a space between."""
    content, done = (files / "content").read_bytes(), 0

    def work(piece: bytes) -> bytes:
        nonlocal done
        done += 1
        word, _, about = piece.partition(b" ")
        if word == b"die" and not (about and Path(os.fsdecode(about)).exists()):  # once, where a path is given
            if about:
                Path(os.fsdecode(about)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == b"refuse":
            raise Refused("It is refused.", code="test-refused", hint="Ask for something else.", piece=about.decode())
        elif word == b"fail":
            raise KeyError(about.decode())
        elif word == b"until":
            while not Path(os.fsdecode(about)).exists():
                time.sleep(0.01)
        elif word == b"make":
            Path(os.fsdecode(about)).touch()
        elif word == b"who":
            return b"%d %d" % (os.getpid(), done)
        return b"|".join((given, content, about))

    return work
