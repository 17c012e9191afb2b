"""What the ledger hands out: entries, checkpoints, proofs, findings, edges of the lineage."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from loopline.refs import DEFAULT_PROJECT, KINDS

SCHEMA = 1
"""Version of the entries' form. An entry says its own, so that old ones stay readable."""

Recorded = Literal["entry", "digest", "denied"]
"""The class of an entry: a control change, a segment by count and root, a call that was refused."""

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_REF = re.compile(rf"(?:{'|'.join(sorted(KINDS))}):(?:{_PART}/)?{_PART}(?:@{_PART})?")
_DIGEST = re.compile(r"(?:sha256|blake3):[0-9a-f]{64}")
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. It holds refs and digests only: never row values, params, free text or secrets."""

    seq: int
    """Its place, from 0, without gaps."""
    time: int
    """Milliseconds since 1970-01-01 UTC; never before the entry in front of it."""
    operation: str
    principal: str = ""
    project: str = DEFAULT_PROJECT
    record: Recorded = "entry"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    digests: dict[str, str] = {}
    count: int = 0
    """How many items the segment has (class "digest")."""
    behind: int = 0
    """How many milliseconds the machine's clock was behind the entry in front; 0 unless the clock went back."""
    schema: int = SCHEMA


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry as it is kept and hashed: one letter a field, what is usual left out."""

    c: Recorded = "entry"
    b: int = 0
    d: dict[str, str] = {}
    i: tuple[str, ...] = ()
    j: str = DEFAULT_PROJECT
    n: int = 0
    o: str
    p: str = ""
    s: int
    t: int
    u: tuple[str, ...] = ()
    v: int


_encoder = msgspec.json.Encoder(order="sorted")
read_stored = msgspec.json.Decoder(_Stored).decode
"""The stored form of an entry, as it is: for verification, which reads many."""


def check(entry: Entry) -> None:
    """Raises ValueError where an entry would hold something else than names, refs and digests."""
    for ref in (*entry.inputs, *entry.outputs):
        if not _REF.fullmatch(ref):
            raise ValueError(f"{entry.operation} notes {ref!r}, which is no ref")
    for name, digest in entry.digests.items():
        if not _WORD.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise ValueError(f"{entry.operation} notes {name!r}: {digest!r}, which is no named digest")
    if not _WORD.fullmatch(entry.operation):
        raise ValueError(f"{entry.operation!r} is no operation")


def encode(entry: Entry) -> bytes:
    """The canonical JSON (RFC 8785) of an entry, with one-letter names: the bytes that the ledger hashes and keeps."""
    return _encoder.encode(
        _Stored(
            c=entry.record, b=entry.behind, d=entry.digests, i=entry.inputs, j=entry.project, n=entry.count,
            o=entry.operation, p=entry.principal, s=entry.seq, t=entry.time, u=entry.outputs, v=entry.schema,
        )
    )  # fmt: skip


def decode(body: bytes | str) -> Entry:
    """The entry that `encode` wrote. Raises msgspec.ValidationError or DecodeError on anything else."""
    s = read_stored(body)
    return Entry(
        seq=s.s, time=s.t, operation=s.o, principal=s.p, project=s.j, record=s.c, inputs=s.i, outputs=s.u,
        digests=s.d, count=s.n, behind=s.b, schema=s.v,
    )  # fmt: skip


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement of the ledger's size and Merkle root; `note` is the C2SP signed note."""

    size: int
    root: str
    """"sha256:" and hex."""
    time: int
    note: str
    copy: str = ""
    """The file outside the workspace, where it is written."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """That an entry is in the ledger a checkpoint speaks of (RFC 9162, 2.1.3); the stand-alone verifier checks it."""

    entry: str
    """The entry's canonical JSON, the bytes that are hashed."""
    seq: int
    size: int
    path: tuple[str, ...]
    """Hashes in hex, from the leaf upwards."""
    checkpoint: str
    key: str
    """The verifier's key as in C2SP signed-note: compare it with the one you trust."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that verification found."""

    kind: str
    severity: Literal["error", "warning"]
    message: str
    hint: str
    seq: int | None = None


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What verification found; `ok`: no errors (warnings may stand)."""

    ok: bool
    size: int
    root: str
    checkpoints: int
    """How many different checkpoints agreed with the entries, here and outside."""
    copies: int
    """How many of them lie outside the workspace."""
    unsigned: int
    """Entries after the newest checkpoint: nothing signed speaks of them yet."""
    findings: tuple[Finding, ...] = ()


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the lineage: `target` was made from `source` by the call that entry `seq` records."""

    source: str
    target: str
    operation: str
    seq: int
    time: int
    depth: int


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """The way back from a ref (or forward), nearest first; `ends` are the refs from which nothing leads on."""

    ref: str
    direction: Literal["back", "forward"]
    edges: tuple[Edge, ...]
    ends: tuple[str, ...]
    digests: dict[str, dict[str, str]] = {}
    """For each ref made on the way: the digests that its entry noted."""
    cut: bool = False
    """Whether `depth` or the limit of edges ended the walk."""
