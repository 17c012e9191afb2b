"""A real Ray cluster as the place where work is done."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from peers import environment

from loopline.adapters.ray.executor import RayCluster
from loopline.loop.table import Table, linear
from loopline.packaging.bundle import write_bundle
from loopline.ports.executor import Executor
from loopline.registry.bundle_tar import pack
from loopline.testing.executor import ExecutorLaws

pytestmark = [pytest.mark.systems, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    """Ray can be imported, here and by the workers of clusters that start here."""
    python = environment("ray[serve]==2.60.0", "scikit-learn==1.9.1")
    (place,) = python.parents[1].glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr(sys, "path", [*sys.path, str(place)])
        yield


class TestRay(ExecutorLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Iterator[Executor]:
        import ray

        yield RayCluster()
        ray.shutdown()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of one node, started as its operators do: who knows its token may use it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a5" * 32)
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    line = ["start", "--head", f"--port={port}", "--node-ip-address=127.0.0.2", "--num-cpus=2", "--block",
            "--include-dashboard=false"]  # fmt: skip
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *line], stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 120
        while b"Ray runtime started" not in (tmp_path / "ray.log").read_bytes():
            assert head.poll() is None, (tmp_path / "ray.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
            time.sleep(0.2)
        yield f"127.0.0.2:{port}"  # Ray takes 127.0.0.1 for the address of the machine in its network
        head.terminate()
        head.wait(60)


def test_a_dataset_version_is_scored_on_a_cluster(cluster: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    count = 230_000
    x = rng.normal(size=count)
    frame = pl.DataFrame({"x": x, "ward": np.array(["east", "north"])[rng.integers(0, 2, count)]})
    frame.write_parquet(tmp_path / "visits.parquet")
    few = frame[:600].with_columns(pl.when(pl.col("x") > 0).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("y"))
    write_bundle(
        linear(Table(few[:400], few[400:], label="y")), tmp_path / "bundle", name="risk", version=1,
        example={"x": 0.5, "ward": "north"}, validation_frame=few[400:], created=1,
    )  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")}
    place = kept | {"LOOPLINE_WORKSPACE": str(tmp_path / "w"), "LOOPLINE_CHECKPOINTS": str(tmp_path / "copies")}

    def shell(*words: str, **more: str) -> Any:
        line = [sys.executable, "-m", "loopline", *words, "--json"]
        done = subprocess.run(line, capture_output=True, text=True, env=place | more, cwd=tmp_path, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"refused": done.stderr}

    shell("data", "add", "visits", "visits.parquet")
    (tmp_path / "register.py").write_text(REGISTER)
    (tmp_path / "bundle.tar").write_bytes(pack(tmp_path / "bundle"))
    subprocess.run([sys.executable, "register.py"], env=place, cwd=tmp_path, check=True)
    here = shell("score", "visits", "--model", "risk@1", "--into", "here")
    there = shell("score", "visits", "--model", "risk@1", "--into", "there", LOOPLINE_EXECUTOR=f"ray:{cluster}")
    assert (there.get("rows"), there.get("digest")) == (count, here["digest"]), there
    refused = shell("score", "visits", "--model", "risk@1", "--into", "no", LOOPLINE_EXECUTOR="ray:127.0.0.2:1")
    assert "no-cluster" in refused["refused"]


REGISTER = """
import loopline as ll
from loopline.operations import Body
from pathlib import Path

session = ll.connect()
session.models.draft("risk", Body(Path("bundle.tar"), name="bundle.tar"))
session.models.register("risk", 1)
"""
