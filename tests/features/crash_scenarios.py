"""Features made ready, killed anywhere: who looks them up has the old ones or the new ones, whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VIEW: dict[str, Any] = {
    "name": "stays", "source": "stays", "entity": "patient", "time": "day", "features": [{"name": "days", "of": "days"}],
}  # fmt: skip


def opened(folder: Path) -> Any:
    from loopline.app import Platform

    return Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))


def work(folder: Path) -> None:
    """Two versions of a source, made ready each in its turn."""
    from loopline.operations import Body

    platform = opened(folder)
    session = platform.session()
    session.features.define("stays", VIEW)
    for version, days in ((1, 3), (2, 4)):
        rows = "\n".join(["patient,day,days", *(f"{n},{n},{days}" for n in range(50))])
        known = {d.name: d.versions for d in session.datasets.list()}.get("stays", 0)
        if known < version:
            session.datasets.add("stays", Body(rows.encode(), name="stays.csv"))
        online = session.features.show("stays").online
        if online is None or online.number < version:
            session.features.materialize("stays")
    platform.close()


def check(folder: Path, finished: bool) -> None:
    """What is online is of one version, and the ledger verifies."""
    platform = opened(folder)
    session = platform.session()
    try:
        views = session.features.list()
        online = views[0].online if views else None
        if online is not None:
            found = session.features.get("stays", tuple(map(str, range(50))))
            assert {one["days"] for one in found.values} == {2 + online.number}
            assert (found.source, online.entities) == (f"data:stays@{online.number}", 50)
        if finished:
            assert online is not None
            assert online.number == 2
        assert session.ledger.verify().ok
    finally:
        platform.close()


SCENARIOS = {"features": (work, check)}
ROOMS = {"features": ("features",)}
