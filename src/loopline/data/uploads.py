"""What comes with a call: a file or a stream on the disk, its name as a ref has it, its rows behind those that are there."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.operations import Body
from loopline.ports.files import disk_errors
from loopline.quality.blocks import Blocks

_TOLD = 5


@contextlib.contextmanager
def on_disk(source: Body, scratch: Path) -> Iterator[Path]:
    """The file behind a body; a stream is written to `scratch` first, since a table is read more than once."""
    if source.path is not None:
        yield source.path
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="upload-", dir=scratch) as file:
        for chunk in source.chunks():
            with disk_errors(scratch):
                file.write(chunk)
        with disk_errors(scratch):
            file.flush()
        yield Path(file.name)


def fitting(rows: Blocks, schema: pl.Schema, ref: str) -> Blocks:
    """Rows as they go behind those of a version, in its columns and types. Raises `Invalid` where they have others."""
    if missing := [column for column in schema if column not in rows.columns]:
        raise Invalid(
            f"The rows cannot go behind those of {ref}: they have no column {missing[0]!r}.",
            code="no-column",
            hint=did_you_mean(missing[0], rows.columns),
        )

    def fit(block: pl.DataFrame) -> pl.DataFrame:
        try:
            return block.select(pl.col(c).cast(kind) for c, kind in schema.items())
        except pl.exceptions.PolarsError as e:
            raise Invalid(
                f"The rows cannot go behind those of {ref}: {str(e).splitlines()[0]}.",
                code="other-types",
                hint="Give each column the type that it has there.",
            ) from e

    return rows.mapped(fit)


def source_name(name: str) -> str:
    """A file's name as it can stand in a ref: its ASCII letters, digits, `.`, `_` and `-`."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name).strip("-._")
    return kept[:100] or "bytes"


def told(warnings: Sequence[str]) -> dict[str, str]:
    """What reading a file had to say of it, as a fact of the version."""
    more = [f"and {len(warnings) - _TOLD} more"] if len(warnings) > _TOLD else []
    return {"told": "; ".join([*warnings[:_TOLD], *more])} if warnings else {}
