"""The lineage: which refs a ref was made from, and what was made of it, read off the entries."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid, NotFound
from loopline.ledger.log import link_key
from loopline.ledger.records import Edge, Entry, Lineage, decode
from loopline.ledger.tables import entries, links
from loopline.refs import parse

_AT_ONCE = 500
_EDGES = 10_000


def lineage(tx: Tx, ref: str, direction: Literal["back", "forward"] = "back", depth: int = 50) -> Lineage:
    """The walk from a ref over the entries of the transaction's project, nearest first.

    An entry leads from each of its inputs to each of its outputs. Entries of other projects are not looked at. Raises `NotFound`
    where no entry of the project names the ref, `Invalid` where it is none.
    """
    named = parse(ref, project=tx.project)
    start = str(named)
    if depth < 1:
        raise Invalid(f"depth is {depth}.", code="bad-depth", hint="Give 1 or more.")
    edges: list[Edge] = []
    digests: dict[str, dict[str, str]] = {}
    seen, level, leading = {start}, [start], set[str]()
    known, cut = False, False
    for distance in range(1, depth + 2):
        found = _naming(tx, level) if named.project == tx.project else []
        known = known or bool(found)
        wanted, level = set(level), []
        if distance > depth:
            cut = any(near in wanted and far for entry in found for near, far in _steps(entry, direction))
            break
        for entry in found:
            for made in wanted.intersection(entry.outputs):
                digests.setdefault(made, {}).update(entry.digests)
            for near, far in _steps(entry, direction):
                if near not in wanted:
                    continue
                for other in far:
                    if not _here(tx, other):
                        continue
                    leading.add(near)
                    source, target = (other, near) if direction == "back" else (near, other)
                    edges.append(
                        Edge(
                            source=source,
                            target=target,
                            operation=entry.operation,
                            seq=entry.seq,
                            time=entry.time,
                            depth=distance,
                        )
                    )
                    if other not in seen:
                        seen.add(other)
                        level.append(other)
        if len(edges) > _EDGES:
            edges, cut = edges[:_EDGES], True
            break
        if not level:
            break
    if not known:
        raise NotFound(
            f"No entry of project {tx.project!r} names {start}.",
            code="ref-not-found",
            hint="Give a ref with its version, as the ledger has it: for example model:visits@3.",
        )
    return Lineage(
        ref=start,
        direction=direction,
        edges=tuple(edges),
        ends=tuple(sorted(seen - leading)),
        digests={made: noted for made, noted in digests.items() if noted},
        cut=cut,
    )


def made_of(tx: Tx, ref: str) -> list[str]:
    """All that the project's entries made of a thing, however far on and however much it is, nearest first."""
    found: dict[str, None] = {}
    level = [ref]
    while level:
        wanted, last = set(level), level
        level = []
        for entry in _naming(tx, last, most=None):
            if wanted.intersection(entry.inputs):
                new = [one for one in entry.outputs if one not in found and one != ref and _here(tx, one)]
                found |= dict.fromkeys(new)
                level += new
    return [*found]


def made_from(tx: Tx, ref: str) -> list[str]:
    """The inputs of the project's entries that made a thing, by its ref as printed in full, the oldest entry's first."""
    found = dict.fromkeys(one for entry in _naming(tx, [ref]) if ref in entry.outputs for one in entry.inputs)
    return [one for one in found if one != ref]


def _here(tx: Tx, ref: str) -> bool:
    """Whether a thing is of the project: one entry of the instance (a collection of the log) may be about several."""
    return "/" not in ref or parse(ref).project == tx.project


def _steps(entry: Entry, direction: str) -> list[tuple[str, list[str]]]:
    """The entry's steps, seen from one side: (ref, what lies one step on)."""
    near, far = (entry.outputs, entry.inputs) if direction == "back" else (entry.inputs, entry.outputs)
    return [(ref, [other for other in far if other != ref]) for ref in near]


def _naming(tx: Tx, refs: list[str], most: int | None = _EDGES) -> list[Entry]:
    """The project's entries that name one of the refs, in order; `most` of each 500 refs (None: all)."""
    numbers: set[int] = set()
    wanted = set(refs)
    found = []
    for at in range(0, len(refs), _AT_ONCE):
        some = [link_key(ref) for ref in refs[at : at + _AT_ONCE]]
        rows = tx.rows(
            sa.select(entries.c.seq, entries.c.body)
            .join(links, links.c.seq == entries.c.seq)
            .where(links.c.key.in_(some))
            .order_by(entries.c.seq)
            .limit(most)
        )
        for row in rows:
            if row.seq not in numbers:
                numbers.add(row.seq)
                entry = decode(row.body)
                if entry.project == tx.project and wanted.intersection(entry.inputs + entry.outputs):
                    found.append(entry)
    return sorted(found, key=lambda entry: entry.seq)
