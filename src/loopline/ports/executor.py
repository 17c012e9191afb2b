"""Where large work is done in pieces: in processes of this machine, or on a cluster.

1. `start` readies workers for a task, "module:function" of Loopline's own. Each worker calls that function once, with what is
   `given` and with a folder of the same content as `files`, wherever the worker is; what it gives is called with the pieces, one at
   a time.
2. `submit` gives a `Handle` and does not wait. Its `result` waits for what was given for that piece.
3. A piece is all that its result depends on. So where a worker is lost, its piece is done again by another; of one that ends
   worker after worker `result` raises `Unavailable` (code "worker-lost").
4. An error of the family comes back as it was raised, by `result`; of another one a RuntimeError says what it was. The worker
   works on.
5. `width` pieces are done at once. Who submits many more than that has them wait in memory.
6. `close` ends the workers, whatever they do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import msgspec

from loopline.errors import LooplineError, Unavailable, from_dict

Work = Callable[[bytes], bytes]
"""What a task gives: it is called with pieces."""
LOST = 3
"""So many workers may be lost by one piece."""


class Handle(Protocol):
    """A piece that was submitted."""

    def result(self) -> bytes:
        """Waits for what came of it. Raises what it failed with, and `Unavailable`."""
        ...


class Workers(Protocol):
    """Workers that are ready for one task."""

    width: int

    def submit(self, piece: bytes) -> Handle:
        """Has a piece done."""
        ...

    def close(self) -> None:
        """Ends the workers."""
        ...


class Executor(Protocol):
    """Where workers are."""

    def start(self, task: str, given: bytes, files: Path) -> Workers:
        """Workers for a task. Raises `Unavailable` where there can be none."""
        ...


def opened(task: str, given: bytes, files: Path) -> Work:
    """A task, as a worker opens it. Raises ValueError for one that is not Loopline's own."""
    module, _, name = task.partition(":")
    if not module.startswith("loopline."):
        raise ValueError(f"{task} is no task of Loopline's")
    return cast(Work, getattr(import_module(module), name)(given, files))


def said(work: Callable[[], bytes]) -> bytes:
    """What a worker says of a piece: what came of it, or the error, in a form that `heard` reads and that runs nothing."""
    try:
        return msgspec.msgpack.encode((work(), None))
    except LooplineError as e:
        return msgspec.msgpack.encode((b"", e.to_dict()))
    except Exception as e:
        return msgspec.msgpack.encode((f"{type(e).__name__}: {e}".encode(), {}))


def heard(answer: bytes) -> bytes:
    """What came of a piece. Raises the error that it failed with."""
    found, error = msgspec.msgpack.decode(answer, type=tuple[bytes, dict[str, object] | None])
    if error:
        raise from_dict(error)
    if error is not None:
        raise RuntimeError(found.decode())
    return found


def lost() -> Unavailable:
    """What is raised of a piece that ends worker after worker."""
    return Unavailable(
        f"{LOST} processes ended, one after the other, that did the same piece of work.",
        code="worker-lost",
        hint="Its memory may not suffice; the system's log says which processes it ended.",
    )
