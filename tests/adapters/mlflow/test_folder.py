"""Folders of MLflow's file store: what it wrote comes over whole and once, and what is damaged is named."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Invalid
from loopline.foreign import run_source
from loopline.tracking.exchange.importing import SOURCE, Outcome, bring


def taken(platform: Platform, folder: Path) -> dict[str, Outcome]:
    return {one.source: one for one in bring(platform.session(), run_source("mlflow", str(folder)))}


def by_name(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = {run.name: run for run in platform.session().runs.list(limit=1000).runs}
    return found


def place_of(mlruns: Path, name: str) -> Path:
    (found,) = (meta.parent for meta in mlruns.glob("[0-9]*/*/meta.yaml") if f"run_name: {name}\n" in meta.read_text())
    return found


def test_runs_come_over_as_they_are(either: Platform, mlruns: Path) -> None:
    found = taken(either, mlruns)
    assert {one.state for one in found.values()} == {"imported"}
    assert len(found) == 6, "the deleted ones are left out"
    session, runs = either.session(), by_name(either)
    parent = next(run for name, run in runs.items() if name.startswith('fit: "one" of a name that is so long'))
    assert parent.name.endswith("folded over lines by whoever writes YAML with a width")
    assert parent.params == {"rate": "0.1", "layers/depth": "3", "text": "a\nb"}
    assert (parent.status, parent.note, parent.tags["team"]) == ("finished", "*fine*", "clinic")
    assert parent.ended > parent.created == 1795838014937
    assert parent.tags[SOURCE] == f"mlflow:{parent.tags[SOURCE][7:]}"
    history = session.runs.history(parent.id, "train/loss")
    assert [(p.step, p.value) for p in history] == [(step, 1 / (1 + step)) for step in range(30)]
    assert history[0].time == 1795838014962
    odd = session.runs.history(parent.id, "odd")
    assert [(p.step, p.value) for p in odd] == [(-5, "-Infinity"), (0, "NaN"), (1, "Infinity")]
    files = {
        file.path: session.runs.artifact(parent.id, file.path).read() for file in session.runs.artifacts(parent.id)
    }
    assert files.keys() == {"d.json", "notes/a.txt"}
    assert files["notes/a.txt"] == b"hello\n"
    folds = [runs[f"fold {n}"] for n in range(3)]
    assert {fold.parent for fold in folds} == {parent.id}
    assert [fold.params["fold"] for fold in folds] == ["0", "1", "2"]
    assert runs["broken"].status == "failed"
    assert (runs["goes on"].status, runs["goes on"].ended) == ("running", None)
    names = {group.number: group.name for group in session.groups.list().groups}
    assert names[parent.group] == 'visits: a & "b"'
    assert names[runs["broken"].group] == "other"
    assert session.ledger.verify().ok


def test_again_is_nothing_twice_and_goes_on(either: Platform, mlruns: Path) -> None:
    first = taken(either, mlruns)
    place = place_of(mlruns, "goes on")
    (place / "metrics" / "loss").open("a").write("1795838016000 0.5 1\n")
    meta = (place / "meta.yaml").read_text()
    (place / "meta.yaml").write_text(
        meta.replace("status: 1", "status: 3").replace("end_time: null", "end_time: 1795838017000")
    )
    again = taken(either, mlruns)
    assert {s: one.run for s, one in again.items()} == {s: one.run for s, one in first.items()}
    assert sorted(one.state for one in again.values()) == ["imported"] + ["there already"] * 5
    session = either.session()
    run = by_name(either)["goes on"]
    assert [p.value for p in session.runs.history(run.id, "loss")] == [2.0, 0.5]
    assert (run.status, run.ended) == ("finished", 1795838017000)
    assert len(session.runs.list(limit=1000).runs) == 6
    assert len(session.groups.list().groups) == 3


def test_two_projects_take_the_same_folder(platform: Platform, mlruns: Path) -> None:
    owner = platform.session()
    owner.projects.create("clinic")
    for project in ("default", "clinic"):
        session = platform.session(project=project)
        found = list(bring(session, run_source("mlflow", str(mlruns))))
        assert {one.state for one in found} == {"imported"}
        assert len(session.runs.list(limit=100).runs) == 6


DAMAGES = {
    "no number": ("metrics/loss", b"1795838015120 1.0 0\n1795838015121 one 1\n", "'loss'"),
    "no step": ("metrics/loss", b"1795838015120 1.0 0.5\n", "whole numbers"),
    "a step too large": ("metrics/loss", b"1795838015120 1.0 9223372036854775808\n", "out of range"),
    "a line without end": ("metrics/loss", b"1" * 10_000, "whole numbers|no time"),
    "a value alone": ("metrics/loss", b"1.0\n", "no time, value and step"),
    "no YAML": ("meta.yaml", b"run_id: [", "expected"),
    "a list": ("meta.yaml", b"- a\n- b\n", "no names and values"),
    "a program": ("meta.yaml", b"run_id: !!python/object/apply:os.system ['true']\n", "constructor"),
    "a bomb": ("meta.yaml", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "anchors"),
    "too deep": ("meta.yaml", b"[" * 100_000, "."),
    "no UTF-8": ("params/p", b"\xff\xfe", "utf-8|UTF-8"),
    "NUL": ("tags/t", b"a\0b", "."),
    "no status": ("meta.yaml", b"run_id: abc\nstart_time: 1\nstatus: 9\n", "status"),
    "no time": ("meta.yaml", b"run_id: abc\nstart_time: soon\nstatus: 3\n", "start_time"),
    "a time of no calendar": ("meta.yaml", b"run_id: abc\nstart_time: 1\nend_time: x\nstatus: 3\n", "end_time"),
    "a key that cannot be": ("params/" + "k" * 251, b"1", "key"),
    "too long": ("params/p", b"x" * 70_000, "characters"),
    "much too long": ("params/p", b"x" * 1_100_000, "bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_and_nothing_of_it_taken(platform: Platform, mlruns: Path, damage: str) -> None:
    name, content, why = DAMAGES[damage]
    place = place_of(mlruns, "broken") / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    found = taken(platform, mlruns)
    (refused,) = (one for one in found.values() if one.state == "refused")
    assert re.search(why, refused.why), refused.why
    assert [one.state for one in found.values()].count("imported") == 5
    assert "broken" not in by_name(platform)


def test_a_line_that_was_cut_as_it_was_written_is_left_out_and_said(platform: Platform, mlruns: Path) -> None:
    (place_of(mlruns, "goes on") / "metrics" / "loss").open("ab").write(b"17958380160")
    (told,) = (one for one in taken(platform, mlruns).values() if one.left_out)
    assert "the last line of loss" in told.left_out[0]
    assert by_name(platform)["goes on"].metrics == {"loss": 2.0}


def test_nothing_outside_of_the_folder_is_read(platform: Platform, mlruns: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.pem").write_text("private")
    place = place_of(mlruns, "broken")
    (place / "artifacts").mkdir(exist_ok=True)
    os.symlink(secret, place / "artifacts" / "folder")
    os.symlink(secret / "key.pem", place / "artifacts" / "file")
    os.symlink(secret / "key.pem", place / "params-link")
    (place / "params").mkdir(exist_ok=True)
    os.symlink(secret / "key.pem", place / "params" / "p")
    os.symlink(place, place.parent / "again")
    found = taken(platform, mlruns)
    run = by_name(platform)["broken"]
    assert run.params == {}
    assert platform.session().runs.artifacts(run.id) == ()
    assert "4 symbolic links" in found[run.tags[SOURCE]].left_out
    assert len(found) == 6


def test_a_child_that_comes_before_its_parent_finds_it(platform: Platform, mlruns: Path) -> None:
    early = place_of(mlruns, "fold 0")
    early.rename(early.with_name("0000"))
    (place_of(mlruns, "fold 1") / "tags" / "mlflow.parentRunId").write_text("f" * 32)
    found = taken(platform, mlruns)
    runs = by_name(platform)
    assert runs["fold 0"].parent == runs["fold 2"].parent is not None
    assert runs["fold 1"].parent is None
    assert any("its parent" in what for what in found[runs["fold 1"].tags[SOURCE]].left_out)


def test_parents_in_a_ring_end(platform: Platform, mlruns: Path) -> None:
    for one, other in (("fold 0", "fold 1"), ("fold 1", "fold 0")):
        (place_of(mlruns, one) / "tags" / "mlflow.parentRunId").write_text(place_of(mlruns, other).name)
    assert {one.state for one in taken(platform, mlruns).values()} == {"imported"}


def test_a_folder_that_is_none(tmp_path: Path, mlruns: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path, mlruns / "0" / "meta.yaml"):
        with pytest.raises(Invalid) as told:
            run_source("mlflow", str(place))
        assert told.value.code == "bad-import"


def test_numbers_of_every_kind(platform: Platform, mlruns: Path) -> None:
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308, math.pi]
    lines = "".join(f"{n} {value} {-n}\n" for n, value in enumerate(values, 1))
    (place_of(mlruns, "broken") / "metrics" / "loss").write_text(lines)
    taken(platform, mlruns)
    run = by_name(platform)["broken"]
    assert [p.value for p in platform.session().runs.history(run.id, "loss")] == values[::-1]
