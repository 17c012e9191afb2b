"""KServe's own inference clients, unmodified: its protocol v1, and the Open Inference Protocol over REST and gRPC."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from peers import environment

from loopline.packaging.foreign import package
from loopline.packaging.records import Opening
from loopline.packaging.signing import ModelSigner
from loopline.serving.alone import Alone
from loopline.serving.fetched import Wanted

pytestmark = [pytest.mark.systems, pytest.mark.timeout(900)]

ROWS = [
    {"age": 61.5, "visits": 2.0, "insured": True, "ward": "north"},
    {"age": 7.0, "visits": 0.0, "insured": False, "ward": "west"},
]
CODE = """
class Model:
    def load(self, folder):
        pass

    def predict(self, rows):
        return [0.75 if row["visits"] and row["insured"] and row["ward"] == "north" else 0.25 for row in rows]
"""


@pytest.fixture
def server(tmp_path: Path, signer: ModelSigner, opening: Opening) -> Iterator[Alone]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(CODE)
    rows = pl.DataFrame(ROWS * 5).with_columns(back=pl.Series(["yes", "no"] * 5))
    package(
        tmp_path / "code", tmp_path / "b", kind="code", name="risk", rows=rows, label="back", signer=signer, created=0
    )
    folder = Path(tempfile.mkdtemp(prefix="ll-"))  # whose path is short enough for sockets
    started = Alone(folder, [Wanted(folder=tmp_path / "b")], port=0, grpc_port=0, opening=opening)
    started.start()
    yield started
    started.stop()
    shutil.rmtree(folder)


def test_its_clients_ask_in_each_protocol(server: Alone) -> None:
    python = environment("kserve==0.21.0")
    program = Path(__file__).with_name("kserve_client.py")
    at = server.supervisor
    line = [python, program, f"http://127.0.0.1:{at.port}", f"127.0.0.1:{at.grpc_port}", json.dumps(ROWS)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["v1 ready"] is True
    assert said["v2 ready"] == said["grpc ready"] == [True, True, True]
    assert [one["label"] for one in said["v1"]] == ["yes", "no"]
    chances = [[0.25, 0.75], [0.75, 0.25]]
    assert [one["probabilities"] for one in said["v1"]] == chances
    for way in ("v2", "grpc"):
        assert np.reshape(said[way]["probabilities"], (2, 2)).tolist() == chances
