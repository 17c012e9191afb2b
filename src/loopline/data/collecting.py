"""Sources read into tables: what came, how far it was read, and what no table can take."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import polars as pl

from loopline.data.readers import read_table
from loopline.data.readers_types import check_names, plain
from loopline.data.reconcile import CONTENT, Part
from loopline.data.records import SourceState
from loopline.data.secrets import Opened
from loopline.data.spooled import Aside
from loopline.data.uploads import source_name
from loopline.errors import Invalid
from loopline.failpoints import failpoint
from loopline.hashing import digest_bytes, digest_json, digest_table
from loopline.ports.source import Piece, Refusal, Source
from loopline.quality.blocks import Blocks
from loopline.quality.contract_check import REASON, RULE

log = logging.getLogger("loopline.data")

OpenSource = Callable[[str, dict[str, str], Path], Source]
"""What opens a source: its address, its options, a folder for what it downloads."""

UNREADABLE = "readable"
"""The rule that what no table can take has broken, as a quarantine names it."""


@dataclass
class Read:
    """What one source gave."""

    state: SourceState
    grows: bool
    parts: list[Part] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    formats: set[str] = field(default_factory=set)
    pieces: int = 0

    @property
    def rows(self) -> int:
        """How many rows came, those that cannot be read included."""
        return sum(part.rows.height for part in self.parts) + len(self.refused)

    @property
    def ref(self) -> str:
        """What it was read from, and the digest of what came."""
        came = [*self.digests, digest_json(self.state.position)] if self.grows else self.digests
        digest = came[0] if len(came) == 1 else digest_json(came)
        return f"source:{source_of(self.state.address)}@{digest.partition(':')[2]}"


@contextlib.contextmanager
def opened(state: SourceState, open_source: OpenSource, scratch: Path) -> Iterator[Source]:
    """A source, open; its errors tell no secret."""
    filled = Opened(state.address, state.options)
    with filled.hiding(), contextlib.closing(open_source(filled.address, filled.options, scratch)) as source:
        yield source


def read(source: Source, state: SourceState, scratch: Path, *, after: bool) -> Read:
    """All that a source gives now: behind its position, or (not `after`) from the start."""
    position = state.position if after else None
    if position is not None:
        source.done(position)  # a turn that was ended between its commit and this said so to nobody
    found, aside = Read(state, source.grows), Aside(scratch)
    for piece in source.read(position):
        if piece.file is not None:
            log.debug("reading %s (%s bytes)", piece.name, f"{piece.file.stat().st_size:,}")
        _take(found, piece, source.grows, scratch, aside)
        position = piece.position
        log.debug("read %s, %s rows so far", piece.name, f"{found.rows:,}")
    found.state = msgspec.structs.replace(state, position=position)
    return found


def acknowledge(states: Sequence[SourceState], open_source: OpenSource, scratch: Path) -> None:
    """Says to each source that what it gave is in a version for good. Where one does not answer, the next reading says it."""
    for state in states:
        if state.position is None:
            continue
        failpoint("data.sources.done")
        try:
            with opened(state, open_source, scratch) as source:
                source.done(state.position)
        except Exception as e:
            log.warning("%s could not be told how far it was read, and will be: %s", state.address, e)


def unreadable(refused: Sequence[Refusal]) -> pl.DataFrame:
    """What no table can take, as rows of a quarantine."""
    return pl.DataFrame(
        {
            RULE: [UNREADABLE] * len(refused),
            REASON: [f"{one.place}: {one.reason}" for one in refused],
            CONTENT: [one.content for one in refused],
        },
        schema={RULE: pl.String, REASON: pl.String, CONTENT: pl.Binary},
    )


def _take(found: Read, piece: Piece, grows: bool, scratch: Path, aside: Aside) -> None:
    found.pieces += 1
    found.refused += piece.refused
    found.digests += [digest_json([one.place, one.reason, digest_bytes(one.content)]) for one in piece.refused]
    if piece.rows is not None:
        frame, said = plain(pl.DataFrame(pl.from_arrow(piece.rows)))
        check_names(frame.columns, piece.name)
        rows, digest, form = aside.put(Blocks.of(frame)), digest_table(piece.rows), "rows"
    elif piece.file is not None:
        try:
            table = read_table(piece.file, name=piece.name, scratch=scratch)
        except Invalid as e:
            if not (grows and e.code == "table-empty"):
                raise
            found.told.append(f"{piece.name} has no rows")
            return
        rows = aside.behind_few(table.rows)
        said, digest, form = table.facts.warnings, table.facts.digest, table.format
    else:
        return
    found.parts.append(Part(piece.name, rows))
    found.told += said
    found.digests.append(digest)
    found.formats.add(form)


def source_of(address: str) -> str:
    """An address as it stands in a ref, without who reads and what is asked: a file's name, or scheme, host and path."""
    if "://" not in address:
        return source_name(Path(address).name or address)
    parts = urlsplit(address)
    return source_name(f"{parts.scheme}-{parts.hostname or ''}{parts.path}")
