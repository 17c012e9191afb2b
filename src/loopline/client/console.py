"""The console log of a run: what Python's `sys.stdout` and `sys.stderr` print, folded as a terminal shows it, and bounded.

It is taken at Python's level, where it can break nothing: the streams stay the same objects, with their descriptors, encoding
and `isatty`. So what child processes and C code write to the descriptors themselves goes where it always went, and is not kept.
A pipe in place of the descriptors would keep that too, but programs would see no terminal any more, and the last lines before
an `os._exit` or a crash would be lost.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

LIMIT = 5 << 20
"""Characters of a run's console log that are kept."""

_LONGEST_LINE = 64_000


class Console:
    """Keeps what is printed from `start` until `stop`. `take` gives, again and again, what is new."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._left = limit
        self._limit = limit
        self._process = os.getpid()
        self._pieces: deque[tuple[int, str]] = deque()  # taken without a lock: a write may come from a signal's handler
        self._lines = (_Lines(), _Lines())
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begins with whatever the two streams are now; one that cannot be listened to is left alone."""
        for number, stream in enumerate((sys.stdout, sys.stderr)):
            if stream is not None and not (number and stream is sys.stdout):
                with contextlib.suppress(Exception):  # a foreign stream may refuse in any way
                    self._listen(number, stream)

    def take(self) -> str:
        """The lines that were ended since the last time; the empty text where there are none."""
        found: list[str] = []
        while self._pieces:
            number, piece = self._pieces.popleft()
            found.append(self._lines[number].feed(piece))
        return self._bounded("".join(found))

    def stop(self) -> str:
        """Gives the streams back as they were, and the rest of what was printed."""
        for undo in self._undo:
            with contextlib.suppress(Exception):
                undo()
        self._undo.clear()
        rest = self.take()
        return rest + self._bounded("".join(lines.end() for lines in self._lines))

    def _listen(self, number: int, stream: Any) -> None:
        before = stream.write
        replaced = "write" in vars(stream)
        on = True

        def write(text: str) -> Any:
            written = before(text)
            # A forked child has nobody who takes; its copy would only grow.
            if on and isinstance(text, str) and os.getpid() == self._process:
                self._pieces.append((number, text))
            return written

        def undo() -> None:
            nonlocal on
            on = False
            if (
                vars(stream).get("write") is not write
            ):  # somebody listens through us: what is ours stays, and does nothing
                return
            if replaced:
                stream.write = before
            else:
                del stream.write

        stream.write = write
        self._undo.append(undo)

    def _bounded(self, text: str) -> str:
        if not text or self._left <= 0:
            return ""
        # Text that has no UTF-8 form, and the one character that PostgreSQL has no place for.
        text = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        kept = text[: self._left]
        self._left -= len(text)
        if self._left <= 0:
            kept += f"\n[The console log is kept up to here: {self._limit:,} characters.]\n"
        return kept


class _Lines:
    """One stream as lines. Of a line that was written over (by "\\r", as progress bars do) the last state counts."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> str:
        """The lines that this text ends."""
        whole, newline, rest = (self._rest + text).rpartition("\n")
        # A return at the end may be the first half of a line's end, so what stands before it is still needed.
        self._rest = _folded(rest) + ("\r" if rest.endswith("\r") else "")
        lines = "".join(f"{_folded(line)}\n" for line in whole.split("\n")) if newline else ""
        if len(self._rest) > _LONGEST_LINE:
            lines += self.end()
        return lines

    def end(self) -> str:
        """The line under way, ended."""
        line, self._rest = _folded(self._rest), ""
        return f"{line}\n" if line else ""


def _folded(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
