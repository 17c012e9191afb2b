"""`loopline deploy`: a model version at an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

if TYPE_CHECKING:
    from loopline.deployment.records import Endpoint


@click.command()
@click.argument("endpoint")
@click.argument("model", required=False)
@click.option("--route-key", metavar="COLUMN", help="Rows with one value of it always go to the same variant.")
@click.option("--passthrough", multiple=True, metavar="COLUMN", help="Kept though the model does not read it; repeat.")
@click.option("--remove", is_flag=True, help="Stop serving ENDPOINT; its predictions and labels stay on record.")
@as_json
@click.pass_context
def deploy(
    ctx: click.Context,
    endpoint: str,
    model: str | None,
    route_key: str | None,
    passthrough: tuple[str, ...],
    remove: bool,
    json: bool,
) -> None:
    """Serve the registered version MODEL at ENDPOINT, all at once.

    On an endpoint that is there, what stands behind it is changed; its route key and passed columns stay unless given. To
    move the answers step by step: loopline rollout start.
    """
    if (model is None) != remove:
        raise click.UsageError("Name the model version to serve, or --remove to serve none.", ctx)
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        before = next((e for e in s.endpoints.list() if e.name == name), None)
        if model is None:
            s.endpoints.remove(name)
            show.done(None, json, f"{name} is not served any more.", _again(before) if before else "")
            return
        chosen, version = names.model(s, model)
        found = s.endpoints.create(
            name,
            s.models.show(chosen, version).ref,
            route_key=route_key or (before.route_key if before else None),
            passthrough=list(passthrough) or (list(before.passthrough) if before else None),
        )
    undo = f"loopline deploy {name} --remove" if before is None else _again(before)
    show.done(
        found,
        json,
        f"{found.champion} stands behind {name}: POST /predict/{name} while `loopline up` runs.",
        undo,
    )


def _again(endpoint: Endpoint) -> str:
    """The command that serves at an endpoint what it serves now."""
    options = [f"--route-key {endpoint.route_key}"] if endpoint.route_key else []
    options += [f"--passthrough {column}" for column in endpoint.passthrough]
    return " ".join(["loopline deploy", endpoint.name, endpoint.champion, *options])
