"""TensorBoard itself, in an environment of its own: it shows the runs that we write, and we read the runs that it writes."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import environment

from loopline.app import Platform
from loopline.foreign import run_source, write_events
from loopline.tracking.exchange.importing import bring
from loopline.tracking.records import Point

pytestmark = pytest.mark.systems


@pytest.fixture(scope="module")
def python() -> Path:
    return environment("tensorboard")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"))
    yield platform
    platform.close()


def test_tensorboard_shows_the_scalars_that_were_logged(python: Path, platform: Platform, tmp_path: Path) -> None:
    runs = platform.session().runs
    values = [0.1 * n for n in range(200)]
    for name in ("first", "second"):
        run = runs.create(name)
        for key in ("loss", "validation/auc"):
            runs.log(
                run.id, [Point(key=key, value=v, step=n, time=1_700_000_000_000 + n) for n, v in enumerate(values)]
            )
        shown = runs.show(run.id)
        write_events(tmp_path / "logs", shown, (p for key in shown.metrics for p in runs.history(run.id, key)))
    command = [python, "-m", "tensorboard.main", "--logdir", tmp_path / "logs", "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            line = next(line for line in server.stderr if "http://" in line)
            url = re.findall(r"http://\S+", line)[0].rstrip("/")
            tags = until(f"{url}/data/plugin/scalars/tags", lambda found: len(found) == 2)
            assert all(set(of) == {"loss", "validation/auc"} for of in tags.values())
            for name in tags:
                told = asked(f"{url}/data/plugin/scalars/scalars?run={name}&tag=loss")
                assert [(step, value) for _, step, value in told] == [
                    (n, struct.unpack("<f", struct.pack("<f", v))[0]) for n, v in enumerate(values)
                ]
                assert told[1][0] == pytest.approx(1_700_000_000.001, abs=1e-6)
        finally:
            server.kill()


def test_what_its_writer_writes_comes_over(python: Path, platform: Platform, tmp_path: Path) -> None:
    maker = Path(__file__).with_name("tensorboard_events.py")
    subprocess.run([python, maker, tmp_path / "logs"], check=True, capture_output=True)
    found = list(bring(platform.session(), run_source("tensorboard", str(tmp_path / "logs"))))
    assert [one.state for one in found] == ["imported"] * 2
    runs = {run.name: run for run in platform.session().runs.list().runs}
    assert runs["train"].metrics.keys() == {"loss", "accuracy", "odd"}
    assert runs["tune/1"].params == {"rate": 0.1, "leaves": 31, "kind": "gbm", "bagging": True}
    assert runs["tune/1"].status == "failed"


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def until(url: str, ready: Any) -> Any:
    """What the server says once it has read all: it does so beside answering."""
    while not ready(found := asked(url)):
        pass
    return found
