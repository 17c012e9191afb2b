"""`loopline models`: bundles as folders: made of other libraries' models and of code, sent to the registry, fetched from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, is_there, session, settings_of

if TYPE_CHECKING:
    from loopline.packaging.records import Manifest
    from loopline.packaging.signing import ModelSigner
    from loopline.settings import Settings

PATH = click.Path(path_type=Path)
INT8 = click.option(
    "--int8", type=click.FloatRange(0, 1, min_open=True), metavar="AT_MOST",
    help="Serve the 8-bit form where its answers differ by no more than this.",
)  # fmt: skip
OUT = click.option("-o", "--out", type=PATH, metavar="FOLDER", help="Where the bundle goes (default: NAME-bundle).")


@click.command()
@click.argument("form", type=PATH)
@click.option(
    "--as", "kind", type=click.Choice(["onnx", "lightgbm", "xgboost", "skops", "pytorch", "tensorflow", "code"]), required=True,
    help="What FORM is.",
)  # fmt: skip
@click.option("--name", required=True, help="The model's name.")
@click.option("--rows", type=PATH, required=True, metavar="FILE", help="Validation rows: its columns, and the label.")
@click.option("--label", required=True, metavar="COLUMN", help="The column of the rows that it predicts.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="From which probability on a row is positive.")
@INT8
@OUT
@as_json
@click.pass_context
def package(
    ctx: click.Context,
    form: Path,
    kind: str,
    name: str,
    rows: Path,
    label: str,
    threshold: float | None,
    int8: float | None,
    out: Path | None,
    json: bool,
) -> None:
    """Make a signed bundle of FORM: an .onnx graph, LightGBM's .txt, XGBoost's .ubj or .json, a .skops file, PyTorch's .pt2 or
    .pt, a folder of model.py and model.safetensors (--as pytorch), a SavedModel's folder (--as tensorflow), or a folder of code
    with model.py.

    The rows decide what serves: the ONNX form where it agrees with the library itself, else that one, in a process of its own;
    with --int8 the 8-bit form where it agrees so far. Nothing is registered: see `models push`.
    """
    import time

    from loopline.data.readers import read_table
    from loopline.packaging.foreign import package as write
    from loopline.refs import check_name

    _, signer = signing(ctx)
    folder = out or Path(f"{check_name(name, 'name of a model')}-bundle")
    made = write(
        form,
        folder,
        kind=kind,  # type: ignore[arg-type]  # click.Choice holds it to these words
        name=name,
        rows=read_table(rows).frame,
        label=label,
        threshold=threshold,
        int8=int8,
        signer=signer,
        created=time.time_ns() // 1_000_000,
    )
    said(made, folder, json)


def signing(ctx: click.Context) -> tuple[Settings, ModelSigner]:
    """The settings of the workspace at hand, and its key for bundles. A workspace is made where there is none."""
    from loopline.packaging.signing import ModelSigner

    settings = settings_of(ctx)
    if not is_there(settings):
        from loopline.app import Platform

        Platform.open(settings).close()
        click.echo(f"The workspace {settings.workspace} is new; its key signs what is packaged here.", err=True)
    return settings, ModelSigner(settings.workspace / "keys")


def said(made: Manifest, folder: Path, json: bool) -> None:
    """Tells what became of a bundle that was made."""
    import msgspec

    from loopline.packaging.manifest import PARITY
    from loopline.registry import summaries

    parity = summaries.parity(msgspec.json.decode((folder / PARITY).read_bytes(), type=dict[str, Any]))
    show.done(made, json, f"{folder} is a bundle of {made.name!r}, served by {served_by(parity)}.", f"rm -r {folder}")


@click.command()
@click.argument("folder", type=PATH)
@as_json
@click.pass_context
def push(ctx: click.Context, folder: Path, json: bool) -> None:
    """Send the bundle in FOLDER to the registry, as a draft of its model's next version."""
    from loopline.operations import Body
    from loopline.packaging.ensemble_running import members_of
    from loopline.packaging.manifest import read_manifest
    from loopline.registry.bundle_tar import pack

    name, members = read_manifest(folder).name, members_of(folder)
    with session(ctx) as s:
        found = s.models.draft(name, Body(pack(folder), name="bundle.tar"), inputs=members)
    show.done(found, json, f"{found.ref} is a draft. Register it: loopline models register {found.ref}")


@click.command()
@click.argument("ref")
@click.argument("folder", type=PATH, required=False)
@as_json
@click.pass_context
def pull(ctx: click.Context, ref: str, folder: Path | None, json: bool) -> None:
    """Fetch a registered version as a folder (default: NAME-VERSION), held against its signature.

    That of a bundle is all that `loopline serve FOLDER` needs, on any machine. A version of files is these files.
    """
    from loopline.packaging.pulling import pull as fetch

    with session(ctx) as s:
        name, number = names.model_number(s, ref)
        folder = folder or Path(f"{name}-{number}")
        found = fetch(s.models, name, number, folder)
    show.done(found, json, f"{found.ref} is in {folder}.", f"rm -r {folder}")


COMMANDS = [package, push, pull]


def served_by(parity: Mapping[str, Any]) -> str:
    """What computes a version, and why it is not ONNX where it is not."""
    runtime = str(parity.get("runtime", ""))
    if runtime not in ("", "onnx"):
        return f"{runtime}, in a process of its own: {parity.get('reason', '')}"
    return f"{runtime}; the int8 form {parity['int8']}" if "int8" in parity else runtime
