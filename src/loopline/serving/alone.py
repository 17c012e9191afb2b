"""Models in service alone: one endpoint for each, named after it, without a database and without `loopline up`.

A model is a bundle's folder, or a version of a registry that is reached by its verbs (a workspace, or a server elsewhere); see
`fetched`. An alias is looked up again now and then, and its endpoint goes over to what it names then; a version's number and a
folder stay what they were.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopline.errors import Conflict, Invalid, LooplineError, Unavailable
from loopline.serving.fetched import Bundles, Registry, Wanted
from loopline.serving.records import Endpoint, RouteTable, Variant
from loopline.serving.supervisor import Supervisor

logger = logging.getLogger("loopline.serving")


class Alone:
    """A server of models alone, from `start` until `stop`.

    `folder` is its own: routing table, fetched bundles, the workers' words, and the prediction log below `log`. `registry`
    is needed where a model is wanted by name. `tokens` may call everything, besides this user on this machine.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[Wanted],
        registry: Registry | None = None,
        *,
        tokens: Iterable[str] = (),
        **options: Any,
    ) -> None:
        self._bundles = Bundles(folder / "bundles", registry)
        self._wanted = wanted
        self._tokens = {"*": tuple(hashlib.sha256(token.encode()).hexdigest() for token in tokens)}
        self._served: dict[int, Variant] = {}
        self.supervisor = Supervisor(folder, log=folder / "log", **options)

    def start(self) -> dict[str, str]:
        """Fetches and serves every model; gives its ref by its endpoint. Ready when it returns.

        Raises what is amiss with the first that cannot be served, by name; then nothing is served.
        """
        found = {place: self._bundles.variant(wanted) for place, wanted in enumerate(self._wanted)}
        table = _table(1, found)
        self.supervisor.start(RouteTable(epoch=0))
        try:
            self.supervisor.push(table, self._tokens)
        except BaseException:
            self.supervisor.stop()
            raise
        self._served = found
        self._bundles.keep(found.values())
        return {name: endpoint.variants[0].model for name, endpoint in table.endpoints.items()}

    def follow(self) -> list[str]:
        """Looks where the aliases point now, and serves that; gives the refs that came into force.

        What cannot be served, or asked for, is told in the log, and what was served before answers on.
        """
        moved = {}
        for place, served in self._served.items():
            if (variant := self._bundles.moved(self._wanted[place], served.model)) is not None:
                moved[place] = variant
        if not moved:
            return []
        try:
            self.supervisor.push(_table(self.supervisor.epoch + 1, self._served | moved), self._tokens)
        except LooplineError as e:
            logger.error("What was named anew is not served, and what was before answers on: %s", e)
            if not isinstance(e, Unavailable):
                for place, variant in moved.items():
                    self._bundles.refuse(self._wanted[place], variant.model)
            return []
        self._served |= moved
        return [variant.model for variant in moved.values()]

    def stop(self) -> None:
        """Ends; what is in flight is answered first."""
        self.supervisor.stop()


def _table(epoch: int, found: Mapping[int, Variant]) -> RouteTable:
    endpoints: dict[str, Endpoint] = {}
    for variant in found.values():
        name = variant.model.partition(":")[2].rpartition("@")[0].rpartition("/")[2]
        if name in endpoints:
            raise Conflict(
                f"{endpoints[name].variants[0].model} and {variant.model} would both be served at {name!r}.",
                code="two-models",
                hint="An endpoint is named after its model: serve one of them, or each on a port of its own.",
            )
        endpoints[name] = Endpoint(name=name, variants=(variant,))
    if not endpoints:
        raise Invalid("There is no model to serve.", code="no-model", hint="Name a bundle's folder or a model's ref.")
    return RouteTable(epoch=epoch, endpoints=endpoints)
