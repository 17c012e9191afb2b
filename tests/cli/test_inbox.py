"""`loopline data inbox`: what was posted and waits, and that it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopline.app import Platform
from loopline.operations import Body

Shell = Any  # conftest's


def test_what_waits_is_shown_and_taken(shell: Shell, tmp_path: Path) -> None:
    run = shell.copy(tmp_path / "copy")
    file = tmp_path / "wards.csv"
    file.write_text("ward,beds\nnorth,3\n")
    run("data", "add", "wards", str(file))
    assert "Nothing that was posted to data:wards waits" in run("data", "inbox", "wards").out
    platform = Platform.open(workspace=run.workspace, checkpoints=str(run.state / "loopline" / "checkpoints"))
    for ward in ("south", "west"):
        platform.session().inbox.post("wards", Body(f"ward,beds\n{ward},4\n".encode()))
    platform.close()
    shown = run("data", "inbox", "wards").out
    assert "2 rows of 2 posts wait" in shown
    assert "loopline data inbox wards --take" in shown
    assert run("data", "inbox", "wards", "--json").json["rows"] == 2
    assert "Took 2 rows of 2 posts into data:wards@2" in run("data", "inbox", "wards", "--take").out
    assert run("data", "inbox", "wards", "--take", "--json").json is None
    assert run("data", "read", "wards", "--json").json[-1] == {"ward": "west", "beds": 4}


def test_a_sync_takes_what_waits_as_well(shell: Shell, tmp_path: Path) -> None:
    run = shell.copy(tmp_path / "copy")
    file = tmp_path / "wards.csv"
    file.write_text("ward,beds\nnorth,3\n")
    run("data", "add", "beds", str(tmp_path / "*.csv"))
    platform = Platform.open(workspace=run.workspace, checkpoints=str(run.state / "loopline" / "checkpoints"))
    platform.session().datasets.add("wards", Body(file))
    for name in ("wards", "beds"):
        platform.session().inbox.post(name, Body(b"ward,beds\nsouth,4\n"))
    platform.close()
    said = run("data", "sync", "beds").out
    assert said.startswith("Took 1 row of 1 post into data:beds@2.\nNothing new for beds: data:beds@2 is the newest.")
    assert run("data", "sync", "wards").out == "Took 1 row of 1 post into data:wards@2.\n"
    assert "No source of 'wards' is on record" in run("data", "sync", "wards", code=2).err
