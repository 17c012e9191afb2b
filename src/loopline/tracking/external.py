"""Data that runs read and that is held elsewhere: what programs say of it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid
from loopline.hashing import digest_json
from loopline.tracking.entries import check_count
from loopline.tracking.records import ExternalDataset, ExternalUse
from loopline.tracking.search.columns import of_groups
from loopline.tracking.shared import number_of
from loopline.tracking.tables import external_datasets, run_external, runs

_MOST = 1_000
_LONGEST = {"name": 500, "digest": 500, "context": 500, "source": 1 << 16, "schema": 1 << 20, "profile": 1 << 24}
_DESCRIBED = ("name", "digest", "source_type", "source", "schema", "profile")


def use(tx: Tx, run: int, datasets: Sequence[ExternalDataset]) -> dict[str, str]:
    """Adds what a run read, whose row the transaction holds; gives the digests of what was said, for the ledger."""
    _check(datasets)
    had = {(known.name, known.digest) for known in of_runs(tx, [run]).get(run, ())}
    place, said = len(had), {}
    for dataset in datasets:
        if (dataset.name, dataset.digest) in had:
            continue
        had.add((dataset.name, dataset.digest))
        described = {name: getattr(dataset, name) for name in _DESCRIBED}
        content = digest_json(described)
        number = number_of(tx, external_datasets, "content", {"content": content, **described})
        row = {"run": run, "place": place, "dataset": number, "context": dataset.context, "tags": dataset.tags}
        tx.execute(run_external.insert(), row)
        place += 1
        said[f"external.{place}"] = content
    if said:
        tx.execute(runs.update().where(runs.c.number == run).values(external=place))
    return said


def of_runs(tx: Tx, numbers: Sequence[int]) -> dict[int, list[ExternalDataset]]:
    """What each of these runs read, in the order in which it was said."""
    found: dict[int, list[ExternalDataset]] = {}
    for row in tx.rows_among(_OF_RUNS, run_external.c.run, numbers):
        described = {name: getattr(row, name) for name in _DESCRIBED}
        found.setdefault(row.run, []).append(ExternalDataset(**described, context=row.context, tags=row.tags))
    return found


_OF_RUNS = (
    sa.select(
        run_external.c.run,
        run_external.c.context,
        run_external.c.tags,
        *(external_datasets.c[name] for name in _DESCRIBED),
    )
    .join(external_datasets, run_external.c.dataset == external_datasets.c.id)
    .order_by(run_external.c.run, run_external.c.place)
)


def used(tx: Tx, groups: Sequence[int], limit: int) -> tuple[ExternalUse, ...]:
    """Which of them the runs of some groups read (none given: of all), by group, name, digest and context."""
    columns = (runs.c.group, external_datasets.c.name, external_datasets.c.digest, run_external.c.context)
    query = (
        sa.select(*columns)
        .distinct()
        .select_from(run_external)
        .join(external_datasets, run_external.c.dataset == external_datasets.c.id)
        .join(runs, run_external.c.run == runs.c.number)
        .where(runs.c.project == tx.project)
        .order_by(*columns)
        .limit(limit)
    )
    if groups:
        query = query.where(of_groups(groups, tx.database.sqlite))
    return tuple(
        ExternalUse(group=row.group, name=row.name, digest=row.digest, context=row.context) for row in tx.rows(query)
    )


def _check(datasets: Sequence[ExternalDataset]) -> None:
    if not 0 < len(datasets) <= _MOST:
        raise Invalid(
            f"{len(datasets)} datasets cannot be told at once.", code="bad-batch", hint=f"Tell 1 to {_MOST:,} of them."
        )
    for dataset in datasets:
        check_count(dataset.tags, "tags")
        if not dataset.name or not dataset.digest:
            raise Invalid(
                "A dataset has no name or no digest.", code="bad-value", hint="Both tell it apart from others."
            )
        for name, most in _LONGEST.items():
            if len(getattr(dataset, name)) > most:
                raise Invalid(
                    f"The {name} of {dataset.name[:60]!r} is too long.",
                    code="too-long",
                    hint=f"At most {most:,} characters.",
                )
        try:
            msgspec.json.encode(dataset)
        except UnicodeEncodeError as e:
            raise Invalid(
                f"What is said of {dataset.name[:60]!r} has no UTF-8 form.", code="not-utf8", hint="Send UTF-8."
            ) from e
