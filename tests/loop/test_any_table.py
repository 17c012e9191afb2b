"""Tables nobody has seen: each ends as promoted or refused by a gate, and what is promoted answers the table's own raw rows."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid
from loopline.loop import again, files, starter
from loopline.loop.run import Result
from loopline.operations import Body
from loopline.packaging.runtime import Session as Served
from loopline.packaging.runtime import predict_rows
from loopline.serving.log import Frame, Part, PredictionLog, encode

N = 1_200


def gaps(values: list[Any], random: np.random.Generator) -> list[Any]:
    return [None if missing else value for value, missing in zip(values, random.random(len(values)) < 0.1, strict=True)]


def mixed(n: int = N, seed: int = 1) -> tuple[pl.DataFrame, np.ndarray]:
    """Columns of every kind, and a signal that hangs on some of them; no label yet."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=n), random.normal(size=n)
    town = random.integers(0, 1_000, n)
    days = [date(2022, 1, 1) + timedelta(days=int(k)) for k in random.integers(0, 900, n)]
    frame = pl.DataFrame(
        {
            "id": np.arange(n),
            "x": gaps(x.tolist(), random),
            "z": z,
            "town": gaps([f"town {k}" for k in town], random),
            "day": gaps(days, random),
            "when": [datetime(2022, 1, 1) + timedelta(minutes=int(k)) for k in random.integers(0, 90_000, n)],  # noqa: DTZ001
            "flag": gaps([bool(k) for k in random.integers(0, 2, n)], random),
            "count": gaps(random.integers(0, 50, n).tolist(), random),
            "empty": pl.Series([None] * n, dtype=pl.Float64),
            "same": ["one"] * n,
            "remark": [
                f"something was said at length about the matter in hand, as often before, by clerk {k}"
                for k in range(n)
            ],
        }
    )
    months = np.array([day.month for day in days])
    signal = 1.5 * x + z + 0.5 * (town % 7 == 0) + months / 12 - 0.6
    return frame, signal + random.normal(size=n) * 0.7


def with_label(label: Callable[[np.ndarray], Any]) -> pl.DataFrame:
    frame, signal = mixed()
    return frame.with_columns(pl.Series("y", label(signal)))


def yes_no(signal: np.ndarray) -> list[str]:
    return ["yes" if s > 0 else "no" for s in signal]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def platform(home: Path) -> Iterator[Platform]:
    with closing(Platform.open(workspace=home / "ws")) as opened:
        yield opened


def loop_on(
    platform: Platform, home: Path, frame: pl.DataFrame, label: str = "y", form: str = "parquet", **asked: Any
) -> Result:
    path = home / f"table.{form.removesuffix(';')}"
    if form == "parquet":
        frame.write_parquet(path)
    elif form == "ndjson":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator=";" if form == "csv;" else ",")
    starter.write(home, "mine", path, label=label, **asked)
    return again.first(platform.session(), "mine", home / "ws")


