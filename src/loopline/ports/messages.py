"""Messages of a stream as rows: what a message must be to become one, and where a piece of a stream ends.

A message that one reader would take and another would not is refused here, alone, with the reason: a whole file of messages is
never refused for one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from loopline.ports.source import Piece, Position, Refusal

MOST_ROWS = 100_000
"""Messages of a piece."""

_MOST_BYTES = 32 << 20
_MOST_CELLS = 20_000_000
_MOST_COLUMNS = 5_000
_LARGEST = 16 << 20  # bytes of a message
_DEEPEST = 32
_SPACED = re.compile(rb'"\s+:')

Beside = Mapping[str, Any]
"""What is known of a message beside its content, by the name of its column: the topic, the time."""


class Form(Protocol):
    """How messages are read as rows of one piece."""

    def add(self, content: bytes, beside: Beside) -> None:
        """Takes a message as the next row. Raises `ValueError` with the reason where it is none."""
        ...

    @property
    def width(self) -> int:
        """Columns so far."""
        ...

    def rows(self) -> Path | pa.Table:
        """All rows; the next message begins anew."""
        ...


class Messages:
    """Messages taken for one piece after another, and those that could not be."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._begin()

    def _begin(self) -> None:
        self._rows = 0
        self._bytes = 0
        self._refused: list[Refusal] = []

    def add(self, place: str, content: bytes | None, beside: Beside) -> None:
        """Takes one message, as a row or as refused."""
        self._bytes += len(content or b"")
        try:
            if content is None:
                raise ValueError("it has no content (a tombstone)")
            if len(content) > _LARGEST:
                raise ValueError(f"it has {len(content):,} bytes, and {_LARGEST:,} are the most that a row may")
            self._form.add(content, beside)
            self._rows += 1
        except ValueError as e:
            self.refuse(place, str(e), content or b"")

    def refuse(self, place: str, reason: str, content: bytes = b"") -> None:
        """Tells of what cannot be taken, or is not there any more."""
        self._refused.append(Refusal(place, reason, content))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self._rows and not self._refused

    @property
    def full(self) -> bool:
        """Whether the piece ends here, which the messages alone decide."""
        return (
            self._rows + len(self._refused) >= MOST_ROWS
            or self._bytes >= _MOST_BYTES
            or self._rows * self._form.width >= _MOST_CELLS
        )

    def piece(self, name: str, position: Position) -> Piece:
        """What was taken since the last piece."""
        found = self._form.rows() if self._rows else None
        refused = tuple(self._refused)
        self._begin()
        if isinstance(found, Path):
            return Piece(name=name, position=position, file=found, refused=refused)
        return Piece(name=name, position=position, rows=found, refused=refused)


class JsonLines:
    """Messages that are JSON objects, as a file of NDJSON. With `value`, single values are taken, too: as a column of that name."""

    def __init__(self, folder: Path, value: str = "") -> None:
        self._path = folder / "messages.ndjson"
        self._value = value
        self._lines: list[bytes] = []
        self._columns: set[str] = set()

    @property
    def width(self) -> int:
        """Columns so far."""
        return len(self._columns)

    def add(self, content: bytes, beside: Beside) -> None:
        """Takes a JSON text as a line. Raises `ValueError` where it is no row."""
        try:
            found = msgspec.json.decode(content)
        except (ValueError, RecursionError) as e:
            raise ValueError(f"it is not JSON: {e}") from e
        if self._value and isinstance(found, int | float | str):
            found = {self._value: found}
            content = msgspec.json.encode(found)
        if not isinstance(found, dict):
            raise ValueError("it is JSON, but no object")
        self._check(content, found, beside)
        line = content.strip().translate(_ONE_LINE)
        if beside:
            line = msgspec.json.encode(beside)[:-1] + b"," + line[1:]
        self._lines.append(line)

    def _check(self, content: bytes, found: dict[str, Any], beside: Beside) -> None:
        if taken := beside.keys() & found.keys():
            raise ValueError(f"it has a key {min(taken)!r}, which is the name of a column beside it")
        if content.count(b"{") + content.count(b"[") > _DEEPEST:
            _check_depth(found)
        if (
            not found
            or not found.keys() <= self._columns
            or any(isinstance(value, dict | list) for value in found.values())
        ):
            columns = list(_columns(found))
            names = [name for name, _ in columns]
            if not any(holds for _, holds in columns):
                raise ValueError("it has no value that a column can hold")
            if len(set(names)) < len(names):
                raise ValueError("it has two values for one column")
            if len(self._columns.union(names)) > _MOST_COLUMNS:
                raise ValueError(f"with its keys there are more than {_MOST_COLUMNS:,} columns")
            self._columns.update(names, beside)
        if (name := key_twice(content, found)) is not None:
            raise ValueError(f"it has the key {name!r} twice in one object")

    def rows(self) -> Path:
        """The file; it is there until the next one is asked for."""
        with self._path.open("wb") as file:
            file.writelines(line + b"\n" for line in self._lines)
        self._lines, self._columns = [], set()
        return self._path


class Texts:
    """Messages as they are, each a text in a column of the name `value`."""

    def __init__(self, value: str) -> None:
        self._value = value
        self._rows: list[dict[str, Any]] = []

    @property
    def width(self) -> int:
        """Columns so far."""
        return 1

    def add(self, content: bytes, beside: Beside) -> None:
        """Takes a text. Raises `ValueError` where the bytes are none."""
        self._rows.append({**beside, self._value: text_of(content)})

    def rows(self) -> pa.Table:
        """The texts as a table."""
        kept, self._rows = self._rows, []
        return pa.Table.from_pylist(kept)


def text_of(content: bytes) -> str:
    """Bytes as a text. Raises `ValueError` with the place of what is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise ValueError(f"it is not UTF-8: the byte {e.start + 1} (0x{content[e.start]:02x}) has no meaning") from e


def keys_once(content: bytes, keys: int) -> bool:
    """Whether no object of a JSON text can have a key twice, by how many keys it was read as having. False: look closer."""
    # A quotation mark and a colon end each key: where there are no more of them than keys, none was given twice.
    return content.count(b'":') == keys and not _SPACED.search(content)


def key_twice(content: bytes, found: Mapping[str, Any]) -> str | None:
    """A key that an object of a JSON text has twice: which value holds is anybody's guess. `found` is what it was read as."""
    if keys_once(content, len(found)):
        return None
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                twice.append(name)
            seen.add(name)

    json.loads(content, object_pairs_hook=once)
    return twice[0] if twice else None


def _columns(found: dict[str, Any], above: str = "") -> Iterator[tuple[str, bool]]:
    """The names of an object's columns, dotted for objects in it, and whether there will be one: of lists there is none.

    Raises `ValueError` for a name that no column can have.
    """
    for name, value in found.items():
        pattern = name.endswith("$") and (name.startswith("^") or above.startswith("^"))  # of several columns
        if not name.strip() or name == "*" or pattern:
            raise ValueError(f"it has a key {name[:40]!r}, which cannot name a column")
        if isinstance(value, dict) and value:
            yield from _columns(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", not isinstance(value, dict | list)


def _check_depth(found: Any, left: int = _DEEPEST) -> None:
    if isinstance(found, dict | list):
        if not left:
            raise ValueError(f"its values are nested more than {_DEEPEST} deep")
        for value in found.values() if isinstance(found, dict) else found:
            _check_depth(value, left - 1)


_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # in JSON a line may only break between values
