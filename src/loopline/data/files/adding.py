"""A folder as the next version of a dataset of files: read in parallel, and only what the platform does not have is sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blake3 import blake3

from loopline.data.files.pack import packed
from loopline.data.files.scan import Found, collisions, scan, stamp, unreadable
from loopline.data.files.state import State, check_still, now, read_state, write_state
from loopline.data.manifest import LARGEST, WHOLE, Chunk, File, Manifest
from loopline.errors import Invalid, NotFound
from loopline.hashing import digest_bytes
from loopline.operations import Body
from loopline.tracking.working_copy import commit_of

if TYPE_CHECKING:
    from loopline.data.records import DatasetVersion
    from loopline.data.verbs import FilesVerbs

_BATCH = 16 << 20
"""Bytes that are read, and sent, at once."""

_MOST = 2_000
"""Files that are read and sent at once."""

_AVERAGE = 1 << 20
_THREADS = 4


def add(
    files: FilesVerbs, name: str, folder: Path, *, states: Path, message: str = "", facts: dict[str, str] | None = None
) -> DatasetVersion:
    """Makes a folder the next version of a dataset, by the verbs of a session; `states` is where folders are known again from.

    Nothing is named before all is kept. Raises `Refused` and `Invalid` for what cannot be kept, by name, and `Conflict` for a
    file that changes meanwhile.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", code="no-folder", hint="Name the folder that holds the files.")
    if states.resolve().parent.is_relative_to(folder):
        raise Invalid(
            f"{folder} holds the workspace itself.", code="workspace-inside", hint="Add the folder of the files alone."
        )
    begun, found = now(), scan(folder)
    if found.odd:
        raise found.odd[min(found.odd)]
    sender = _Sender(files, name)
    kept = _known(sender, read_state(states, folder), found)
    new = [path for path in found.files if path not in kept]
    small = [path for path in new if found.files[path].st_size < WHOLE]
    with ThreadPoolExecutor(_THREADS) as pool:
        reading = [pool.submit(_small, sender, folder, some) for some in _batches(small, found.files)]
        try:
            for path in sorted(set(new) - set(small)):
                kept[path] = _large(sender, pool, folder, path, found.files[path])
            for done in reading:
                kept.update((file.path, file) for file in done.result())
        finally:
            for done in reading:
                done.cancel()
    manifest = Manifest(
        files=tuple(kept[path] for path in sorted(kept)),
        links=tuple(found.links[path] for path in sorted(found.links)),
        folders=tuple(sorted(found.folders)),
    )
    told = {**commit_of(folder), **(facts or {})}
    if same := collisions(kept):
        told["case"] = f"{' and '.join(same[0])} differ in upper and lower case alone; so do {len(same) - 1:,} more"
    version = files.add(name, Body(manifest.encoded(), name="manifest.json"), message=message, facts=told)
    stamps = {path: stamp(there) for path, there in found.files.items()}
    write_state(states, folder, State(ref=version.ref, manifest=manifest, stamps=stamps, time=begun))
    return version


class _Sender:
    """Objects on their way to a dataset: those that the platform has not."""

    def __init__(self, files: FilesVerbs, name: str) -> None:
        self.files = files
        self.name = name

    def missing(self, digests: Iterable[str]) -> set[str]:
        asked = tuple(dict.fromkeys(digests))
        return set(self.files.missing(self.name, asked)) if asked else set()

    def send(self, objects: list[tuple[str, bytes]]) -> None:
        missing = self.missing(digest for digest, _ in objects)
        if wanted := {digest: data for digest, data in objects if digest in missing}:
            self.files.put(self.name, Body(packed(wanted.items()), name="objects.pack"))


def _known(sender: _Sender, state: State | None, found: Found) -> dict[str, File]:
    """The files that have not changed since they were looked at, and whose objects the platform has."""
    trusted = state.unchanged() if state is not None else {}
    same = {
        path: file
        for path, (mark, file) in trusted.items()
        if (there := found.files.get(path)) is not None
        and stamp(there) == mark
        and _executable(there) == file.executable
    }
    missing = sender.missing(part.digest for file in same.values() for part in file.objects)
    return {path: file for path, file in same.items() if not any(part.digest in missing for part in file.objects)}


def _batches(paths: list[str], found: dict[str, os.stat_result]) -> Iterator[list[tuple[str, os.stat_result]]]:
    some: list[tuple[str, os.stat_result]] = []
    size = 0
    for path in paths:
        some.append((path, found[path]))
        size += found[path].st_size
        if size >= _BATCH or len(some) >= _MOST:
            yield some
            some, size = [], 0
    if some:
        yield some


def _small(sender: _Sender, folder: Path, some: list[tuple[str, os.stat_result]]) -> list[File]:
    files, objects = [], []
    for path, there in some:
        with _opened(f"{folder}/{path}", there) as file:
            data = file.read(there.st_size)  # one that grows meanwhile is told from its stamp
        digest = digest_bytes(data)
        objects.append((digest, data))
        files.append(File(path=path, size=len(data), digest=digest, executable=_executable(there)))
    sender.send(objects)
    return files


def _large(sender: _Sender, pool: ThreadPoolExecutor, folder: Path, path: str, there: os.stat_result) -> File:
    """A file cut where its content says so, by FastCDC (Xia et al. 2020): a change moves the cuts near it alone."""
    from pyfastcdc import FastCDC

    whole, chunks = blake3(), list[Chunk]()
    objects: list[tuple[str, bytes]] = []
    sending: list[Future[None]] = []
    cutter = FastCDC(_AVERAGE, min_size=_AVERAGE // 4, max_size=LARGEST)
    with _opened(f"{folder}/{path}", there) as file:
        for part in cutter.cut_stream(file):
            data = bytes(part.data)
            whole.update(data)
            chunks.append(Chunk(digest_bytes(data), len(data)))
            objects.append((chunks[-1].digest, data))
            if len(objects) * _AVERAGE >= _BATCH:
                sending.append(pool.submit(sender.send, objects))
                objects = []
                if len(sending) > 2 * _THREADS:  # what waits is in memory
                    sending.pop(0).result()
    sending.append(pool.submit(sender.send, objects))
    for sent in sending:
        sent.result()
    return File(
        path=path,
        size=there.st_size,
        digest=f"blake3:{whole.hexdigest()}",
        executable=_executable(there),
        chunks=tuple(chunks),
    )


@contextlib.contextmanager
def _opened(path: str, there: os.stat_result) -> Iterator[BinaryIO]:
    """A file to read that is the one that was found, and still is when it was read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as file:
            yield file
            check_still(path, there, os.fstat(file.fileno()))
    except OSError as e:
        raise unreadable(path, e) from e


def _executable(there: os.stat_result) -> bool:
    return bool(there.st_mode & 0o100)
