"""Named places at which a test can end the process or raise an error.

Every place that commits, renames, syncs or acknowledges calls `failpoint("room.verb.place")` with a literal name: a lint finds
the places without one, and a test kills the process at each and checks what is left. In production it is one look at a None.

    LOOPLINE_FAILPOINTS="store.put.before_rename=kill"        end the process as kill -9 does
    LOOPLINE_FAILPOINTS="store.put.before_rename=kill@3"      at the third passage
    LOOPLINE_FAILPOINTS="store.put.write=ENOSPC"              raise OSError with that errno
    LOOPLINE_FAILPOINTS="...=trace:/path"                     append the name to a file (a dot for every passage)
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path


def _read(spec: str) -> dict[str, tuple[str, int]]:
    armed = {}
    for item in filter(None, spec.split(";")):
        name, _, action = item.partition("=")
        action, _, hit = action.partition("@")
        armed[name.strip()] = (action, int(hit or 1))
    return armed


_armed: dict[str, tuple[str, int]] | None = _read(os.environ.get("LOOPLINE_FAILPOINTS", "")) or None
_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Does nothing, unless a test armed this name."""
    if _armed is None:
        return
    action, hit = _armed.get(name) or _armed.get("*") or ("", 0)
    if not action:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if action.startswith("trace:"):
        with Path(action[6:]).open("a") as file:
            file.write(name + "\n")
    elif _passed[name] == hit:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, action)
        raise OSError(number, os.strerror(number), name)


def arm(spec: str) -> None:
    """Arms the names of `spec` in this process (the form of LOOPLINE_FAILPOINTS); an empty text disarms all."""
    global _armed
    _passed.clear()
    _armed = _read(spec) or None
