"""A loop that cleans: engines with readings of mixed units, repeated rows and windows along each engine, up to its answers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopline.app import Platform
from loopline.loop import files
from loopline.loop.run import run_loop
from loopline.packaging.runtime import Session, predict_rows

LOOP = """\
import loopline as ll


@ll.step
def fit(train: ll.Table) -> ll.Model:
    return ll.boosted(train, leaves=8, rounds=40)


loop = ll.Loop(
    "engines",
    data=ll.source("rows.parquet", label="life", group="unit", ignore=["cycle"], task="regression"),
    clean=[
        ll.clean.deduplicate("unit", "cycle", keep="last"),
        ll.clean.number("heat", units={"F": 1, "mF": 0.001}),
        ll.clean.clip("heat", by="mad"),
        ll.clean.smooth("speed", rows=3, time="cycle", group="unit"),
        ll.clean.window("heat", rows=4, take=["mean"], time="cycle", group="unit"),
        ll.clean.one_hot("kind"),
    ],
    train=fit,
    gates=[],
)
"""


def _rows(units: int = 60, cycles: int = 25) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    n = units * cycles
    cycle = np.tile(np.arange(cycles), units)
    heat = 600 + cycle + rng.normal(size=n) * 3
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(units), cycles),
            "cycle": cycle,
            "heat": [f"{h * 1000:.0f} mF" if k % 5 == 0 else f"{h:.3f} F" for k, h in enumerate(heat)],
            "speed": 2_000 + cycle * 2 + rng.normal(size=n) * 9,
            "kind": rng.choice(["turbo", "prop"], n),
            "life": (cycles - cycle).astype(float),
        }
    )
    return pl.concat([frame, frame.filter(pl.col("cycle") == 7)])


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("engines")
    _rows().write_parquet(folder / "rows.parquet")
    (folder / "engines.py").write_text(LOOP)
    with_platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"), port=0)
    session = with_platform.session()
    loop = files.read(folder / "engines.py")
    session.loops.declare(loop.name, str(folder / "engines.py"), loop.describe())
    result = run_loop(loop, session, folder / "rows.parquet", scratch=folder / "scratch")
    yield folder, session, result
    with_platform.close()


def test_what_cleaning_did_is_told_and_no_row_is_lost(engines: Any) -> None:
    _, session, _ = engines
    step = next(s for s in session.pipelines.list("engines")[0].steps if s.step == "clean")
    report = step.outputs["report"]
    assert report["rows"] == session.datasets.show("engines.train").rows
    assert report["rows"] == report["kept"] + report["aside"]["deduplicate unit cycle"]
    assert report["aside"]["deduplicate unit cycle"] > 0
    assert {c["step"]: c["made"] for c in report["changes"]}["window"] == ["heat.mean4"]


def test_the_model_takes_raw_rows_with_their_history(engines: Any, tmp_path: Path) -> None:
    _, session, _ = engines
    with tarfile.open(fileobj=io.BytesIO(session.models.bundle("engines", "champion").read())) as tar:
        tar.extractall(tmp_path, filter="data")
    served = Session(next(path.parent for path in tmp_path.rglob("manifest.json")))
    fields = {f.name: (f.kind, f.nullable) for f in served.manifest.signature.inputs}
    assert fields["cycle"] == ("integer", False)
    assert fields["heat"][0] in ("category", "text")
    rows = _rows(2).filter(pl.col("unit") == 1).unique("cycle", maintain_order=True).drop("life").to_dicts()
    assert set(fields) <= set(rows[0])
    rows = [{name: row[name] for name in fields} for row in rows]
    whole = [answer["value"] for answer in predict_rows(served, rows)]
    with_history = predict_rows(served, rows[15:20])[-1]["value"]
    assert with_history == pytest.approx(whole[19], abs=1e-3)
    assert np.abs(np.array(whole) - np.arange(25, 0, -1)).mean() < 3
    assert predict_rows(served, [{**rows[0], "heat": "no reading", "kind": "unknown"}])
