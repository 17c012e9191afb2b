"""Write a bundle: the folder that serving can serve alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.errors import Conflict
from loopline.failpoints import failpoint
from loopline.features.boundary import Boundary
from loopline.features.records import Signature
from loopline.hashing import canonical_json, digest_file
from loopline.packaging.cleaned import Cleaned
from loopline.packaging.manifest import CLEANING, MANIFEST, MODEL, NATIVE, PARITY, TRANSFORM
from loopline.packaging.parity import convert
from loopline.packaging.records import Manifest
from loopline.packaging.runtime import predict_rows
from loopline.quality.cleaning_rows import RowCleaning
from loopline.training.model import Model

if TYPE_CHECKING:
    import polars as pl


def write_bundle(
    model: Model,
    folder: Path,
    *,
    name: str,
    version: int,
    example: Mapping[str, Any],
    validation_frame: pl.DataFrame,
    created: int,
    cleaning: RowCleaning | None = None,
    signature: Signature | None = None,
) -> Manifest:
    """Write the model in all its forms with its manifest; the folder appears whole or not at all.

    `example` is one raw row; its answer becomes the golden one. Parity on the validation rows chooses the runtime and is kept in
    `parity.json`. `cleaning` is what was fitted and done to rows before the model saw them; the bundle does it to every row, and
    `signature` says what raw rows hold (`features.raw.raw_signature`); without it they are what the model takes. The same model
    gives the same bytes, but for `created` (ms since 1970 UTC) in the manifest. Raises `Invalid` for an example that the
    signature refuses, `Conflict` where the folder exists.
    """
    signature = signature or model.signature
    boundary = Boundary(signature.inputs)
    boundary.decode([example])
    data, parity = convert(model, validation_frame)
    with appearing(folder) as work:
        model.save(work / NATIVE)
        (work / TRANSFORM).write_bytes(canonical_json(model.transform.to_dict()))
        (work / PARITY).write_bytes(canonical_json(parity))
        if cleaning is not None and cleaning.steps:
            taken = Boundary(model.signature.inputs)
            cleaned = Cleaned(cleaning=cleaning, numbers=taken.numbers, strings=taken.strings)
            (work / CLEANING).write_bytes(canonical_json(cleaned))
        if data is not None:
            (work / MODEL).write_bytes(data)
        files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
        manifest = Manifest(
            name=name,
            version=version,
            task=model.task,
            classes=model.classes,
            threshold=model.threshold,
            signature=signature,
            runtime=parity.runtime,
            numbers=boundary.numbers,
            strings=boundary.strings,
            outputs=("value",) if model.task == "regression" else ("probabilities",),
            example=dict(example),
            golden={},
            digests={file: digest_file(work / file) for file in files},
            created=created,
        )
        (work / MANIFEST).write_bytes(canonical_json(manifest))
        golden = predict_rows(work, [example])[0]
        manifest = msgspec.structs.replace(manifest, golden=golden)
        (work / MANIFEST).write_bytes(canonical_json(manifest))
    return manifest


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write a bundle into; with the end of the block it is there under its name, durable, or not at all.

    Raises `Conflict` where there is one.
    """
    if folder.exists():
        raise Conflict(
            f"{folder} exists already.", code="bundle-exists", hint="A bundle is never changed; write a new version."
        )
    work = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        for path in work.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        failpoint("packaging.bundle.before_rename")
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
