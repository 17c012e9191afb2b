"""The demo as a person runs it: the whole loop, a broken challenger, and the commands that it says to try next."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.api.up import address_of
from loopline.app import Platform
from loopline.loop import files


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], Path, dict[str, str]]]:
    """The events of one demo with synthetic patients and a broken challenger, while its server is still up."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOPLINE_")}
    environment["LOOPLINE_CHECKPOINTS"] = str(folder / "checkpoints")
    command = [sys.executable, "-m", "loopline", "demo", "--json", "--break-challenger", "--port", str(_free_port())]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or []), daemon=True)
    reader.start()
    events = []
    try:
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "done":
                break
        else:
            pytest.fail(f"the demo ended early: {b''.join(errors).decode()}")
        yield events, folder, environment
    finally:
        process.terminate()
        process.wait(60)
        assert address_of(folder / ".loopline") is None, "the server ends with the demo"


def _of(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def test_the_loop_closes_by_itself(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    events, _, _ = told
    assert "synthetic" in _of(events, "rows")[0]["said"]
    stages = [event["stage"] for event in _of(events, "stage_ended")]
    assert stages.count("evaluate") == 2, "history and the retraining were each evaluated"
    assert _of(events, "alert"), "the drift in the live half raised an alert"
    decisions = [event["decision"] for event in _of(events, "rollout") if "decision" in event]
    assert decisions[-4:] == ["advance", "advance", "advance", "promote"]
    done = _of(events, "done")[0]
    assert done["promoted"] is True
    assert done["champion"] == "model:readmission@3", "version 2 was the broken one"


def test_the_broken_challenger_is_rolled_back(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    events, _, _ = told
    first = next(event for event in _of(events, "rollout") if "decision" in event)
    assert first["decision"] == "roll_back"
    assert "constant outputs" in first["said"]


def test_every_live_row_was_answered(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    events, _, _ = told
    replay = _of(events, "replay")[-1]
    assert replay["rows"] == 48_461
    assert replay["requests"] >= 5_000
    quality = _of(events, "quality")[-1]["said"]
    assert "new" in quality
    assert "returning" in quality


def test_what_it_says_to_try_next_works(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    events, folder, environment = told
    tries = _of(events, "done")[0]["next"]
    assert [one.split()[0] for one in tries] == ["loopline", "loopline", "loopline", "curl"]
    environment = environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    said = []
    for one in tries:
        found = subprocess.run(
            shlex.split(one), cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert found.returncode == 0, f"{one}: {found.stderr}"
        said.append(found.stdout)
    status, card, lineage, answer = said
    assert "readmission" in status
    assert "synthetic" in card
    assert "source:history.parquet@" in lineage
    assert json.loads(answer)["predictions"][0]["label"] in ("YES", "NO")


def test_its_loop_names_rows_that_are_there(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    _, folder, _ = told
    path = folder / ".loopline" / "loops" / "readmission.py"
    rows = path.parent / files.read(path).data.path
    assert rows.resolve() == folder / ".loopline" / "history.parquet"
    assert rows.is_file()


def test_the_ledger_verifies_after_all_of_it(told: tuple[list[dict[str, Any]], Path, dict[str, str]]) -> None:
    _, folder, environment = told
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_CHECKPOINTS", environment["LOOPLINE_CHECKPOINTS"])
        platform = Platform.open(workspace=str(folder / ".loopline"))
        try:
            verification = platform.session().ledger.verify()
        finally:
            platform.close()
    assert verification.ok, verification.findings
    assert verification.size > 100
