"""Which files a bundle may hold: text, JSON and ONNX; each looked into, never believed by its name.

Nothing that runs code when it is read: no pickle under any name, no zip (PyTorch, NumPy and skops files are zips around pickles
or can be), no shared library.
"""

from __future__ import annotations

import pickletools
from pathlib import Path

import msgspec

from loopline.errors import Invalid

_LARGEST_TEXT = 512 << 20
_MOST_OPCODES = 10_000


def check_file(path: Path, name: str) -> None:
    """Raises `Invalid` where a file of this name is of a kind that a bundle may not hold, or not what its name says."""
    with path.open("rb") as file:
        head = file.read(4096)
    if is_pickle(head):
        raise _refused(name, "it is a pickle, which runs code when it is read")
    suffix = path.suffix.lower()
    if suffix in (".json", ".txt"):
        if path.stat().st_size > _LARGEST_TEXT:
            raise _refused(name, f"it is a text of more than {_LARGEST_TEXT} bytes")
        data = path.read_bytes()
        if suffix == ".json":
            try:
                msgspec.json.decode(data)
            except (msgspec.DecodeError, RecursionError) as e:
                raise _refused(name, f"it is not JSON ({e})") from e
        elif b"\0" in data or not _is_utf8(data):
            raise _refused(name, "it is not UTF-8 text")
    elif suffix == ".onnx":
        # A protobuf that begins with ir_version (field 1) or, as some producers write it, another low field.
        if not head or head[0] not in (0x08, 0x12, 0x3A, 0x42):
            raise _refused(name, "it is not an ONNX graph")
    else:
        raise _refused(name, f"files ending in {suffix or 'nothing'!r} are not taken")


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin like a pickle: by the mark of protocols 2 to 5, or as opcodes of 0 and 1 that name something to call."""
    if len(head) > 1 and head[0] == 0x80 and head[1] <= 10:
        return True
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(head)):
            if opcode.name in ("GLOBAL", "INST", "REDUCE", "OBJ", "EXT1", "EXT2", "EXT4"):
                return True
            if opcode.name == "STOP" or count > _MOST_OPCODES:
                return False
    except (ValueError, UnicodeError, IndexError, OverflowError):
        return False
    return False


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refused(name: str, why: str) -> Invalid:
    return Invalid(
        f"The bundle cannot be taken: {name!r} is refused, since {why}.",
        code="unsafe-form",
        hint="A bundle holds JSON, text and ONNX files; export the model in one of these forms.",
    )
