"""`loopline up`: a workspace in service."""

from __future__ import annotations

import logging
import signal
import threading

import click

from loopline.cli.session import listening, settings_of


@click.command()
@listening
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Prediction workers.")
@click.option("--workspace", metavar="DIR", help="The workspace, as before the command.")
@click.pass_context
def up(
    ctx: click.Context,
    /,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    workers: int,
    workspace: str | None,
    **tls: str | None,
) -> None:
    """Serve the workspace: API, predictions, monitors and the loop, at one address.

    It answers `GET /health` when it is ready. End it with Ctrl-C: requests under way are finished first.
    """
    from loopline.api.up import Service

    ctx.obj["workspace"] = workspace or ctx.obj["workspace"]
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("loopline").setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = settings_of(ctx, host=host, port=port, **tls)
    with Service(settings, workers=workers, grpc_port=grpc_port) as service:
        click.echo(f"Loopline serves {settings.workspace} at {service.url}")
        click.echo(f"  page     {service.url}/\n  API      {service.url}/api/docs\n  end it   Ctrl-C")
        if grpc_port is not None:
            click.echo(f"  gRPC     {settings.host}:{service.supervisor.grpc_port}")
        stop.wait()
        click.echo("Finishing what is under way ...")
