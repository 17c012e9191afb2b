"""What a stream answers, on the record of an endpoint of a workspace: a real topic, a process that is killed and begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.adapters.kafka.conftest import Broker, broker  # noqa: F401 - a fixture
from tests.adapters.kafka.test_stream import read, until

from loopline.app import Platform
from loopline.catalog import Session
from loopline.outcomes.records import Label
from loopline.serving.records import Policy


def test_what_a_stream_answers_is_on_the_record_once(
    platform: Platform,
    session: Session,
    broker: Broker,  # noqa: F811
    tmp_path: Path,
) -> None:
    session.endpoints.create("risk", "risk@1", passthrough=["patient", "ssn"])
    session.endpoints.set_policy("risk", Policy(hidden=("ssn",), hashed=("patient",)))
    session.endpoints.set_threshold("risk", 0.99, reason="a test")
    for n in range(6):
        broker.send("visits", json.dumps({"x": n / 4, "patient": f"p{n}", "ssn": f"secret-{n}", "bed": n}).encode())
    broker.send("visits", b"no row")
    line = [
        sys.executable, "-m", "loopline", "--workspace", str(platform.settings.workspace), "score", "--model", "risk@1",
        "--json", "--from", f"kafka://{broker.address}/visits", "--to", f"kafka://{broker.address}/scores",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "LOOPLINE_FAILPOINTS": "serving.log.after_write=kill"}
    killed = subprocess.run(line, cwd=tmp_path, env=env, timeout=60, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    env["LOOPLINE_FAILPOINTS"] = ""
    broker.send("visits", json.dumps({"x": 9, "patient": "last", "ssn": "secret"}).encode(), key=b"last")
    process = subprocess.Popen(line, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: b"last" in {one.key() for one in read(broker, "scores")})
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert {"event": "record", "endpoint": "risk"}.items() <= json.loads(said.splitlines()[1]).items()
    answers = {(told := json.loads(one.value()))["id"]: told for one in read(broker, "scores")}
    assert len(answers) == 7
    assert session.predictions.collect().predictions > 7, "what was answered twice is on file twice"
    found = {one.id: one for one in session.predictions.list("risk")}
    assert found.keys() == answers.keys()
    assert len(session.predictions.list("risk", variant="stream")) == 7
    for id, one in found.items():
        assert one.output["probabilities"] == pytest.approx(answers[id]["probabilities"])
        assert (one.output["label"], one.output["threshold_number"]) == (answers[id]["label"], 1)
        assert one.row["x"] == answers[id]["row"]["x"]
        assert one.row.keys() == {"x", "patient"}
        assert one.row["patient"].startswith("hash:")
    traffic = session.predictions.traffic("risk").variants
    assert (traffic["stream"].rows, traffic["none"].errors) == (7, 1)
    id = next(iter(answers))
    assert session.labels.add("risk", [Label(prediction=id, value="yes")]).joined == 1
    assert session.predictions.show("risk", id).label == "yes"
    kept = b"".join(path.read_bytes() for path in (platform.settings.workspace / "serving" / "log").glob("*.segment"))
    assert b"secret" not in kept
