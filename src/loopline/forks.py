"""Databases in processes that fork.

SQLite remembers which locks its process has on a file. A child inherits that memory and none of the locks: by a connection of its
parent, or a new one beside it, it would commit to files that the parent removes when it ends. So a fork waits until nobody is in
the midst of writing, and the child closes what it inherited before it does anything else.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

_SECONDS = 5
"""How long a fork waits for a writer: one that forks within its own transaction would wait for ever."""


class Opened(Protocol):
    """A database that is open."""

    turn: threading.Lock

    def forked(self) -> None:
        """Lets go of what is the parent's."""


opened: weakref.WeakSet[Opened] = weakref.WeakSet()
"""All databases that this process has opened."""

_held: list[threading.Lock] = []


def _before() -> None:
    _held[:] = [one.turn for one in list(opened) if one.turn.acquire(timeout=_SECONDS)]


def _in_parent() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _held.clear()
    for one in list(opened):
        one.forked()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
