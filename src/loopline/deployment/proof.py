"""Whether a worker would serve an endpoint: it is tried, before anything is decided."""

from __future__ import annotations

from loopline.packaging.records import Opening
from loopline.serving.live import prepare
from loopline.serving.records import ControlMessage, Endpoint, RouteTable


def prove(endpoint: Endpoint, opening: Opening) -> None:
    """Raises what a worker would refuse the endpoint for: its models are loaded and held against their golden rows.

    Workers take a routing table whole or not at all, so one endpoint that cannot be served would hold up all others.
    """
    table = RouteTable(epoch=1, endpoints={endpoint.name: endpoint})
    for model in prepare(ControlMessage(table=table), {}, opening).served.values():
        model.close()
