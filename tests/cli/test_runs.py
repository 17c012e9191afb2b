"""`loopline runs`: what it shows of a run, what people say of one, and its files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.operations import Body
from loopline.tracking.records import Point

Shell = Any  # conftest's


@pytest.fixture
def fit(bare: Shell) -> str:
    """A run as a script leaves it, within a workspace of its own; its id."""
    platform = Platform.open(workspace=bare.workspace, checkpoints=str(bare.state / "copies"))
    runs = platform.session().runs
    run = runs.create(
        "fit 1",
        params={"rate": 0.00123456, "seed": 20240101, "layers": [64, 32], "note": "a b"},
        tags={"team": "red"},
        environment={"commit": "4f1c", "branch": "main", "dirty": True, "patch": "x", "argv": ["fit.py", "--a", "b c"]},
        created=1_700_000_000_000,
    ).id
    points = [
        Point(key=key, value=0.5, time=1) for key in ("system/cpu_percent", "z/loss", *(f"m{n}" for n in range(7)))
    ]
    runs.log(run, points)
    for path in ("plots/roc.txt", "plots/deep/pr.txt", "plots.txt"):
        runs.put_artifact(run, path, Body(path.encode()))
    runs.create("fold 1", parent=run)
    platform.close()
    return str(run)


def undo(said: str) -> list[str]:
    return shlex.split(said.split("Undo it: loopline ")[1])


def test_a_run_is_shown_as_it_is(bare: Shell, fit: str) -> None:
    told = bare("runs", "show", fit).out
    for line in (
        "rate\t0.00123456",
        "seed\t20240101",
        "layers\t[64,32]",
        "note\ta b",
        "code        commit 4f1c on main, changed since: code/patch.diff",
        "command     fit.py --a 'b c'",
        "files       3 files, 39 B",
        "runs in it  1",
    ):
        assert f"\n{line}\n" in told
    assert told.endswith("z/loss\t0.5\nsystem/cpu_percent\t0.5\n"), "the machine's use is behind what the work says"


def test_a_list_is_of_the_work_and_goes_on(bare: Shell, fit: str) -> None:
    ended = bare("runs", "ls", "--limit", "1")
    assert "fold 1" in ended.out
    after = ended.err.split("--after ")[1].strip()
    line = bare("runs", "ls", "--limit", "1", "--after", after).out.splitlines()[1].split("\t")
    assert line[1] == "fit 1"
    assert line[4] == "m0=0.5, m1=0.5, m2=0.5, m3=0.5, m4=0.5, m5=0.5, and 2 more"
    assert bare("runs", "ls", "--kind", "model").err == "No runs yet.\n"


def test_what_people_say_of_a_run_is_undone_as_it_is_told(bare: Shell, fit: str) -> None:
    before = bare("runs", "show", fit, "--json").json
    for line in (
        ("rename", fit, "it's new"),
        ("tag", fit, "team=blue", "stage=a b"),
        ("tag", fit, "team="),
        ("note", fit, "x"),
    ):
        said = bare("runs", *line).out
        assert bare("runs", "show", fit, "--json").json != before
        bare(*undo(said))
        assert bare("runs", "show", fit, "--json").json == before
    bare("runs", "correct", fit, "seed=7", "--reason", "a typo")
    assert "seed\t20240101\ta typo" in bare("runs", "corrections", fit).out


def test_a_run_whose_program_is_gone_is_ended(bare: Shell, fit: str) -> None:
    assert bare("runs", "finish", fit, "--message", "the node is lost").out == f"run:{fit} is killed.\n"
    assert "status      killed: the node is lost\n" in bare("runs", "show", fit).out
    assert "run-ended" in bare("runs", "finish", fit, code=2).err


def test_files_come_one_by_one_by_the_folder_and_all(bare: Shell, fit: str, tmp_path: Path) -> None:
    assert bare("runs", "artifacts", fit, "plots/roc.txt").out == "plots/roc.txt"
    assert [one["path"] for one in bare("runs", "artifacts", fit, "plots", "--json").json] == [
        "plots/deep/pr.txt",
        "plots/roc.txt",
    ]
    bare("runs", "artifacts", fit, "plots", "-o", str(tmp_path / "plots"))
    bare("runs", "artifacts", fit, "-o", str(tmp_path / "all"))
    written = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.glob("[ap]*/**/*.txt")}
    assert written == {
        "plots/roc.txt": "plots/roc.txt",
        "plots/deep/pr.txt": "plots/deep/pr.txt",
        "all/plots/roc.txt": "plots/roc.txt",
        "all/plots/deep/pr.txt": "plots/deep/pr.txt",
        "all/plots.txt": "plots.txt",
    }
    assert "no-artifact" in bare("runs", "artifacts", fit, "plot", code=2).err
    assert "cannot be written" in bare("runs", "artifacts", fit, "-o", str(tmp_path / "all/plots.txt"), code=2).err


def test_a_name_in_place_of_an_id_is_told_the_ids(bare: Shell, fit: str) -> None:
    said = bare("runs", "show", "fit 1", code=2).err
    assert f"'fit 1' is what runs are called, and a run is named by its ID.\n  The newest of that name: {fit}." in said
    assert "Give run:ID, or the ID alone." in bare("runs", "show", "fit 2", code=2).err
