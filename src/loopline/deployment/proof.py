"""Whether a worker would serve an endpoint, and its callers be answered as before: it is tried before anything is decided."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from loopline.errors import Conflict
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Opening
from loopline.serving.live import prepare
from loopline.serving.records import ControlMessage, Endpoint, RouteTable, Variant


def prove(endpoint: Endpoint, opening: Opening) -> None:
    """Raises what a worker would refuse the endpoint for: its models are loaded and held against their golden rows.

    Workers take a routing table whole or not at all, so one endpoint that cannot be served would hold up all others.
    """
    table = RouteTable(epoch=1, endpoints={endpoint.name: endpoint})
    for model in prepare(ControlMessage(table=table), {}, opening).served.values():
        model.close()


def left_out(endpoint: str, champion: Variant, challenger: Variant, optional: Collection[str]) -> set[str]:
    """The columns that the challenger reads and callers, who send what the champion reads, leave out.

    `optional` are those that they leave out already. Raises `Conflict` for a column that the challenger must have and they do not
    send, or may send empty.
    """
    sent = {field.name: field for field in read_manifest(Path(champion.bundle), verify=False).signature.inputs}
    found: set[str] = set()
    for field in read_manifest(Path(challenger.bundle), verify=False).signature.inputs:
        known = sent.get(field.name)
        if field.nullable:
            if known is None:
                found.add(field.name)
        elif known is None or known.nullable or field.name in optional:
            how = (
                f"{champion.model} does not read it, so callers of {endpoint!r} do not send it"
                if known is None
                else f"callers of {endpoint!r} may leave it empty, since {champion.model} takes it missing"
            )
            raise Conflict(
                f"{challenger.model} needs the column {field.name!r} in each row; {how}.",
                code="not-sent",
                hint="Train it on rows where the column is missing at times, or serve it at an endpoint of its own.",
                column=field.name,
            )
    return found
