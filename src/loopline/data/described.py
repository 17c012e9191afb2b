"""What is on record of a dataset version besides its ref, for those who tell of its lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.data.named import Named
from loopline.data.tables import dataset_sources
from loopline.database import Tx
from loopline.ledger.openlineage import Described
from loopline.refs import parse


def described(tx: Tx, ref: str) -> Described | None:
    """What is on record of a dataset version of the transaction's project; nothing for any other ref."""
    named = parse(ref)
    if named.kind != "data" or named.version is None or named.project != tx.project:
        return None
    row: Any = Named(tx).of_ref(ref)
    return Described(
        columns=tuple((column["name"], column["type"]) for column in row.columns),
        rows=row.rows,
        quarantined=row.quarantined,
        broken=row.broken,
        source=row.source,
        address=_address(tx, row),
    )


def _address(tx: Tx, row: Any) -> str:
    """The address of the source, as a URI, where it is one alone; its secrets are names on record."""
    c = dataset_sources.c
    key = (c.project == tx.project, c.name == row.name, c.version == row.version)
    known = tx.first(sa.select(c.sources).where(*key))
    if known is None or len(known.sources) != 1:
        return ""
    address = str(known.sources[0]["address"])
    return address if "://" in address else Path(address).as_uri()
