"""Batch scoring: a dataset version in, the same rows with what a model version says out, whatever its length."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.data.records import LabelColumn
from loopline.errors import Invalid, LooplineError, NotFound, Refused
from loopline.loop.table import Table, boosted, linear
from loopline.operations import Body
from loopline.outcomes import scored, scoring
from loopline.packaging.bundle import write_bundle
from loopline.packaging.runtime import predict_rows
from loopline.registry.bundle_tar import pack


def table(rows: int, seed: int = 0, **labels: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    ward = np.array(["east", "north", "west"])[rng.integers(0, 3, rows)]
    return pl.DataFrame({"id": np.arange(rows), "x": x, "ward": ward, **labels}).with_columns(
        pl.when(pl.col("id") % 7 == 0).then(None).otherwise(pl.col("x")).alias("x")
    )


def body(frame: pl.DataFrame) -> Body:
    return Body(frame.write_parquet(file := io.BytesIO()) or file.getvalue(), name="rows.parquet")


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database_url
    )
    yield platform
    platform.close()


@pytest.fixture
def session(platform: Platform) -> Session:
    return platform.session()


def register(session: Session, folder: Path, kind: str = "binary") -> Path:
    """A model version "risk" of that task; its bundle."""
    rng = np.random.default_rng(1)
    frame = table(600, 1)
    score = frame["x"].fill_null(0.0).to_numpy() + (frame["ward"] == "north").to_numpy() + rng.normal(size=600) / 4
    y = {
        "binary": np.where(score > 0.3, "yes", "no"),
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(score, (-0.3, 0.8))],
        "regression": score,
    }[kind]
    frame = frame.drop("id").with_columns(pl.Series("y", y))
    fit = linear if kind != "multiclass" else boosted
    model = fit(Table(frame[:400], frame[400:], label="y"))
    write_bundle(
        model, folder / kind, name="risk", version=1, example={"x": 0.5, "ward": "north"}, validation_frame=frame[400:],
        created=1,
    )  # fmt: skip
    session.models.draft("risk", Body(pack(folder / kind), name="bundle.tar"))
    session.models.register("risk", 1)
    return folder / kind


def read(session: Session, ref: str) -> pl.DataFrame:
    name, _, version = ref.partition(":")[2].partition("@")
    return pl.read_ipc_stream(io.BytesIO(session.datasets.read(name, version).read()))


@pytest.mark.parametrize(
    ("kind", "few"),
    [("binary", 1000), ("multiclass", 1000), ("regression", 1000), ("binary", 300), ("regression", 300)],
)
def test_the_scores_are_those_of_the_model(
    session: Session, tmp_path: Path, kind: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "FEW", few)  # below the rows that there are: by workers
    monkeypatch.setattr(scoring, "ROWS", 100)
    monkeypatch.setattr(scored, "ROWS", 100)
    bundle = register(session, tmp_path, kind)
    frame = table(350, 2)
    source = session.datasets.add("visits", body(frame))
    made = session.scores.make("visits", "risk@1")
    assert (made.ref, made.rows, made.inputs, made.facts) == (
        "data:visits.scores@1", 350, (source.ref,), {"model": "model:risk@1"},
    )  # fmt: skip
    found = read(session, made.ref)
    assert found.select(frame.columns).equals(frame)
    answers = predict_rows(bundle, frame.drop("id").to_dicts())
    if kind == "regression":
        assert found["prediction"].to_list() == pytest.approx([a["value"] for a in answers])
    else:
        assert found["prediction"].to_list() == [a["label"] for a in answers]
        for name in answers[0]["probabilities"]:
            assert found[f"probability.{name}"].to_list() == pytest.approx(
                [a["probabilities"][name] for a in answers], abs=1e-6
            )
    # Once more it is the same version; another version of the rows makes the next one.
    assert session.scores.make("visits", "risk@1").ref == made.ref
    session.datasets.add("visits", body(table(10, 3)))
    assert session.scores.make("visits", "risk@1").ref == "data:visits.scores@2"
    assert session.scores.make("visits", "risk@1", version="1", into="old").ref == "data:old@1"


def test_a_worker_that_is_killed_changes_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(session, tmp_path)
    session.datasets.add("visits", body(frame := table(4000, 5)))
    expected = read(session, session.scores.make("visits", "risk@1", into="here").ref)
    monkeypatch.setattr(scoring, "FEW", 100)
    monkeypatch.setattr(scoring, "ROWS", 20)
    killed: list[int] = []
    halt = threading.Event()

    def kill() -> None:
        while not halt.wait(0.2) and len(killed) < 2:  # a worker takes longer than that to start
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if len(killed) < 2 and "loopline.adapters.processes.worker" in child.cmdline():
                        child.kill()
                        killed.append(child.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        made = session.scores.make("visits", "risk@1", into="there")
    finally:
        halt.set()
        killer.join()
    assert killed
    assert made.rows == frame.height
    assert read(session, made.ref).equals(expected)


def test_where_many_rows_are_scored_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "FEW", 10)
    for place, words in {"spork": "no place where work is done", "ray:127.0.0.1:1": "Ray is not installed"}.items():
        platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), executor=place)
        session = platform.session()
        if place == "spork":
            register(session, tmp_path)
            session.datasets.add("visits", body(table(20)))
        with pytest.raises(LooplineError, match=words):
            session.scores.make("visits", "risk@1")
        assert [d.name for d in session.datasets.list()] == ["visits"]
        platform.close()


def test_where_scores_come_from_is_on_record(session: Session, tmp_path: Path) -> None:
    register(session, tmp_path)
    source = session.datasets.add("visits", body(table(20)))
    made = session.scores.make("visits", "risk@1")
    edges = session.lineage.trace(ref=made.ref).edges
    assert {source.ref, "model:risk@1"} <= {edge.source for edge in edges}
    session.datasets.withdraw("visits", "1", "wrong")
    assert session.datasets.show("visits.scores").unsound == source.ref


def test_sealed_rows_and_labels_are_left_out(session: Session, tmp_path: Path) -> None:
    register(session, tmp_path)
    frame = table(300, 4).with_columns(
        pl.Series("y", ["yes", "no"] * 150), pl.lit("2020-01-01").str.to_date().alias("day")
    )
    label = LabelColumn(column="y", time="day", matures="1d")
    session.datasets.add("visits", body(frame), labels=(label,))
    session.datasets.split("visits", label="y")
    made = session.scores.make("visits", "risk@1")
    sealed = session.datasets.show("visits.test").rows
    assert sealed > 0
    assert made.rows == 300 - sealed
    assert "y" not in [c.name for c in made.columns]
    with pytest.raises(Refused):
        session.scores.make("visits.test", "risk@1")


def test_what_cannot_be_scored_is_named_and_nothing_is_written(session: Session, tmp_path: Path) -> None:
    register(session, tmp_path)
    frame = table(20)
    session.datasets.add("visits", body(frame))
    session.datasets.add("lacking", body(frame.rename({"ward": "warp"})))
    session.datasets.add("scored", body(frame.with_columns(pl.lit("yes").alias("prediction"))))
    session.datasets.add("texts", body(frame.with_columns(pl.lit("a").alias("x"))))
    bad: list[tuple[dict[str, Any], type[LooplineError], str]] = [
        ({"name": "visits", "model": "risk@2"}, NotFound, "risk"),
        ({"name": "visits", "model": "rusk@1"}, NotFound, "rusk"),
        ({"name": "visits", "model": "risk@champion"}, Invalid, "no version by its number"),
        ({"name": "visits", "model": "risk@1", "version": "7"}, NotFound, "7"),
        ({"name": "visit", "model": "risk@1"}, NotFound, "visit"),
        ({"name": "visits", "model": "risk@1", "into": "visits"}, Invalid, "into itself"),
        ({"name": "visits", "model": "risk@1", "into": "../up"}, Invalid, "up"),
        ({"name": "lacking", "model": "risk@1"}, Invalid, "no column 'ward'.*Did you mean 'warp'"),
        ({"name": "scored", "model": "risk@1"}, Invalid, "a column 'prediction' already"),
        ({"name": "texts", "model": "risk@1"}, Invalid, "'x'"),
    ]
    for given, kind, words in bad:
        with pytest.raises(kind, match=words):
            session.scores.make(**given)
    assert not [d for d in session.datasets.list() if d.name.endswith(".scores")]


def test_on_the_command_line(tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    session = platform.session()
    register(session, tmp_path)
    session.models.set_alias("risk", "champion", 1)
    session.datasets.add("visits", body(table(20)))
    platform.close()

    def shell(*words: str) -> str:
        command = [sys.executable, "-m", "loopline", "--workspace", str(tmp_path / "workspace"), *words]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")}
        environment = kept | {"LOOPLINE_CHECKPOINTS": str(tmp_path / "copies")}
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout

    assert "20 rows of data:visits@1 are scored: data:visits.scores@1" in shell(
        "score", "visits", "--model", "risk@champion"
    )
    assert json.loads(shell("score", "visits@1", "--model", "risk", "--into", "s", "--json"))["ref"] == "data:s@1"
