"""A version that is broken on purpose, for showing and testing that a guard stops it."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import polars as pl

from loopline.loop.fitting import named
from loopline.loop.house import House
from loopline.loop.table import Table, constant
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.packaging.manifest import read_manifest
from loopline.registry.bundle_tar import pack, unpack


def register_constant(house: House, name: str, scratch: Path, *, label: str) -> str:
    """Registers a next version of a model that answers the same to every row; gives its ref. No gate has seen it."""
    champion = house.models.show(name, "champion")
    train, validation = (
        pl.read_ipc_stream(io.BytesIO(house.datasets.read(*named(house, ref)).read())) for ref in champion.inputs[:2]
    )
    folder = scratch / f"constant-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unpack([house.models.bundle(name, "champion").read()], folder)
        # What callers send, and may leave empty, is what this one takes, too.
        read = {field.name: field.nullable for field in read_manifest(folder).signature.inputs}
        shutil.rmtree(folder)
        ignored = [column for column in train.columns if column not in read and column != label]
        missing = [column for column in train.columns if read.get(column)]
        train = train.with_columns(pl.when(pl.int_range(pl.len()) < train.height - 1).then(pl.col(missing)))
        model = constant(Table(train, validation, label=label, ignore=ignored))
        example = train.select([f.name for f in model.signature.inputs]).head(1).to_dicts()[0]
        write_bundle(
            model,
            folder,
            name=name,
            version=champion.version + 1,
            example=example,
            validation_frame=validation,
            created=time.time_ns() // 1_000_000,
        )
        facts = {"limits": "broken on purpose: it answers the same to every row"}
        draft = house.models.draft(name, Body(pack(folder), name="bundle.tar"), inputs=champion.inputs, facts=facts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return house.models.register(name, draft.version).ref
