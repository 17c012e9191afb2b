"""What versions are found by without looking at each: their run, their source and their tags, as rows of a table with an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.prepared import Prepared
from loopline.registry.records import RUN_FACT, SOURCE_FACT, Condition
from loopline.registry.tables import model_terms
from loopline.tracking.search.columns import same_text

FEW = 500
"""So many versions are looked at one by one; where a condition holds for more, the order is followed instead."""


_NEW = Prepared(model_terms.insert())
_OLD = Prepared(
    model_terms.delete().where(
        *(model_terms.c[key] == sa.bindparam(f"of_{key}") for key in ("project", "name", "version"))
    )
)


def keep(tx: Tx, row: Any) -> None:
    """Writes the terms of a new version, by its row."""
    tx.run(_NEW, of(tx, row))


def change(tx: Tx, row: Any) -> None:
    """Writes the terms of a version anew, by its row."""
    tx.run(_OLD, {"of_project": row.project, "of_name": row.name, "of_version": row.version})
    keep(tx, row)


def of(tx: Tx, row: Any) -> list[dict[str, Any]]:
    """The terms of a version as rows of the table."""
    key = {"project": row.project, "name": row.name, "version": row.version}
    said = {f"tags.{tag}": value for tag, value in row.tags.items()}
    said["run"] = row.facts.get(RUN_FACT) or (row.run or "").removeprefix(tx.ref("run", ""))
    said["source"] = row.facts.get(SOURCE_FACT) or f"loopline:/{tx.ref('model', row.name, row.version)}"
    return [{**key, "term": term, "value": value} for term, value in said.items()]


def narrow(tx: Tx, where: Sequence[Condition]) -> sa.Select[Any] | None:
    """The query for the names and numbers that one of some conditions holds for: the one with the fewest.

    None where no index tells, or all hold for many.
    """
    found = [(len(tx.rows(query.limit(FEW + 1))), query) for one in where if (query := _of(tx, one)) is not None]
    count, query = min(found, key=lambda one: one[0], default=(FEW + 1, None))
    return query if count <= FEW else None


def _of(tx: Tx, one: Condition) -> sa.Select[Any] | None:
    """The query for the versions of a condition; None where it is of a kind that no index answers."""
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    texts = [value for value in values if isinstance(value, str)]
    kept = one.field in ("run", "source") or one.field.startswith("tags.")
    if one.missing or one.op not in ("=", "in") or not kept or len(texts) < len(values) or len(texts) > FEW:
        return None
    c = model_terms.c
    same = same_text(c.value, texts)
    return sa.select(c.name, c.version).where(c.project == tx.project, c.term == one.field, same)
