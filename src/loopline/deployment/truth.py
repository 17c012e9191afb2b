"""What can be the truth about the predictions of an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loopline.database import Tx
from loopline.deployment.service import known, running
from loopline.packaging.manifest import read_manifest


def classes(tx: Tx, folder: Callable[[str], Path], endpoint: str) -> tuple[str, ...]:
    """The classes of what an endpoint serves, its challenger's with them; none where its answers are numbers (regression).

    `folder` gives the folder of a model version's bundle. Raises `NotFound` where there is no such endpoint.
    """
    row = known(tx, endpoint)
    under_way = running(tx, endpoint)
    versions = [row.champion, *([under_way.challenger] if under_way is not None else [])]
    # Whoever serves a bundle checks all of its files; its classes are in the manifest alone.
    manifests = [read_manifest(folder(tx.ref("model", row.model, version)), verify=False) for version in versions]
    return tuple(dict.fromkeys(name for manifest in manifests for name in manifest.classes))
