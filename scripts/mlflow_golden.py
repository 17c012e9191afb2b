"""Records what MLflow's own servers answer to the calls of tests/api/mlflow/contracts, into tests/api/mlflow/golden.

    python scripts/mlflow_golden.py [TOPIC ...]

The newest version's answers are what Loopline is held to; versions.json lists the calls that the oldest one answers otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peers import MLFLOW, environment

HERE = Path(__file__).parents[1] / "tests" / "api" / "mlflow"
GOLDEN = HERE / "golden"


@contextlib.contextmanager
def server(requirement: str) -> Iterator[str]:
    """The URL of MLflow's own server, with its SQLite store and artifacts of its own."""
    python = environment(requirement)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination", f"{folder}/artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        ]  # fmt: skip
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
            try:
                _wait(f"http://127.0.0.1:{port}", process)
                yield f"http://127.0.0.1:{port}"
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # its helpers, too; nothing of it is to be kept
                process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health") as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise SystemExit("MLflow's server did not start.")


def record(requirement: str, topics: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The answers of one version, by topic: each on a server of its own."""
    sys.path.insert(0, str(HERE))
    from contracts import TOPICS
    from contracts.contract import converse

    found = {}
    for topic in topics or list(TOPICS):
        with server(requirement) as url:
            found[topic] = converse(url, TOPICS[topic])
        print(requirement, topic, len(found[topic]), flush=True)
    return found


def main() -> None:
    newest = record(MLFLOW[0], sys.argv[1:])
    for topic, answers in newest.items():
        _write(GOLDEN / f"{topic}.json", answers)
    oldest = record(MLFLOW[1], sys.argv[1:])
    path = GOLDEN / "versions.json"
    differences = json.loads(path.read_text()) if path.exists() else {}
    for topic, answers in newest.items():
        differences[topic] = [
            {"call": new["call"], MLFLOW[0]: _short(new), MLFLOW[1]: _short(old)}
            for new, old in zip(answers, oldest[topic], strict=True)
            if _old(new) != old
        ]
    _write(path, differences)


def _old(answer: Any) -> Any:
    """An answer without what the newest version adds to every error and experiment."""
    if isinstance(answer, dict):
        return {
            key: _old(value) for key, value in answer.items() if key not in ("error_class", "sqlstate", "workspace")
        }
    return [_old(value) for value in answer] if isinstance(answer, list) else answer


def _short(answer: dict[str, Any]) -> dict[str, Any]:
    return {"status": answer["status"], "answer": answer["answer"]}


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
