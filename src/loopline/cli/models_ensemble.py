"""`loopline models ensemble`: a bundle of several models and what is made of their answers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names
from loopline.cli.models_packaged import INT8, OUT, PATH, said, signing
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.packaging.ensemble import Ensemble


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rows", type=PATH, required=True, metavar="FILE", help="Raw validation rows, with the label.")
@click.option("--label", required=True, metavar="COLUMN", help="The column of the rows that it predicts.")
@click.option("--train", type=PATH, metavar="FILE", help="Training rows, where the ensemble declares steps.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="From which probability on a row is positive.")
@INT8
@OUT
@as_json
@click.pass_context
def ensemble(
    ctx: click.Context,
    file: Path,
    rows: Path,
    label: str,
    train: Path | None,
    threshold: float | None,
    int8: float | None,
    out: Path | None,
    json: bool,
) -> None:
    """Make a signed bundle of the ensemble that FILE (.toml, .json or .py) declares: models, and what is made of their answers.

    Where all of its models are ONNX and one graph of them agrees on the rows, that serves; else each model answers in its own form,
    in a process beside the server. Nothing is registered: see `models push`.
    """
    import time

    from loopline.data.readers import read_table
    from loopline.packaging.ensemble_packaging import package_ensemble
    from loopline.packaging.opening import opening_of
    from loopline.packaging.pulling import pull

    settings, signer = signing(ctx)
    declared = _declared(file)
    folder = out or Path(f"{declared.name}-bundle")
    with contextlib.ExitStack() as opened:

        def fetch(text: str, into: Path) -> str:
            registry = opened.enter_context(session(ctx))
            return pull(registry.models, *names.model_number(registry, text), into).ref

        made = package_ensemble(
            declared,
            folder,
            fetch=fetch,
            rows=read_table(rows).frame,
            label=label,
            train=None if train is None else read_table(train).frame,
            threshold=threshold,
            signer=signer,
            created=time.time_ns() // 1_000_000,
            opening=opening_of(settings),
            int8=int8,
        )
    said(made, folder, json)


def _declared(file: Path) -> Ensemble:
    """The one ensemble of a file. Raises `Invalid`."""
    from loopline.packaging.ensemble import Ensemble, read_ensemble, refused

    if file.suffix != ".py":
        return read_ensemble(file)
    from loopline.loop.files import declared

    found = declared(file, Ensemble)
    if len(found) != 1:
        raise refused(f"of {file}", f"it declares {len(found)} of them", "Declare one: ll.Ensemble(name=..., ...).")
    return next(iter(found.values()))
