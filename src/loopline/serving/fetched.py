"""Models that are wanted, as bundles on this disk: folders that were given, and versions fetched from a registry.

What comes of a registry is fetched into a folder of the caller's own, so once it runs the registry may go away. A version that was
withdrawn, or learnt from withdrawn data, is refused at each start, whether it was fetched before or not.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from loopline.data.verbs import DatasetsVerbs
from loopline.errors import Conflict, LooplineError, NotFound, Refused, Unavailable
from loopline.packaging.manifest import read_manifest
from loopline.packaging.pulling import check_registered, pull, sweep
from loopline.refs import check_name, parse, version_number
from loopline.registry.records import ModelVersion
from loopline.registry.verbs import ModelsVerbs
from loopline.serving.records import BUCKETS, Variant

logger = logging.getLogger("loopline.serving")


class Registry(Protocol):
    """Where models are by name: a session of a workspace or of a server elsewhere."""

    project: str
    models: ModelsVerbs
    datasets: DatasetsVerbs


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A model to serve: the folder of a bundle, or name and version (number or alias) in a registry."""

    folder: Path | None = None
    name: str = ""
    version: str = ""

    @property
    def follows(self) -> bool:
        """Whether it is an alias, which may move."""
        return self.folder is None and version_number(self.version) is None


class Bundles:
    """The bundles below a folder. `registry` is needed where a model is wanted by name."""

    def __init__(self, folder: Path, registry: Registry | None = None) -> None:
        self._folder = folder
        self._registry = registry
        self._refused: dict[Wanted, str] = {}

    def variant(self, wanted: Wanted) -> Variant:
        """The variant that all requests get, its bundle at hand. Raises what is amiss with it, by name."""
        folder, model = wanted.folder, ""
        if folder is None:
            if self._registry is None:
                raise NotFound(f"There is no registry to fetch {wanted.name} from.", code="no-workspace")
            sweep(self._folder)
            models = self._registry.models
            record = models.show(wanted.name, wanted.version)
            check_registered(record)
            self._check_sound(record)
            if not record.servable:  # whatever its files are: nothing brought them here to be run
                raise Conflict(
                    f"{record.ref} holds files, not a bundle, and so cannot be served.",
                    code="not-a-bundle",
                    hint="Make a bundle of the model (loopline models package) and send it: loopline models push.",
                )
            folder, model = self._folder / record.bundle.partition(":")[2], record.ref
            if folder.is_dir():
                try:
                    read_manifest(folder)
                except LooplineError:
                    shutil.rmtree(folder)
            if not folder.is_dir():
                pull(models, wanted.name, record.version, folder)
        manifest = read_manifest(folder)
        check_name(manifest.name, "name of a model")
        model = model or f"model:{manifest.name}@{manifest.version}"
        return Variant(name="champion", bundle=str(folder.resolve()), model=model, weight=BUCKETS)

    def moved(self, wanted: Wanted, served: str) -> Variant | None:
        """What an alias names now, where that is something else than the ref that is served, and good; what is amiss is logged."""
        if not wanted.follows or self._registry is None:
            return None
        named, ref = f"{wanted.name}@{wanted.version}", ""
        try:
            ref = self._registry.models.show(wanted.name, wanted.version).ref
            if ref in (served, self._refused.get(wanted)):
                return None
            return self.variant(wanted)
        except Unavailable as e:
            logger.warning("Where %s points cannot be asked for now: %s", named, e)
        except LooplineError as e:
            if ref or not isinstance(e, NotFound):
                logger.error("%s is not followed, and what it named before is served on: %s", named, e)
            self._refused[wanted] = ref
        return None

    def refuse(self, wanted: Wanted, ref: str) -> None:
        """What an alias names cannot be run: it is not tried again until the alias moves."""
        self._refused[wanted] = ref

    def forgive(self, wanted: Wanted) -> None:
        """What was wanted has run: whatever it names is tried again."""
        self._refused.pop(wanted, None)

    def keep(self, variants: Iterable[Variant]) -> None:
        """Removes bundles that were fetched once and are not of these variants."""
        kept = {Path(variant.bundle).name for variant in variants}
        for folder in self._folder.glob("[!.]*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_sound(self, record: ModelVersion) -> None:
        """Raises `Refused` where a version learnt from data that are withdrawn since."""
        assert self._registry is not None
        if bad := self._registry.datasets.unsound((record.ref,)).get(record.ref):
            raise Refused(
                f"{record.ref} learnt from {bad}, which is withdrawn: it is not served.",
                code="data-withdrawn",
                hint=f"Train on another version of the data; `loopline data log {parse(bad).name}` lists them.",
            )
