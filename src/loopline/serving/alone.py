"""Models in service alone: one endpoint for each, named after it, without a database and without `loopline up`.

A model is a bundle's folder, or a version of a registry that is reached by its verbs (a workspace, or a server elsewhere). What
comes of a registry is fetched into a folder of this server's own, so once it runs the registry may go away. An alias is looked
up again now and then, and its endpoint goes over to what it names then; a version's number and a folder stay what they were.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.packaging.manifest import read_manifest
from loopline.packaging.pulling import pull
from loopline.refs import check_name, version_number
from loopline.registry.verbs import ModelsVerbs
from loopline.serving.records import BUCKETS, Endpoint, RouteTable, Variant
from loopline.serving.supervisor import Supervisor

logger = logging.getLogger("loopline.serving")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A model to serve: the folder of a bundle, or name and version (number or alias) in a registry."""

    folder: Path | None = None
    name: str = ""
    version: str = ""

    @property
    def follows(self) -> bool:
        """Whether it is an alias, which may move."""
        return self.folder is None and version_number(self.version) is None


class Alone:
    """A server of models alone, from `start` until `stop`.

    `folder` is its own: routing table, fetched bundles, the workers' words, and the prediction log below `log`. `models` are
    the registry's verbs, needed where a model is wanted by name. `tokens` may call everything, besides this user on this machine.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[Wanted],
        models: ModelsVerbs | None = None,
        *,
        tokens: Iterable[str] = (),
        **options: Any,
    ) -> None:
        self._bundles = folder / "bundles"
        self._wanted = wanted
        self._models = models
        self._tokens = {"*": tuple(hashlib.sha256(token.encode()).hexdigest() for token in tokens)}
        self._served: dict[int, Variant] = {}
        self._refused: dict[int, str] = {}
        self.supervisor = Supervisor(folder, log=folder / "log", **options)

    def start(self) -> dict[str, str]:
        """Fetches and serves every model; gives its ref by its endpoint. Ready when it returns.

        Raises what is amiss with the first that cannot be served, by name; then nothing is served.
        """
        found = {place: self._variant(wanted) for place, wanted in enumerate(self._wanted)}
        table = _table(1, found)
        self.supervisor.start(RouteTable(epoch=0))
        try:
            self.supervisor.push(table, self._tokens)
        except BaseException:
            self.supervisor.stop()
            raise
        self._served = found
        self._sweep()
        return {name: endpoint.variants[0].model for name, endpoint in table.endpoints.items()}

    def follow(self) -> list[str]:
        """Looks where the aliases point now, and serves that; gives the refs that came into force.

        What cannot be served, or asked for, is told in the log, and what was served before answers on.
        """
        moved = {place: variant for place in self._served if (variant := self._moved(place)) is not None}
        if not moved:
            return []
        try:
            self.supervisor.push(_table(self.supervisor.epoch + 1, self._served | moved), self._tokens)
        except LooplineError as e:
            logger.error("What was named anew is not served, and what was before answers on: %s", e)
            if not isinstance(e, Unavailable):
                self._refused |= {place: variant.model for place, variant in moved.items()}
            return []
        self._served |= moved
        return [variant.model for variant in moved.values()]

    def stop(self) -> None:
        """Ends; what is in flight is answered first."""
        self.supervisor.stop()

    def _moved(self, place: int) -> Variant | None:
        """What an alias names now, where that is something else than before, and good."""
        wanted = self._wanted[place]
        if not wanted.follows or self._models is None:
            return None
        named, ref = f"{wanted.name}@{wanted.version}", ""
        try:
            ref = self._models.show(wanted.name, wanted.version).ref
            if ref in (self._served[place].model, self._refused.get(place)):
                return None
            return self._variant(wanted)
        except Unavailable as e:
            logger.warning("Where %s points cannot be asked for now: %s", named, e)
        except LooplineError as e:
            if ref or not isinstance(e, NotFound):
                logger.error("%s is not followed, and what it named before is served on: %s", named, e)
            self._refused[place] = ref
        return None

    def _variant(self, wanted: Wanted) -> Variant:
        folder, model = wanted.folder, ""
        if folder is None:
            if self._models is None:
                raise NotFound(f"There is no registry to fetch {wanted.name} from.", code="no-workspace")
            record = self._models.show(wanted.name, wanted.version)
            if not record.servable:  # whatever its files are: nothing brought them here to be run
                raise Conflict(
                    f"{record.ref} holds files, not a bundle, and so cannot be served.",
                    code="not-a-bundle",
                    hint="Make a bundle of the model (loopline models package) and send it: loopline models push.",
                )
            folder, model = self._bundles / record.bundle.partition(":")[2], record.ref
            if folder.is_dir():
                try:
                    read_manifest(folder)
                except LooplineError:
                    shutil.rmtree(folder)
            if not folder.is_dir():
                pull(self._models, wanted.name, record.version, folder)
        manifest = read_manifest(folder)
        check_name(manifest.name, "name of a model")
        model = model or f"model:{manifest.name}@{manifest.version}"
        return Variant(name="champion", bundle=str(folder.resolve()), model=model, weight=BUCKETS)

    def _sweep(self) -> None:
        """Removes bundles that were fetched once and are not served."""
        kept = {Path(variant.bundle).name for variant in self._served.values()}
        for folder in self._bundles.glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


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
