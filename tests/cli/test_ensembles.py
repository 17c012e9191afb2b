"""An ensemble of a loop's models, from its file to an answer: a version as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import skops.io
from sklearn.neural_network import MLPClassifier

import loopline as ll
from loopline.app import Platform
from loopline.packaging.predictor import BundlePredictor
from loopline.serving.alone import Alone
from loopline.serving.fetched import Wanted

from .conftest import Shell, within

BLEND = """
name = "visits.blend"
answer = "blend"

[nodes.fitted]
model = "visits@1"

[nodes.baseline]
model = "visits.baseline@1"

[nodes.blend]
average = ["fitted", "baseline"]
weights = [3, 1]
"""


@pytest.fixture
def made(shell: Shell, tmp_path: Path) -> Shell:
    """A workspace with the bundle of the ensemble beside it."""
    copied = shell.copy(tmp_path)
    (tmp_path / "blend.toml").write_text(BLEND)
    with within(tmp_path):
        if copied("models", "show", "visits.baseline@1", "--json").json["status"] == "draft":
            copied("models", "register", "visits.baseline@1")
        told = copied("models", "ensemble", "blend.toml", "--rows", "visits.csv", "--label", "back")
    assert told.out.startswith("visits.blend-bundle is a bundle of 'visits.blend', served by onnx.")
    return copied


def test_an_ensemble_is_registered_gated_and_served_as_any_version(made: Shell, tmp_path: Path) -> None:
    bundle = tmp_path / "visits.blend-bundle"
    with within(tmp_path):
        assert "visits.blend@1 is a draft" in made("models", "push", str(bundle)).out
        made("models", "register", "visits.blend@1")
        made("models", "verify", "visits.blend@1")
        said = made("models", "show", "visits.blend@1", "--json").json
        assert said["inputs"] == ["model:visits.baseline@1", "model:visits@1"]
        assert said["parity"]["runtime"] == "onnx"
        assert "model:visits@1" in made("lineage", "model:visits.blend@1").out
        # A file of Python declares the same.
        (tmp_path / "blend.py").write_text(
            "import loopline as ll\n\nblend = ll.Ensemble(name='visits.blend', answer='blend', nodes={'fitted': "
            "ll.node.model('visits@1'), 'baseline': ll.node.model('visits.baseline@1'), 'blend': "
            "ll.node.average('fitted', 'baseline', weights=(3, 1))})\n"
        )
        made("models", "ensemble", "blend.py", "--rows", "visits.csv", "--label", "back", "-o", "again")
        assert (tmp_path / "again" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
        (tmp_path / "two.py").write_text("")
        assert (
            "declares 0 of them"
            in made("models", "ensemble", "two.py", "--rows", "visits.csv", "--label", "back", code=2).err
        )
    rows = pl.read_csv(tmp_path / "visits.csv")
    platform = Platform.open(workspace=str(made.workspace), checkpoints=str(made.state / "loopline" / "checkpoints"))
    try:
        session = platform.session()
        gates = session.evaluations.declare(
            [
                msgspec.to_builtins(one)
                for one in (ll.gate.at_least("roc_auc", 0.6), ll.gate.beats("baseline", "roc_auc"))
            ]
        )
        found = session.evaluations.measure(
            "visits.blend@1", "visits.test@1", "back", opponents={"baseline": "visits.baseline@1"}
        )
        judgement = session.evaluations.judge(found.id, gates.digest)
        assert next(verdict.outcome for verdict in judgement.verdicts) == "pass"
        assert len(judgement.verdicts) == 2
        server = Alone(tmp_path / "own", [Wanted(name="visits.blend", version="1")], session, port=0)
        server.start()
        try:
            answered = _asked(server.supervisor.port, rows[:50].drop("back", "visit", "person").to_dicts())
        finally:
            server.stop()
    finally:
        platform.close()
    parts = []
    for name in ("visits", "visits.baseline"):
        with within(tmp_path):
            made("models", "pull", f"{name}@1", f"{name}-pulled")
        parts.append(BundlePredictor(tmp_path / f"{name}-pulled").predict(rows[:50]))
    assert answered == pytest.approx((0.75 * parts[0] + 0.25 * parts[1]).tolist(), rel=1e-4)


def test_an_int8_form_is_said_wherever_the_version_is_shown(shell: Shell, tmp_path: Path) -> None:
    copied = shell.copy(tmp_path)
    rows = pl.read_csv(tmp_path / "visits.csv").select("days", "age", "back")
    net = MLPClassifier(hidden_layer_sizes=(16,), max_iter=60, tol=1.0, n_iter_no_change=20, random_state=1)
    net.fit(rows.select("days", "age").to_numpy(), rows["back"].to_numpy())
    skops.io.dump(net, tmp_path / "net.skops")
    rows.write_csv(tmp_path / "rows.csv")
    line = ("models", "package", "net.skops", "--as", "skops", "--name", "net", "--rows", "rows.csv", "--label", "back")
    with within(tmp_path):
        assert "served by onnx; the int8 form serves: All 1000 rows agree" in copied(*line, "--int8", "0.5").out
        copied("models", "push", "net-bundle")
        assert copied("models", "show", "net@1", "--json").json["parity"]["int8"].startswith("serves: ")
        told = copied(*line, "--int8", "0.000001", "-o", "other").out
        assert "served by onnx; the int8 form does not serve: The forms differ" in told
        assert "is not in the range" in copied(*line, "--int8", "0", "-o", "third", code=2).err


def _asked(port: int, rows: Any) -> list[float]:
    import urllib.request

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict/visits.blend", json.dumps(rows).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return [one["probabilities"]["yes"] for one in json.load(answer)["predictions"]]
