"""The program of a model's child process: it scores what comes over its pipe, within its bounds, until that ends.

python -m loopline.packaging.scoring FOLDER     (bounds and trusted keys come first on its input)
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from loopline.errors import LooplineError
from loopline.packaging.child import STALL, frame, read
from loopline.packaging.records import Opening
from loopline.packaging.runtime import Session
from loopline.ports.runtime import ModelDown, ModelSlow

GRACE = 5.0
"""Seconds more than it may take, after which the system ends it: who waited for it may be gone."""
ORPHAN = 10.0
"""So many times what it may compute is the time after which one that only waits ends, if nobody ended it before."""


def _say(out: IO[bytes], value: Any) -> None:
    out.write(frame(value))
    out.flush()


def main(folder: Path) -> None:
    """The child: scores frames until its input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the frames
    fd = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # and none may read the frames
    opening = msgspec.msgpack.decode(read(fd), type=Opening)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if opening.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (opening.memory, opening.memory))
    # Whoever started it may be gone while the model never returns: then nothing but the system can end it.
    signal.setitimer(signal.ITIMER_PROF, opening.start + GRACE)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN * opening.start + STALL)
    try:
        session = Session(folder, opening=opening, within=True)
    except LooplineError as e:
        _say(out, e.to_dict())
        return
    signal.setitimer(signal.ITIMER_PROF, 0)
    _say(out, None)
    takes = session.manifest if session.cleaning is None else session.cleaning
    a, b = len(takes.numbers), len(takes.strings)
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            rows, numbers, strings = msgspec.msgpack.decode(read(fd))
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, opening.timeout + GRACE)
        try:
            output = session.score(
                np.frombuffer(numbers, dtype="<f4").reshape(rows, a), np.array(strings, dtype=object).reshape(rows, b)
            )
            found = ("", output.shape, np.ascontiguousarray(output, dtype="<f4").tobytes())
        except MemoryError:
            os._exit(77)  # what it has is not given back by anything else
        except (ModelDown, ModelSlow):
            os._exit(78)  # of an ensemble: it is as good as its members
        except Exception as e:
            found = (f"{type(e).__name__}: {e}", (), b"")
        _say(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
