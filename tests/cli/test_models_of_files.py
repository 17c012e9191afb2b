"""`loopline models` with versions of plain files: added out of a run, named, rolled back and fetched."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.operations import Body

Shell = Any  # conftest's


@pytest.fixture
def fit(bare: Shell) -> str:
    """A run that kept a model's files, of 9 MB; its id."""
    platform = Platform.open(workspace=bare.workspace, checkpoints=str(bare.state / "copies"))
    runs = platform.session().runs
    run = runs.create("fit").id
    for path, data in (
        ("model/MLmodel", b"flavors: {}"),
        ("model/data/weights.bin", bytes(9 << 20)),
        ("roc.txt", b"x"),
    ):
        runs.put_artifact(run, path, Body(data))
    platform.close()
    return str(run)


def undo(said: str) -> list[str]:
    return shlex.split(said.split("Undo it: loopline ")[1])


def test_files_of_a_run_become_a_version_and_come_back(bare: Shell, fit: str, tmp_path: Path) -> None:
    said = bare("models", "add", "fraud", f"run:{fit}", "model/", "--description", "first", "--tag", "team=claims").out
    assert said.startswith("model:fraud@1 holds 2 files (9.4 MB), signed by key ")
    found = bare("models", "show", "fraud@1", "--json").json
    assert (found["description"], found["tags"], found["run"]) == ("first", {"team": "claims"}, f"run:{fit}")
    bare("models", "pull", "fraud@1", str(tmp_path / "out"))
    assert sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.*")) == [
        "data/weights.bin"
    ]
    assert (tmp_path / "out/MLmodel").read_bytes() == b"flavors: {}"
    assert os.path.getsize(tmp_path / "out/data/weights.bin") == 9 << 20
    bare(*undo(said))
    assert bare("models", "ls", "--json").json[0]["versions"] == 0


def test_what_a_run_does_not_have_is_no_version(bare: Shell, fit: str, tmp_path: Path) -> None:
    said = bare("models", "add", "fraud", fit, "modle", code=2).err
    assert f"[no-files] run:{fit} holds no files below 'modle'." in said
    assert "It has model/MLmodel, model/data/weights.bin, roc.txt." in said
    assert bare("models", "ls", "--json").json == []
    platform = Platform.open(workspace=bare.workspace, checkpoints=str(bare.state / "copies"))
    platform.session().models.add("fraud", facts={"source": "s3://bucket/model"})
    platform.close()
    assert "it only says where they are" in bare("models", "pull", "fraud@1", str(tmp_path / "out"), code=2).err


def test_the_first_move_of_an_alias_is_undone_as_it_is_told(bare: Shell, fit: str) -> None:
    for _ in range(2):
        bare("models", "add", "fraud", fit, "model")
    first = bare("models", "alias", "fraud@1", "champion").out
    second = bare("models", "alias", "fraud@2", "champion").out
    bare(*undo(second))
    assert bare("models", "as-of", "fraud", "champion", "--json").json["version"] == 1
    bare(*undo(first))
    assert bare("models", "ls", "--json").json[0]["aliases"] == {}
