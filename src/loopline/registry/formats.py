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
_HEAD = 64 << 10
_NEWEST_PROTOCOL = 10  # of which 5 are there yet


def check_file(path: Path, name: str) -> None:
    """Raises `Invalid` where a file of this name is of a kind that a bundle may not hold, or not what its name says."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if is_pickle(head, whole=len(head) < _HEAD):
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


def is_pickle(head: bytes, *, whole: bool) -> bool:
    """Whether bytes begin like a pickle: by the mark of protocols 2 to 5, or as opcodes of 0 and 1 that name something to call.

    A plain text may begin with a few letters that are opcodes; it is a pickle only if nothing but opcodes follows, to the last
    one (or, where `head` is not the `whole` file, to the end of it).
    """
    if len(head) > 1 and head[0] == 0x80 and head[1] <= _NEWEST_PROTOCOL:
        return True
    calls = False
    try:
        for opcode, _, _ in pickletools.genops(head):
            calls = calls or opcode.name in ("GLOBAL", "INST", "REDUCE", "OBJ", "EXT1", "EXT2", "EXT4")
    except (ValueError, IndexError, OverflowError) as e:
        return calls and not whole and "unknown" not in str(e)
    return calls


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
