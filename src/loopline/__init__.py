"""Loopline: the whole machine-learning lifecycle as one closed loop, in one install.

import loopline as ll
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "loopline.client": ("connect",),
    "loopline.client.autolog": ("autolog",),
    "loopline.client.run": ("log", "run"),
    "loopline.features.definitions": ("feature", "feature_view"),
    "loopline.loop.declaration": ("Loop", "monitor", "retrain", "rollout", "source", "split", "step"),
    "loopline.loop.table": ("Table", "boosted", "constant", "linear"),
    "loopline.training.records": ("tune",),
    "loopline.training.model": ("Model",),
    "loopline.evaluation.gates": ("gate",),
    "loopline.quality.cleaning_steps": ("clean",),
    "loopline.quality.contract": ("column", "contract", "fresh", "like", "rows", "rule", "schema", "unique"),
    "loopline.operations": ("Body",),
    "loopline.packaging.ensemble": ("Ensemble", "node"),
}
_WHERE = {name: place for place, names in _PLACES.items() for name in names}

__all__ = sorted(_WHERE)  # the table above is the one list


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'loopline' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_WHERE[name]), name)  # asked for once: `ll.log` is called often
    return found


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
