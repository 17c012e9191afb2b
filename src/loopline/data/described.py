"""What is on record of a dataset version besides its ref, for those who tell of its lineage."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from loopline.data.collecting import source_of
from loopline.data.named import Named
from loopline.data.tables import dataset_contracts, dataset_sources
from loopline.database import Tx
from loopline.ledger.openlineage import Asserted, Described
from loopline.quality.contract import Contract
from loopline.refs import parse

_URI = "/:?#@!$&'()*+,;=%"
"""What may stand in the path and the query of a URI besides letters, digits and `-._~` (RFC 3986)."""


def described(tx: Tx, ref: str) -> Described | None:
    """What is on record of a dataset version of the transaction's project; nothing for any other ref."""
    named = parse(ref)
    if named.kind != "data" or named.version is None or named.project != tx.project:
        return None
    row: Any = Named(tx).of_ref(ref)
    return Described(
        columns=tuple((column["name"], column["type"]) for column in row.columns),
        rows=row.rows,
        files=row.files,
        bytes=row.bytes,
        quarantined=row.quarantined,
        asserted=_asserted(tx, row),
        addresses=_addresses(tx, row),
    )


def _asserted(tx: Tx, row: Any) -> tuple[Asserted, ...]:
    """The rules of its contract, and those that every reading has (`schema`, `readable`) where rows broke them."""
    rules = []
    if row.contract:
        c = dataset_contracts.c
        body = tx.scalar(sa.select(c.body).where(c.project == tx.project, c.digest == row.contract))
        rules = [*Contract.from_dict(body).rules]
    broken = {**row.broken, **row.warned}
    asked = [
        Asserted(
            kind=str(rule.__struct_config__.tag),
            name=rule.title,
            column=rule.columns_named[0] if len(rule.columns_named) == 1 else "",
            warns=rule.severity == "warn",
            kept=rule.title not in broken,
        )
        for rule in rules
    ]
    more = broken.keys() - {rule.name for rule in asked}
    return (*asked, *(Asserted(kind=name, name=name, column="", warns=False, kept=False) for name in sorted(more)))


def _addresses(tx: Tx, row: Any) -> dict[str, str]:
    """The address of each source, as a URI, by the name of its ref; its secrets are names on record."""
    c = dataset_sources.c
    key = (c.project == tx.project, c.name == row.name, c.version == row.version)
    known = tx.first(sa.select(c.sources).where(*key))
    found = [str(source["address"]) for source in known.sources] if known is not None else []
    return {source_of(address): _uri(address) for address in found}


def _uri(address: str) -> str:
    """An address as a URI: what must not stand in one is escaped, such as the braces of a secret's name."""
    if "://" not in address:
        return Path(address).as_uri()
    scheme, _, rest = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", address).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{quote(host, safe=f'{_URI}[]')}{slash}{quote(path, safe=_URI)}"
