"""A run and its children as a run bundle, a piece at a time."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from loopline.hashing import canonical_json, digest_bytes
from loopline.ports.blobs import BlobStore
from loopline.tracking.bundle.statement import KEY, LEDGER, STATEMENT, Signer, statement
from loopline.tracking.entries import NUMBERS, entry_text
from loopline.tracking.journal_format import KEY_LENGTH, POINT, POINTS, frame, pack, run_prefix
from loopline.tracking.records import Artifact, Correction, Point, Run

_BATCH = 2 << 20  # bytes of frames
_PIECE = 60_000  # characters of a console
_KEYS = 10  # params or tags in one entry, each of which may have 64,000 characters


class Held(msgspec.Struct, frozen=True):
    """All that a run holds; `points` reads those of a metric."""

    run: Run
    group: str
    artifacts: Sequence[Artifact]
    corrections: Sequence[Correction]
    console: str
    points: Callable[[str], Sequence[Point]]


def bundle(held: Sequence[Held], blobs: BlobStore, proofs: Any, signer: Signer, exported: int) -> Iterator[bytes]:
    """The tar of a run bundle: the run first, then its children, each behind its parent."""
    files: dict[str, str] = {}
    for number, batch in enumerate(_batches(itertools.chain.from_iterable(map(_frames, held))), 1):
        yield from _member(f"journal/{number:06}", batch, files)
    kept: dict[str, int] = {file.digest: file.size for one in held for file in one.artifacts}
    for digest, size in sorted(kept.items()):
        name = f"files/{digest.removeprefix('blake3:')}"
        files[name] = digest
        yield _head(name, size)
        yield from blobs.chunks(digest)
        yield _padding(size)
    yield from _member(LEDGER, canonical_json(proofs), files)
    told = statement(held[0].run.ref, {one.run.id: one.run.creator for one in held}, files, exported)
    envelope = signer.sign(told)
    yield from _member(STATEMENT, canonical_json(envelope), {})
    yield from _member(KEY, signer.public_key(envelope["signatures"][0]["keyid"]).encode(), {})
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, data: bytes, files: dict[str, str]) -> Iterator[bytes]:
    files[name] = digest_bytes(data)
    yield _head(name, len(data))
    yield data
    yield _padding(len(data))


def _head(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _batches(frames: Iterable[bytes]) -> Iterator[bytes]:
    held, size = [], 0
    for one in frames:
        held.append(one)
        size += len(one)
        if size >= _BATCH:
            yield pack(b"".join(held))
            held, size = [], 0
    if held:
        yield pack(b"".join(held))


def _frames(held: Held) -> Iterator[bytes]:
    run, prefix = held.run, run_prefix(held.run.id)

    def said(entry: str, /, **fields: Any) -> bytes:
        return frame(NUMBERS[entry], prefix + entry_text(entry, fields))

    # Params as they were first set; the corrections follow, the value that each of them gave being what stood before the next.
    params, later = dict(run.params), []
    for one in reversed(held.corrections):
        later.append((one, params.get(one.key)))
        params[one.key] = one.value
    yield said(
        "run", name=run.name, created=run.created, kind=run.kind, parent=run.parent, group=held.group,
        inputs=list(run.inputs), environment=run.environment,
    )  # fmt: skip
    for part in _parts(params):
        yield said("params", params=part)
    for one, value in reversed(later):
        yield said("params", params={one.key: value}, reason=f"{one.reason} (by {one.by})")
    for part in _parts(run.tags):
        yield said("tags", tags=part)
    if run.note:
        yield said("note", text=run.note)
    for at in range(0, len(held.console), _PIECE):
        yield said("console", text=held.console[at : at + _PIECE], time=run.created)
    for key in run.metrics:
        yield from _points(prefix, key, held.points(key))
    for file in held.artifacts:
        yield said("artifact", path=file.path, digest=file.digest, size=file.size)
    yield said(
        "finish",
        status=run.status,
        ended=run.ended or run.created,
        message=run.message,
        outputs=list(run.outputs),
    )


def _parts(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Some at a time, so that no entry is too large."""
    items = list(values.items())
    for at in range(0, len(items), _KEYS):
        yield dict(items[at : at + _KEYS])


def _points(prefix: bytes, key: str, points: Sequence[Point]) -> Iterator[bytes]:
    name = key.encode()
    begins = KEY_LENGTH.pack(len(name)) + name
    for at in range(0, len(points), 10_000):
        packed = (begins + POINT.pack(p.step, p.time, p.number) for p in points[at : at + 10_000])
        yield frame(POINTS, prefix + b"".join(packed))
