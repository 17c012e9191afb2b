"""A process killed at each failpoint of drafting, registering and logging: the call is sent again, and all is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.app import Platform

WORK = """
import sys
from loopline.app import Platform
from loopline.tracking.records import Point
platform = Platform.open(workspace=sys.argv[1], checkpoints=sys.argv[2])
session = platform.session()
found = session.runs.list(name="fit").runs
run = found[0] if found else session.runs.create("fit")
session.runs.log(run.id, [Point(key="loss", value=i / 3, step=i, time=1 + i) for i in range(20)])
made = session.models.draft("readmission", sys.argv[3], run=run.id)
if made.status == "draft":
    session.models.register("readmission", made.version)
session.models.set_alias("readmission", "champion", made.version)
"""

PLACES = [
    "tracking.points.written", "registry.unpack.write", "registry.draft.after_keep", "packaging.key.before_link",
    "registry.register.after_sign", "database.tx.before_commit@4", "database.tx.after_commit@2", "database.tx.after_commit@4",
    "database.tx.after_commit@5",
]  # fmt: skip
"""The transactions, in order: run, points, the entry of the points, draft, register, alias."""


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_call_is_sent_again(place: str, tmp_path: Path, bundle: Callable[..., bytes]) -> None:
    (tmp_path / "bundle.tar").write_bytes(bundle())
    name, _, hit = place.partition("@")
    arguments = [str(tmp_path / "w"), str(tmp_path / "c"), str(tmp_path / "bundle.tar")]
    Platform.open(workspace=arguments[0], checkpoints=arguments[1]).close()
    killed = {**os.environ, "LOOPLINE_FAILPOINTS": f"{name}=kill@{hit or 1}"}
    command = [sys.executable, "-c", WORK, *arguments]
    assert subprocess.run(command, env=killed, check=False).returncode == -signal.SIGKILL
    subprocess.run(command, check=True)
    platform = Platform.open(workspace=arguments[0], checkpoints=arguments[1])
    try:
        session = platform.session()
        (run,) = session.runs.list().runs
        assert [p.step for p in session.runs.history(run.id, "loss")] == list(range(20))
        (version,) = session.models.versions("readmission")
        assert (version.version, version.status, version.aliases) == (1, "registered", ("champion",))
        assert session.models.verify("readmission", 1).ok
        assert session.ledger.verify().ok
    finally:
        platform.close()
