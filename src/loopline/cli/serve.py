"""`loopline serve`: models alone, at one address, without a workspace in service."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopline.cli import names
from loopline.cli.session import listening, session, settings_of

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.serving.fetched import Wanted

CONTAINER = Path("/opt/ml/model")
"""Where SageMaker puts the model of a container."""
LOOK = 2.0
"""Seconds between two looks at where aliases point."""


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@listening
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("loopline-serve"), show_default=True,
    help="Where the prediction log and the server's own files go.",
)  # fmt: skip
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Serve only what this public key (PEM) signed; repeat for several.",
)  # fmt: skip
@click.option(
    "--tokens", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Who sends a line of this file as its bearer token may call from elsewhere.",
)  # fmt: skip
@click.option(
    "--policy", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="What endpoints refuse and keep: TOML, a table for each.",
)  # fmt: skip
@click.option(
    "--open",
    "anyone",
    is_flag=True,
    help="Answer whoever reaches it, without a token: behind a door of somebody else's.",
)
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    models: tuple[str, ...],
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    workers: int,
    folder: Path,
    keys: tuple[Path, ...],
    tokens: Path | None,
    policy: Path | None,
    anyone: bool,
    **tls: str | None,
) -> None:
    """Serve MODELs alone: each at an endpoint of its name, without a workspace in service.

    A MODEL is the folder of a bundle, or of several, which needs no workspace and no database, or a ref (model:NAME@3,
    NAME@champion) of the workspace or of --server. Where an alias moves, its endpoint follows within seconds; no request fails
    by it. End it with Ctrl-C or SIGTERM: requests under way are finished first. Without a MODEL it is the bundle in
    /opt/ml/model, where SageMaker puts a container's.
    """
    if not models:
        if not CONTAINER.is_dir():
            raise click.UsageError("Name a MODEL: a bundle's folder, or a ref such as fraud@champion.")
        models = (str(CONTAINER),)
    import msgspec

    from loopline.loop.lease import held
    from loopline.packaging.opening import opening_of
    from loopline.packaging.records import Trust
    from loopline.serving import policies
    from loopline.serving.alone import Alone
    from loopline.serving.tls import check_pair

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = settings_of(ctx, host=host, port=port, **tls)
    check_pair(settings.tls_cert, settings.tls_key)
    scheme = "https" if settings.tls_cert else "http"
    opening = opening_of(settings)
    if keys:
        trust = Trust(keys=tuple(key.read_text() for key in keys), every=True)
        opening = msgspec.structs.replace(opening, trust=trust)
    with contextlib.ExitStack() as opened:
        refs = [text for text in models if not is_folder(text)]
        registry = opened.enter_context(session(ctx)) if refs else None
        opened.enter_context(held(folder, "loopline serve"))
        server = Alone(
            folder.absolute(),
            [wanted(registry, text) for text in models],
            registry,
            tokens=tokens.read_text().split() if tokens is not None else (),
            policies=policies.read(policy) if policy is not None else {},
            opening=opening,
            host=settings.host,
            port=settings.port,
            workers=workers,
            grpc_port=grpc_port,
            open=anyone,
            allowed_hosts=tuple(h for h in (*settings.allowed_hosts.split(","), "" if anyone else settings.host) if h),
            tls_cert=settings.tls_cert and str(Path(settings.tls_cert).absolute()),
            tls_key=settings.tls_key and str(Path(settings.tls_key).absolute()),
            sync=settings.log_sync,
            disk_full=settings.log_full,
            trace_to=settings.trace_to,
            trace_share=settings.trace_share,
        )
        served = server.start()
        opened.callback(server.stop)
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        for name, ref in served.items():
            click.echo(f"{ref} is served: POST {scheme}://{shown}:{server.supervisor.port}/predict/{name}")
        if grpc_port is not None:
            click.echo(f"gRPC is answered at {shown}:{server.supervisor.grpc_port}.")
        click.echo(f"The prediction log is in {folder / 'log'}; end it with Ctrl-C.")
        while not stop.wait(LOOK):
            server.tidy()
            for ref in server.follow():
                click.echo(f"{ref} is served now.")
        click.echo("Finishing what is under way ...")


def is_folder(text: str) -> bool:
    """Whether a word is meant as a folder: it is one, or looks like a path; what has a version is a ref."""
    return "@" not in text and not text.startswith("model:") and (Path(text).exists() or "/" in text)


def wanted(registry: Session | None, text: str) -> Wanted:
    """What a word names: a folder, or a ref of the registry."""
    from loopline.serving.fetched import Wanted

    if registry is None or is_folder(text):
        return Wanted(folder=Path(text))
    name, version = names.model(registry, text)
    return Wanted(name=name, version=version)
