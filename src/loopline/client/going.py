"""Which runs go on in this process: the one that a call of a thread is about, and how those end that nobody ended."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextvars import ContextVar
from types import FrameType
from typing import NoReturn, Protocol

from loopline.tracking.records import Ending


class Going(Protocol):
    """What has to be known of a run here; `client.run.Run` is one."""

    id: str
    ended: bool
    _lock: threading.RLock

    def finish(self, status: Ending, message: str) -> None:
        """Ends it, once."""


_mine: ContextVar[tuple[Going, ...]] = ContextVar("loopline_runs", default=())
_of_main: list[Going] = []
_going: dict[str, Going] = {}


def current() -> Going | None:
    """The run that a call of this thread is about; None where there is none."""
    for runs in (_mine.get(), _of_main):
        for found in reversed(runs):
            if not found.ended:
                return found
    return None


def mine() -> bool:
    """Whether this thread has a run of its own."""
    return any(not found.ended for found in _mine.get())


def began(begun: Going) -> None:
    """Makes a run the active one of this thread, and of all threads without one where the main thread began it."""
    _heed_exit()
    _going[begun.id] = begun
    _mine.set((*(run for run in _mine.get() if not run.ended), begun))
    if threading.current_thread() is threading.main_thread():
        _of_main.append(begun)


def for_all(begun: Going) -> None:
    """Makes a run the active one of all threads without one, whichever thread began it."""
    if begun not in _of_main:
        _of_main.append(begun)


def over(ended: Going) -> None:
    """Takes a run that has ended off."""
    _going.pop(ended.id, None)
    if ended in _of_main:
        _of_main.remove(ended)


def ending(error: BaseException | None) -> tuple[Ending, str]:
    """How a run ended, by the exception that ended its block."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", ""
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed", said(error)


def said(error: BaseException) -> str:
    """An exception as a message: its class and what it says, where it can say anything."""
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # its own `__str__` failed
        return type(error).__name__


def now() -> int:
    """Milliseconds since 1970 UTC; 0 where the clock is set to before that."""
    return max(0, time.time_ns() // 1_000_000)


_exited: tuple[SystemExit, FrameType] | None = None
"""What the last `sys.exit` of the main thread raised, and where: the interpreter keeps no such exception for those who look at
the end."""


def _heed_exit() -> None:
    """From now on, `sys.exit` leaves behind what it raised."""
    if getattr(sys.exit, "heeded", False):
        return
    exit_ = sys.exit

    def heeded(status: object = None, /) -> NoReturn:
        global _exited
        try:
            exit_(status)  # type: ignore[arg-type]  # whatever the program gives
        except SystemExit as e:
            if threading.current_thread() is threading.main_thread():  # in another it ends that thread alone
                _exited = e, sys._getframe()
            raise

    heeded.heeded = True  # type: ignore[attr-defined]
    sys.exit = heeded


def _uncaught() -> SystemExit | None:
    """The exit that ended the program: one that was caught, some frame that it was to pass has returned from since."""
    if _exited is None:
        return None
    import opcode

    frame: FrameType | None
    error, frame = _exited
    while frame is not None:
        if opcode.opname[frame.f_code.co_code[frame.f_lasti]].startswith("RETURN_"):
            return None
        frame = frame.f_back
    return error


def _at_exit() -> None:
    """Ends what is still open when the program ends, the newest first: children before the run they are in."""
    # What ended the program is where the interpreter left it, for debuggers; a prompt has it from any earlier line.
    error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None) or _uncaught()
    for left in reversed(list(_going.values())):
        left.finish(*ending(error))


def _forked() -> None:
    for run in _going.values():
        run._lock = threading.RLock()  # the old one may be held by a thread that is not here


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forked)