def answers(session: Session, home: Path, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """What the champion's bundle says to the first rows of the table, sent as a client would send them."""
    folder = home / "bundle"
    with tarfile.open(fileobj=io.BytesIO(session.models.bundle("mine", "champion").read())) as tar:
        tar.extractall(folder, filter="data")
    served = Served(folder)
    wanted = {field.name for field in served.manifest.signature.inputs}
    rows = [
        {k: v.isoformat() if isinstance(v, date) else v for k, v in row.items() if k in wanted}
        for row in frame.head(20).to_dicts()
    ]
    assert any(value is None for row in rows for value in row.values())
    return predict_rows(served, rows)


@pytest.mark.parametrize(
    ("frame", "asked"),
    [
        (with_label(yes_no), {"time": "when"}),
        (with_label(yes_no), {"form": "csv;"}),
        (with_label(yes_no), {"form": "ndjson", "group": "count"}),
        (with_label(lambda s: s > 0), {}),
        (with_label(lambda s: (s > 0).astype(int)), {"form": "csv", "time": "day"}),
    ],
    ids=["dates", "semicolons", "ndjson-group", "boolean", "integers-time-with-ties"],
)
def test_two_classes(platform: Platform, home: Path, frame: pl.DataFrame, asked: dict[str, str]) -> None:
    found = loop_on(platform, home, frame, **asked)  # type: ignore[arg-type]
    assert found.outcome == "promoted", found.reason
    assert found.metrics["roc_auc"][1] > 0.7
    for answer in answers(platform.session(), home, frame):
        assert 0 <= answer["probability"] <= 1
        assert answer["label"] in {"yes", "no", "true", "false", "0", "1"}


def test_several_classes(platform: Platform, home: Path) -> None:
    frame = with_label(lambda s: np.array(["low", "mid", "high"])[np.digitize(s, [-1, 1])])
    found = loop_on(platform, home, frame, protected=["flag"])
    assert found.outcome == "promoted", found.reason
    for answer in answers(platform.session(), home, frame):
        assert answer["label"] in {"low", "mid", "high"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_amounts(platform: Platform, home: Path, form: str) -> None:
    frame = with_label(lambda s: np.round(s * 10).astype(int) if form == "csv" else s)
    found = loop_on(platform, home, frame, form=form)
    assert found.outcome == "promoted", found.reason
    assert found.metrics["r2"][1] > 0.3
    assert all(np.isfinite(answer["value"]) for answer in answers(platform.session(), home, frame))


def test_odd_column_names_pass_all_the_way(platform: Platform, home: Path) -> None:
    names = {
        "x": 'a "quoted" name', "z": "it's", "town": "ünï cødé 列", "count": "dash-and.dot", "flag": "back\\slash",
        "y": 'the "label", \'y\'', "day": "new\nline", "when": " spaces  ", "id": "{brace} %s", "remark": "^caret",
    }  # fmt: skip
    frame = with_label(yes_no).rename(names)
    found = loop_on(platform, home, frame, names["y"], time=names["when"], protected=[names["flag"]])
    assert found.outcome in ("promoted", "waiting"), found.reason
    assert found.metrics["roc_auc"][1] > 0.7
    assert files.read(home / "mine.py").data.protected == (names["flag"],)


@pytest.mark.parametrize("name", ["*", "^a.*$"])
@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_a_name_that_is_a_pattern_is_refused(home: Path, platform: Platform, name: str, form: str) -> None:
    with pytest.raises(Invalid, match="reads as a pattern") as refused:
        loop_on(platform, home, with_label(yes_no).rename({"x": name}), form=form)
    assert "Rename it" in refused.value.hint


def test_numbers_without_bounds_and_duplicate_rows(platform: Platform, home: Path) -> None:
    frame = with_label(yes_no).drop("id")
    random = np.random.default_rng(3)
    frame = frame.with_columns(
        x=pl.when(pl.col("count") == 7).then(float("inf")).otherwise(pl.col("x")),
        huge=pl.Series([10.0**k for k in random.integers(-300, 300, N)]),
        key=pl.Series(random.integers(0, 2**62, N)),
    )
    found = loop_on(platform, home, pl.concat([frame, frame]))
    assert found.outcome == "promoted", found.reason


def test_a_gap_that_training_never_saw_is_no_error(platform: Platform, home: Path) -> None:
    """Some of the last rows in time lack a value that all before them had: they are measured like the others."""
    frame = with_label(yes_no).sort("when").with_row_index("row")
    late = (pl.col("row") >= N * 0.85) & (pl.col("row") % 3 == 0)
    frame = frame.with_columns(z=pl.when(late).then(None).otherwise(pl.col("z"))).drop("row")
    found = loop_on(platform, home, frame, time="when")
    assert found.outcome == "promoted", found.reason


def test_rare_events(platform: Platform, home: Path) -> None:
    """One in 500 of 60,000."""
    random = np.random.default_rng(3)
    n = 60_000
    x, z = random.normal(size=n), random.normal(size=n)
    y = random.random(n) < 1 / (1 + np.exp(7.6 - 1.3 * x - z))
    assert 90 < y.sum() < 180
    found = loop_on(platform, home, pl.DataFrame({"t": np.arange(n), "x": x, "z": z, "y": y.astype(int)}), time="t")
    assert found.outcome == "promoted", found.reason


@pytest.mark.parametrize(
    "label",
    [
        lambda random: random.integers(0, 2, N),
        lambda random: random.normal(size=N),
        lambda random: np.array(["a", "b", "c"])[random.integers(0, 3, N)],
    ],
    ids=["binary", "regression", "multiclass"],
)
def test_noise_is_refused_and_no_champion_made(platform: Platform, home: Path, label: Callable[..., Any]) -> None:
    frame = mixed()[0].with_columns(pl.Series("y", label(np.random.default_rng(11))))
    found = loop_on(platform, home, frame)
    assert found.outcome == "refused"
    assert "misses" in found.reason
    session = platform.session()
    assert all("champion" not in model.aliases for model in session.models.list())
    assert not session.endpoints.list()


def with_late_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the order of time, with a text among the dates and one among the numbers, after the training side's."""
    late = pl.int_range(pl.len()) == N - 40
    return frame.sort("when").with_columns(
        u=pl.when(late).then(pl.lit("soon")).otherwise(pl.col("when").dt.date().cast(pl.String)),
        v=pl.when(late).then(pl.lit("many")).otherwise(pl.col("count").cast(pl.String)),
    )


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_text_among_later_dates_makes_the_column_text(platform: Platform, home: Path, form: str) -> None:
    """Also where the training rows hold dates alone: types are those of all rows."""
    frame = with_late_texts(with_label(yes_no))
    found = loop_on(platform, home, frame, form=form, time="when")
    assert found.outcome == "promoted", found.reason
    written = starter.write(home, "again", home / f"table.{form}", label="y", time="when")
    assert any("column 'u' stays text: 1 of 1200 values is no date (first in row 1161)" in n for n in written.notes)


def test_a_text_among_dates_is_set_aside_by_a_declared_type(platform: Platform, home: Path) -> None:
    """The way out that `init` names; a champion that learnt dates is measured on the rows that are left."""
    frame = with_late_texts(with_label(yes_no))
    usual = frame.with_columns(u=pl.col("when").dt.date().cast(pl.String), v=pl.col("count"))
    assert loop_on(platform, home, usual, form="csv", time="when").outcome == "promoted"
    file = home / "mine.py"
    types = 'contract = ll.contract(\n    ll.column("u").of_type("date"),\n    ll.column("v").of_type("integer"),\n'
    file.write_text(file.read_text().replace("contract = ll.contract(\n", types))
    frame.with_columns(z=pl.col("z") + 1e-9).write_csv(home / "table.csv")
    second = again.first(platform.session(), "mine", home / "ws")
    assert second.outcome == "challenging", second.reason
    assert platform.session().datasets.show("mine").quarantined == 1


def test_a_column_that_alone_tells_the_label_is_said(platform: Platform, home: Path) -> None:
    frame = with_label(yes_no)
    random = np.random.default_rng(4)
    told = (frame["y"] == "yes").cast(pl.Float64) + random.normal(size=N) * 0.001
    frame = frame.with_columns(told=told, state=frame["y"].replace({"yes": "paid", "no": "open"}))
    frame.write_parquet(home / "table.parquet")
    written = starter.write(home, "mine", home / "table.parquet", label="y")
    expected = ["'told' alone tells the label (AUC 1.000)", "'state' alone tells the label (AUC 1.000)"]
    for one in expected:
        assert any(one in note for note in written.notes), written.notes
    assert not any("'x' alone" in note or "'town' alone" in note for note in written.notes)
    assert again.first(platform.session(), "mine", home / "ws").outcome == "promoted"
    session = platform.session()
    (run,) = session.pipelines.list()
    said = next(step.outputs["said"] for step in run.steps if step.step == "fit")
    card = session.models.card("mine", "champion").read().decode()
    for one in expected:
        assert one in said
        assert one in card
    baseline = next(step.outputs["said"] for step in run.steps if step.step == "baseline")
    assert baseline.startswith("the baseline (constant)")


def test_rows_that_break_a_rule_which_only_warns_are_counted(platform: Platform, home: Path) -> None:
    frame = with_label(yes_no)
    loop_on(platform, home, frame)
    file = home / "mine.py"
    text = file.read_text()
    rule = next(line for line in text.splitlines() if 'll.column("count").between(' in line)
    file.write_text(text.replace(rule, '    ll.column("count").between(0, 40, severity="warn"),'))
    beyond = int((frame["count"] > 40).sum())
    again.first(platform.session(), "mine", home / "ws")
    session = platform.session()
    assert session.datasets.show("mine").warned["count.between(0, 40)"] == beyond > 0
    run = session.pipelines.list()[0]
    said = next(step.outputs["said"] for step in run.steps if step.step == "data")
    assert f"count.between(0, 40) {beyond}" in said
    # Where the column holds text, every row breaks the range.
    frame.with_columns(count=pl.lit("about ") + pl.col("count").cast(pl.String)).write_parquet(home / "table.parquet")
    contract = msgspec.to_builtins(files.read(file).contract)
    version = session.datasets.add("mine", Body(home / "table.parquet"), contract=contract)
    assert version.warned["count.between(0, 40)"] == version.rows - frame["count"].null_count()


def test_columns_that_the_model_does_not_read_are_not_watched(platform: Platform, home: Path) -> None:
    """`id` names a row: it may be left out of what is served, or go on counting."""
    frame = with_label(yes_no)
    assert loop_on(platform, home, frame).outcome == "promoted"
    told = loopline(home, "data", "profile", "mine")
    assert told.returncode == 0
    session = platform.session()
    log = PredictionLog(home / "ws" / "serving" / "log", 0, segment_bytes=1 << 30, segment_age_ms=1 << 40, now=0)
    now = session.monitors.list()[0].declared + 1
    sent = [
        {k: v.isoformat() if isinstance(v, date) else v for k, v in row.items() if k not in ("y", "id", "same")}
        for row in frame.head(600).to_dicts()
    ]
    answered = [{"id": f"r-{n}", "probability": 0.5, "label": "no"} for n in range(len(sent))]
    log.append(
        [
            encode(
                Frame(
                    time_ms=now, request="r", endpoint="mine", parts=[Part("model:mine@1", "champion", "live", 1.0)],
                    status=200, latency_us=10, form="list", sent=msgspec.json.encode(sent),
                    answered=msgspec.json.encode(answered),
                )
            )
        ],
        now,
    )  # fmt: skip
    session.predictions.collect()
    look = session.monitors.look("mine")
    assert (look.taken, look.rows, look.summary) == (True, 600, "no drift")
    report = msgspec.json.decode(session.monitors.drift("mine").read())
    seen = {column["column"] for column in report["columns"]}
    assert seen == {"x", "z", "day", "when", "flag", "count"}  # nor the town, which is another in nearly every row


def test_noise_leaves_the_champion_where_it_was(platform: Platform, home: Path) -> None:
    good = with_label(yes_no)
    first = loop_on(platform, home, good)
    assert first.outcome == "promoted"
    good.with_columns(pl.col("y").shuffle(seed=5)).write_parquet(home / "table.parquet")
    second = again.first(platform.session(), "mine", home / "ws")
    assert second.outcome == "refused"
    session = platform.session()
    champion = next(model.aliases["champion"] for model in session.models.list() if model.name == "mine")
    assert f"model:mine@{champion}" == first.model
    assert session.endpoints.show("mine").champion == first.model


@pytest.mark.parametrize(("rows", "label"), [(3, yes_no), (8, yes_no), (3, lambda signal: signal)])
def test_too_few_rows_to_split_write_nothing(
    platform: Platform, home: Path, rows: int, label: Callable[..., Any]
) -> None:
    with pytest.raises(Invalid, match="side of the split") as refused:
        loop_on(platform, home, with_label(label).head(rows))
    assert "Give more rows" in refused.value.hint
    assert not (home / "mine.py").exists()


@pytest.mark.parametrize("label", [yes_no, lambda signal: signal], ids=["classes", "amounts"])
def test_fifty_rows_prove_nothing(platform: Platform, home: Path, label: Callable[..., Any]) -> None:
    found = loop_on(platform, home, with_label(label).head(50))
    assert found.outcome == "refused"
    assert "misses" in found.reason or "what is not shown is not met" in found.reason


def loopline(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopline", *words],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LOOPLINE_WORKSPACE": str(home / "ws"), "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"},
    )


def test_exit_codes_of_the_command(home: Path) -> None:
    """0 promoted, 3 refused by a gate, 2 bad input."""
    good = with_label(yes_no)
    good.write_parquet(home / "good.parquet")
    good.with_columns(pl.col("y").shuffle(seed=5)).write_parquet(home / "noise.parquet")
    made = loopline(home, "init", "visits", "--data", "good.parquet", "--label", "y")
    assert made.returncode == 0, made.stderr
    assert "Next: look through visits.py" in made.stdout
    done = loopline(home, "run", "visits")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2].startswith("promoted: model:visits@1 is @champion")
    refused = loopline(home, "run", "visits", "--data", "noise.parquet")
    assert (refused.returncode, refused.stderr) == (3, "")
    assert "refused by" in refused.stdout
    bad = loopline(home, "run", "visits", "--data", "nois.parquet")
    assert bad.returncode == 2
    assert "noise.parquet" in bad.stderr
    assert "Traceback" not in bad.stderr


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_large_table(platform: Platform, home: Path) -> None:
    """300,000 rows of 100 columns."""
    random = np.random.default_rng(3)
    n = 300_000
    columns: dict[str, Any] = {f"n{k}": random.normal(size=n) for k in range(60)}
    columns |= {f"i{k}": random.integers(0, 40, n) for k in range(20)}
    for k in range(15):
        levels = np.array([f"v{j}" for j in range(10 + 60 * k)])
        columns[f"c{k}"] = levels[random.integers(0, len(levels), n)]
    start = np.datetime64("2020-01-01", "ms")
    columns |= {f"d{k}": start + random.integers(0, 1_000, n) * np.timedelta64(86_400_000, "ms") for k in range(3)}
    columns["t"] = start + np.sort(random.integers(0, 90_000_000, n)) * np.timedelta64(1_000, "ms")
    signal = columns["n0"] + 0.5 * columns["n1"] * columns["n2"] + 0.05 * columns["i0"]
    columns["y"] = np.where(random.random(n) < 1 / (1 + np.exp(-signal)), "yes", "no")
    absent = pl.Series(random.random(n) < 0.2)
    frame = pl.DataFrame(columns).with_columns(
        pl.when(absent).then(None).otherwise(pl.col(name)).alias(name) for name in ("n5", "i3", "c4", "d1")
    )
    assert frame.shape == (n, 100)
    found = loop_on(platform, home, frame, form="csv", time="t")
    assert found.outcome == "promoted", found.reason
    assert answers(platform.session(), home, frame)
