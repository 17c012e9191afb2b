"""Files and models by unmodified MLflow clients: kept, listed, given back and removed as MLflow's own server does it.

Autologging of small real fits leaves the same on both servers, and the model that it logged predicts the same when it is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_golden import server as own_server
from peers import MLFLOW, environment

HERE = Path(__file__).parent

pytestmark = [pytest.mark.systems, pytest.mark.timeout(1200)]

NEEDS = {
    "sklearn": (), "lightgbm": ("lightgbm", "xgboost"), "xgboost": ("lightgbm", "xgboost"),
    "pytorch": ("torch==2.13.0", "lightning"), "tensorflow": ("tensorflow", "tensorboard"),
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> Iterator[str]:
    """The URL of MLflow's own server."""
    with own_server(MLFLOW[0]) as url:
        yield url


@contextlib.contextmanager
def started(folder: Path, **more: str) -> Iterator[tuple[str, int]]:
    """A workspace in service, as a user starts it: its address and the number of its process."""
    env = {
        **os.environ,
        "LOOPLINE_WORKSPACE": str(folder / "w"),
        "LOOPLINE_PORT": "0",
        "XDG_STATE_HOME": str(folder),
        **more,
    }
    process = subprocess.Popen([sys.executable, "-m", "loopline", "up"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(word for line in process.stdout for word in line.split() if word.startswith("http://")), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A workspace in service for all tests here."""
    with started(tmp_path_factory.mktemp("up")) as found:
        yield found


def said(python: Path, url: str, folder: Path, program: str, *arguments: str, **more: str) -> str:
    """What a program prints that knows nothing but the server's address; it runs in a folder of its own."""
    folder.mkdir(exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHONPATH"))}
    env |= {"MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet", "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [python, "-W", "ignore", HERE / program, *arguments],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def differences(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where two answers are not the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            yield from differences(ours.get(key), theirs.get(key), f"{place}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif ours != theirs:
        yield f"{place}: {ours!r} instead of {theirs!r}"


@pytest.mark.parametrize("version", MLFLOW)
def test_files_are_kept_and_given_back(version: str, ours: tuple[str, int], theirs: str, tmp_path: Path) -> None:
    python = environment(version)
    found = [json.loads(said(python, url, tmp_path / "cwd", "artifacts.py")) for url in (ours[0], theirs)]
    assert list(differences(*found)) == []


@pytest.mark.parametrize("framework", NEEDS)
def test_autologging_leaves_the_same(framework: str, tmp_path: Path) -> None:
    """Each on a server of its own, since models of all frameworks are registered under one name."""
    from loopline.api.server import ApiServer
    from loopline.app import Platform

    python = environment(MLFLOW[0], *NEEDS[framework])
    platform = Platform.open(workspace=tmp_path / "w", checkpoints=str(tmp_path / "copies"))
    try:
        with ApiServer(platform) as server, own_server(MLFLOW[0]) as other:
            found = [
                json.loads(said(python, url, tmp_path / "cwd", "autolog.py", framework)) for url in (server.url, other)
            ]
    finally:
        platform.close()
    assert list(differences(*found)) == []
    assert found[0]["runs"]
    assert found[0]["models"]
    assert found[0]["predicts the same again"] == [True, True]


@pytest.mark.parametrize("version", MLFLOW)
def test_a_file_of_1_gb_goes_up_and_down_in_constant_memory(
    version: str, ours: tuple[str, int], tmp_path: Path
) -> None:
    url, pid = ours
    file = tmp_path / "file.bin"
    with file.open("wb") as out:
        for number in range(1000):
            out.write(number.to_bytes(4, "big") * 250_000)
    python = environment(version)
    said(python, url, tmp_path / "cwd", "artifacts.py")  # what is made at the first call is made
    processes = below(pid)
    assert len(processes) >= 2, "the control process and a worker"
    before = {}
    for process in processes:
        Path(f"/proc/{process}/clear_refs").write_text("5")
        before[process] = memory(process, "VmRSS")
    assert said(python, url, tmp_path / "cwd", "large.py", str(file)) == "True"
    grown = {process: memory(process, "VmHWM") - before[process] for process in processes}
    assert max(grown.values()) < 64_000_000, grown


@pytest.mark.parametrize("version", MLFLOW)
def test_a_file_larger_than_any_body_goes_up_in_parts(version: str, tmp_path: Path) -> None:
    """Through a worker, by a token: the client sends parts without it, but for the headers that it is told."""
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * 80_000)
    parts = {
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "5242880",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
    }  # fmt: skip
    if version != MLFLOW[0]:  # the newest asks the server whether it takes parts
        parts["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
    env = {**os.environ, "LOOPLINE_WORKSPACE": str(tmp_path / "w"), "XDG_STATE_HOME": str(tmp_path)}
    with started(tmp_path, LOOPLINE_BODY_LIMIT="6000000") as (url, _):
        made = subprocess.run(
            [sys.executable, "-m", "loopline", "access", "create-token", "--json"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        secret = json.loads(made.stdout)["secret"]
        python = environment(version)
        sent = said(python, url, tmp_path / "cwd", "large.py", str(file), **parts, MLFLOW_TRACKING_TOKEN=secret)
        assert sent == "True"
    assert list((tmp_path / "w" / "incoming").iterdir()) == []
    assert [[one.name for one in folder.iterdir()] for folder in (tmp_path / "w" / "uploads").iterdir()] == [
        ["upload.json"]
    ]


def memory(pid: int, kind: str) -> int:
    """The memory of a process in bytes: "VmRSS" what it has, "VmHWM" the most since it was asked to forget."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))


def below(pid: int) -> list[int]:
    """A process and those that it started."""
    children = (child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split())
    return [pid, *(found for child in children for found in below(int(child)))]
