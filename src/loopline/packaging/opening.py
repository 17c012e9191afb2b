"""How the bundles of a workspace are opened."""

from __future__ import annotations

from loopline.packaging.records import Opening, Trust
from loopline.settings import Settings


def opening_of(settings: Settings) -> Opening:
    """The bounds of its settings; code runs where one of the keys in the workspace's folder signed it."""
    keys = sorted((settings.workspace / "keys").glob("models-*.pub"))
    return Opening(
        trust=Trust(keys=tuple(key.read_text() for key in keys)),
        timeout=settings.model_timeout,
        memory=settings.model_memory,
        start=settings.model_start,
    )
