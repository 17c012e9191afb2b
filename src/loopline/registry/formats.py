"""Which files a bundle may hold, each looked into, never believed by its name.

Nothing that runs code when it is read: no pickle under any name, no zip but a skops file, whose members are JSON and arrays of
numbers, no shared library. What is code (`.py`, the programs of PyTorch and TensorFlow) is looked at and not opened here; where it
may run is for packaging to say.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import msgspec

from loopline.errors import Invalid
from loopline.registry import safetensors

_LARGEST_TEXT = 512 << 20
_LARGEST_PROGRAM = 1 << 30
_HEAD = 64 << 10
_MOST_MEMBERS = 10_000
_NEWEST_PROTOCOL = 10  # of which 5 are there yet
_INDEX_END = bytes.fromhex("57fb808b247547db")
_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}")


def check_file(path: Path, name: str) -> None:
    """Raises `Invalid` where a file of this name is of a kind that a bundle may not hold, or not what its name says."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":  # its length may begin like a pickle
        _check_tensors(path, name)
        return
    if _SHARD.fullmatch(suffix):  # a SavedModel's numbers, of any bits
        return
    if is_pickle(head, whole=len(head) < _HEAD):
        raise _refused(name, "it is a pickle, which runs code when it is read")
    if suffix in (".json", ".txt", ".py", ".csv"):
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
    elif suffix == ".ubj":
        if not head.startswith(b"{L"):
            raise _refused(name, "it is not UBJSON as XGBoost writes it")
    elif suffix == ".npy":
        _check_array(head, name)
    elif suffix == ".skops":
        _check_skops(path, name)
    elif suffix in (".pt2", ".pt"):
        _check_program(path, name)
    elif suffix == ".pb":
        if not head or head[0] not in (0x08, 0x09, 0x0A, 0x10, 0x12):
            raise _refused(name, "it is not a file of a SavedModel")
    elif suffix == ".index":
        if path.read_bytes()[-8:] != _INDEX_END:
            raise _refused(name, "it is not the index of a SavedModel's variables")
    else:
        raise _refused(name, f"files ending in {suffix or 'nothing'!r} are not taken")


def _check_array(head: bytes, name: str) -> None:
    """NumPy's own form: its header is a literal, and an array of objects is a pickle."""
    if not head.startswith(b"\x93NUMPY"):
        raise _refused(name, "it is not an array of NumPy")
    if b"O" in head[: head.find(b"\n") + 1].partition(b"'descr':")[2].partition(b"'fortran")[0]:
        raise _refused(name, "it is an array of objects, which is a pickle")


def _check_skops(path: Path, name: str) -> None:
    """A zip of a schema and arrays, whole by its checksums, none of them larger than it may be."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _LARGEST_TEXT:
                raise _refused(name, f"it unpacks to more than {_MOST_MEMBERS} files or {_LARGEST_TEXT} bytes")
            for member in members:
                inner = PurePosixPath(member.filename)
                if inner.name != member.filename or inner.suffix not in (".json", ".npy", ".npz"):
                    raise _refused(name, f"it holds {member.filename!r}")
                data = file.read(member)
                if inner.suffix == ".npy":
                    _check_array(data[:_HEAD], f"{name}/{member.filename}")
                elif is_pickle(data[:_HEAD], whole=len(data) < _HEAD):
                    raise _refused(name, f"its {member.filename!r} is a pickle")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as e:
        raise _refused(name, f"it is not a whole skops file ({e})") from e


def _check_tensors(path: Path, name: str) -> None:
    """Weights and nothing else; see `registry.safetensors`."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = safetensors.header_size(file.read(9), size)
            file.seek(0)
            safetensors.tensors(file.read(8 + length), size)
    except ValueError as e:
        raise _refused(name, f"it is not safetensors: {e}") from e


def _check_program(path: Path, name: str) -> None:
    """A whole archive of torch.export (.pt2) or of TorchScript (.pt), and no checkpoint, which is a pickle."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.namelist()
            sizes = sum(member.file_size for member in file.infolist())
            if len(members) > _MOST_MEMBERS or sizes > _LARGEST_PROGRAM:
                raise _refused(name, f"it unpacks to more than {_MOST_MEMBERS} files or {_LARGEST_PROGRAM} bytes")
            if file.testzip() is not None:
                raise _refused(name, "it is damaged")
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as e:
        raise _refused(name, f"it is not a whole archive ({e})") from e
    inside = {member.partition("/")[2] for member in members}
    if path.suffix.lower() == ".pt2":
        if not any(one.startswith("models/") for one in inside):
            raise _refused(name, "it is not an archive of torch.export")
    elif "constants.pkl" not in inside or not any(one.startswith("code/") for one in inside):
        raise _refused(name, "it is no TorchScript; a checkpoint is a pickle, which runs code when it is read")


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
        hint="A bundle holds JSON, text, ONNX, safetensors, the safe forms of XGBoost and skops, and signed programs.",
    )
