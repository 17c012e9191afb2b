"""Operations: what can be asked of a platform, each declared once.

A room's `verbs.py` holds a Protocol whose methods are declared by `@operation`. From the declaration come the HTTP route and
its OpenAPI entry, the remote client's method, the permission check and the ledger entry; `app.py` binds it to the service.
This module only declares: it imports no SQL and no HTTP.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, get_type_hints

import msgspec

from loopline.errors import Invalid

Action = Literal[
    "any", "read", "read_personal", "run", "send", "register", "deploy", "label", "predict", "approve", "administer", "audit"
]  # fmt: skip
"""What a permission allows; `access/policy.py` says which role may do which. "any": whoever is known."""

Record = Literal["entry", "digest", "none"]
"""How a call is put on the ledger: its own entry, an item of a digested segment, or not at all (reads)."""

F = TypeVar("F", bound=Callable[..., Any])


class Body:
    """Raw bytes that come with a call: a file on this machine, bytes at hand, or an open stream.

    `name` is the file's own name (for its kind), `path` the file where there is one on this machine. `spooled` is the BLAKE3
    digest of a file that was written for this call alone, read-only, and so may be kept as it is. `media` and `encoding` are
    what a request says of its body, in lower case; "": nothing.
    """

    def __init__(
        self,
        source: Path | str | bytes | IO[bytes],
        name: str = "",
        spooled: str = "",
        media: str = "",
        encoding: str = "",
    ) -> None:
        self.path = Path(source) if isinstance(source, str | Path) else None
        self.name = name or (self.path.name if self.path else "")
        self.spooled = spooled
        self.media = media
        self.encoding = encoding
        self._source = source

    @property
    def once(self) -> bool:
        """Whether this is a stream, which can be read only once."""
        return self.path is None and not isinstance(self._source, bytes)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes, a piece at a time."""
        if self.path is not None:
            with self.path.open("rb") as file:
                yield from iter(lambda: file.read(size), b"")
        elif isinstance(self._source, bytes):
            yield self._source
        else:
            stream: Any = self._source
            yield from iter(lambda: stream.read(size), b"")


class Bytes(msgspec.Struct, frozen=True, kw_only=True):
    """Raw bytes as an answer: a file in the store, or bytes at hand, with their media type and, of a blob, their digest."""

    media: str
    data: bytes = b""
    path: str = ""
    name: str = ""
    digest: str = ""

    def read(self) -> bytes:
        """All bytes."""
        return Path(self.path).read_bytes() if self.path else self.data

    def _repr_html_(self) -> str | None:
        """What a notebook shows of a page: the page, in a frame of its own so that no style leaks. None for all else."""
        if self.media != "text/html":
            return None
        return f'<iframe srcdoc="{escape(self.read().decode())}" style="width:100%;height:640px;border:0"></iframe>'

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes, a piece at a time."""
        if self.path:
            with Path(self.path).open("rb") as file:
                yield from iter(lambda: file.read(size), b"")
        else:
            yield self.data


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one operation."""

    name: str
    group: str
    verb: str
    method: str
    path: str
    action: Action
    scope: Literal["project", "instance"]
    record: Record
    prepares: bool
    repeats: bool
    summary: str
    args: Any
    out: Any
    parameters: tuple[str, ...]
    body: str | None

    @property
    def mutates(self) -> bool:
        """Whether a call can change anything."""
        return self.method != "GET"

    @property
    def placed(self) -> tuple[str, ...]:
        """Names of the arguments that stand in the path (the project apart)."""
        return tuple(n for n in re.findall(r"{(\w+)(?::path)?}", self.path) if n != "project")


OPERATIONS: dict[str, Operation] = {}


def check_limit(limit: int, things: str, most: int = 10_000) -> None:
    """Raises `Invalid` where a verb is asked for fewer than one of the things, or for more than it gives at once."""
    if not 1 <= limit <= most:
        raise Invalid(f"limit is {limit}.", code="bad-limit", hint=f"Ask for 1 to {most} {things} at once.")


def operation(
    http: str, *, action: Action, record: Record | None = None, prepares: bool = False, repeats: bool = False
) -> Callable[[F], F]:
    """Declares a verb: its HTTP form ("GET /projects/{project}/..."), permission and class on the ledger.

    `prepares`: the verb does long work (reading a file, fitting) before its first write, so the transaction begins only there.
    `repeats`: the same call again changes nothing by what it says itself, so a client sends no idempotency key with it.
    Arguments that the path does not name travel in the query (GET) or as a JSON body; one argument of type `Body` is the raw
    body. The docstring's first line is the summary that help and OpenAPI show.
    """
    method, path = http.split()

    def declare(function: F) -> F:
        hints = get_type_hints(function)
        out = hints.pop("return")
        parameters = list(inspect.signature(function).parameters.items())[1:]
        body = next((name for name, hint in hints.items() if hint in (Body, Body | None)), None)
        fields = [
            (name, hints[name]) if p.default is p.empty else (name, hints[name], p.default)
            for name, p in parameters
            if name != body
        ]
        group, verb = re.sub(r"Verbs\.", ".", function.__qualname__).lower().split(".")
        name = f"{group}.{verb}"
        if name in OPERATIONS:
            raise TypeError(f"operation {name} is declared twice")
        OPERATIONS[name] = Operation(
            name=name,
            group=group,
            verb=verb,
            method=method,
            path=path,
            action=action,
            scope="project" if "{project}" in path else "instance",
            record=record or ("none" if method == "GET" else "entry"),
            prepares=prepares,
            repeats=repeats,
            summary=(inspect.getdoc(function) or "").split("\n")[0],
            args=msgspec.defstruct(name.replace(".", "_"), fields, kw_only=True, forbid_unknown_fields=True),
            out=out,
            parameters=tuple(name for name, _ in parameters),
            body=body,
        )
        return function

    return declare
