"""The program of a worker: it does the pieces that come over its pipe, one after the other, until that ends.

python -m loopline.adapters.processes.worker    (task, what is given to it and its folder come first)
"""

from __future__ import annotations

import os
import struct
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from loopline.ports.executor import Work, opened, said


def write(out: IO[bytes], data: bytes) -> None:
    """One frame: length (u64, little-endian) and bytes."""
    out.write(struct.pack("<Q", len(data)))
    out.write(data)
    out.flush()


def read(file: IO[bytes]) -> bytes:
    """One frame. Raises EOFError at the end."""
    head = file.read(8)
    size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    data = file.read(size)
    if len(head) < 8 or len(data) < size:
        raise EOFError("closed")
    return data


def main() -> None:
    """Works until its input ends."""
    incoming, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints must not get between the frames
    task, given, files = msgspec.msgpack.decode(read(incoming), type=tuple[str, bytes, str])
    work: list[Work] = []

    def do(piece: bytes) -> bytes:
        if not work:  # here, so that an error of it is told as one of a piece
            work.append(opened(task, given, Path(files)))
        return work[0](piece)

    while True:
        try:
            piece = read(incoming)
        except EOFError:
            return
        write(out, said(partial(do, piece)))


if __name__ == "__main__":
    main()
