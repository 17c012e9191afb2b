"""Models in service alone: one endpoint for each, named after it, without a database and without `loopline up`.

A model is a bundle's folder, or a version of a registry that is reached by its verbs (a workspace, or a server elsewhere); see
`fetched`. An alias is looked up again now and then, and its endpoint goes over to what it names then; a version's number and a
folder stay what they were.

A folder may hold the folders of several bundles, too: all of them are served. Models are unloaded on request and loaded again, as
they are then; what was put into such a folder meanwhile is loaded by its name.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable, did_you_mean
from loopline.packaging.manifest import MANIFEST, read_manifest
from loopline.ports.files import write_whole
from loopline.serving.fetched import Bundles, Registry, Wanted
from loopline.serving.policies import check_policy
from loopline.serving.records import Endpoint, Policy, RouteTable, Variant
from loopline.serving.retention import Retention
from loopline.serving.supervisor import Supervisor

logger = logging.getLogger("loopline.serving")
_BETWEEN = 60.0
"""Seconds between two looks for answers whose time is over."""


class Alone:
    """A server of models alone, from `start` until `stop`.

    `folder` is its own: routing table, fetched bundles, the workers' words, and the prediction log below `log`. `registry`
    is needed where a model is wanted by name. `tokens` may call everything, besides this user on this machine. `policies` are those
    of endpoints, by their names.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[Wanted],
        registry: Registry | None = None,
        *,
        tokens: Iterable[str] = (),
        policies: Mapping[str, Policy] | None = None,
        **options: Any,
    ) -> None:
        self._folder = folder
        self._policies = dict(policies or {})
        self._retention = Retention(folder / "log", self._policies)
        self._looked = -_BETWEEN
        self._salt = ""
        self._bundles = Bundles(folder / "bundles", registry)
        self._repositories = [w.folder for w in wanted if w.folder is not None and is_repository(w.folder)]
        self._wanted = [one for w in wanted for one in (inside(w.folder) if w.folder in self._repositories else [w])]
        self._places: dict[str, int] = {}
        self._turn = threading.RLock()
        self._tokens = {"*": tuple(hashlib.sha256(token.encode()).hexdigest() for token in tokens)}
        self._served: dict[int, Variant] = {}
        self.supervisor = Supervisor(folder, log=folder / "log", change=self.change, **options)

    def start(self) -> dict[str, str]:
        """Fetches and serves every model; gives its ref by its endpoint. Ready when it returns.

        Raises what is amiss with the first that cannot be served, by name; then nothing is served.
        """
        found = {place: self._bundles.variant(wanted) for place, wanted in enumerate(self._wanted)}
        if not found:
            raise Invalid(
                "There is no model to serve.", code="no-model", hint="Name a bundle's folder or a model's ref."
            )
        self._check_policies(found)
        if any(policy.hashed for policy in self._policies.values()):
            self._salt = secret(self._folder / "secret")
        table = self._table(1, found)
        with self._turn:
            self.supervisor.start(RouteTable(epoch=0))
            try:
                self.supervisor.push(table, self._tokens)
            except BaseException:
                self.supervisor.stop()
                raise
            self._served = found
            self._places = {_endpoint(variant): place for place, variant in found.items()}
        self._bundles.keep(found.values())
        return {name: endpoint.variants[0].model for name, endpoint in table.endpoints.items()}

    def follow(self) -> list[str]:
        """Looks where the aliases point now, and serves that; gives the refs that came into force.

        What cannot be served, or asked for, is told in the log, and what was served before answers on.
        """
        with self._turn:
            moved = {}
            for place, served in self._served.items():
                if (variant := self._bundles.moved(self._wanted[place], served.model)) is not None:
                    moved[place] = variant
            if not moved:
                return []
            try:
                self._push(self._served | moved)
            except LooplineError as e:
                logger.error("What was named anew is not served, and what was before answers on: %s", e)
                if not isinstance(e, Unavailable):
                    for place, variant in moved.items():
                        self._bundles.refuse(self._wanted[place], variant.model)
                return []
            return [variant.model for variant in moved.values()]

    def change(self, action: str, name: str) -> None:
        """Loads a model, as it is now, or unloads it; returns when all workers do so.

        Raises `NotFound` for a model that is not known here, and what is amiss with one that cannot be served; what was served
        before is served then.
        """
        with self._turn:
            if name not in self._places and action == "load":
                self._look_for(name)
            if name not in self._places:
                raise NotFound(
                    f"There is no model {name!r} here.", code="no-model", hint=did_you_mean(name, self._places)
                )
            place = self._places[name]
            if action == "load":
                variant = self._bundles.variant(self._wanted[place])
                if _endpoint(variant) != name:
                    raise Conflict(
                        f"In the place of {name!r} there is {variant.model} now.",
                        code="other-model",
                        hint="Load it by its own name, from a folder of its own.",
                    )
                self._push({**self._served, place: variant})
                self._bundles.forgive(self._wanted[place])
            elif place in self._served:
                self._push({at: variant for at, variant in self._served.items() if at != place})

    def _look_for(self, name: str) -> None:
        """Makes the bundle of a model known that was put into a folder of bundles."""
        known = {one.folder for one in self._wanted}
        for repository in self._repositories:
            for one in inside(repository):
                if one.folder not in known and _named(one.folder) == name:
                    self._places[name] = len(self._wanted)
                    self._wanted.append(one)
                    return

    def _push(self, served: dict[int, Variant]) -> None:
        """Has the workers serve this. Raises what the supervisor does; nothing is changed then."""
        loaded = {_endpoint(variant) for variant in served.values()}
        idle = tuple(sorted(self._places.keys() - loaded))
        table = msgspec.structs.replace(self._table(self.supervisor.epoch + 1, served), idle=idle)
        self.supervisor.push(table, self._tokens)
        self._served = served

    def tidy(self) -> None:
        """Removes answers whose time is over, as the policies say; looks for them about once a minute."""
        if time.monotonic() - self._looked >= _BETWEEN:
            self._looked = time.monotonic()
            try:
                self._retention.expire(time.time_ns() // 1_000_000)
            except (OSError, LooplineError) as e:  # a disk that is full, say: it is tried again
                logger.error("Answers whose time is over stay for now: %s", e)

    def _check_policies(self, found: Mapping[int, Variant]) -> None:
        """Raises `Invalid` for a policy of what is not served here, or of columns that its callers do not send."""
        folders = {_endpoint(variant): Path(variant.bundle) for variant in found.values()}
        for name, policy in self._policies.items():
            if name not in folders:
                raise Invalid(
                    f"There is a policy for {name!r}, which is not served here.",
                    code="bad-policy",
                    hint=did_you_mean(name, folders),
                )
            signature = read_manifest(folders[name], verify=False).signature
            check_policy(policy, {field.name for field in signature.inputs}, name, further="")

    def _table(self, epoch: int, found: Mapping[int, Variant]) -> RouteTable:
        endpoints: dict[str, Endpoint] = {}
        for variant in found.values():
            name = _endpoint(variant)
            if name in endpoints:
                raise Conflict(
                    f"{endpoints[name].variants[0].model} and {variant.model} would both be served at {name!r}.",
                    code="two-models",
                    hint="An endpoint is named after its model: serve one of them, or each on a port of its own.",
                )
            policy = self._policies.get(name, Policy())
            endpoints[name] = Endpoint(name=name, variants=(variant,), policy=policy, salt=self._salt)
        return RouteTable(epoch=epoch, endpoints=endpoints)

    def stop(self) -> None:
        """Ends; what is in flight is answered first."""
        self.supervisor.stop()


def is_repository(folder: Path) -> bool:
    """Whether a folder is no bundle, and holds the folders of some."""
    return not (folder / MANIFEST).exists() and any(folder.glob(f"*/{MANIFEST}"))


def inside(folder: Path) -> list[Wanted]:
    """The bundles in a folder, each in a folder of its own, by their names."""
    return [Wanted(folder=path.parent) for path in sorted(folder.glob(f"*/{MANIFEST}"))]


def _named(folder: Path | None) -> str:
    """The name of the model in a folder; "" where it cannot be read, which is said when it is asked for by the folder."""
    try:
        return "" if folder is None else read_manifest(folder, verify=False).name
    except LooplineError:
        return ""


def _endpoint(variant: Variant) -> str:
    """The name of a model alone, of which its endpoint is."""
    return variant.model.partition(":")[2].rpartition("@")[0].rpartition("/")[2]


def secret(path: Path) -> str:
    """What hashes are keyed with: made once, and kept in a file that only this user can read. Raises `Invalid`."""
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        found = secrets.token_hex(32)
        write_whole(path, found.encode(), mode=0o600)
    if len(found) != 64:
        raise Invalid(f"{path} holds no secret.", code="bad-key-file", hint="Put it back, or remove it for a new one.")
    return found
