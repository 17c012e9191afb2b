"""A served workspace: the same commands over HTTP, and what was predicted, labelled and watched."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.app import Platform

Shell = Any  # conftest's

ROWS = 300


@pytest.fixture(scope="module")
def served(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A copy of the workspace, to be served."""
    copied: Shell = shell.copy(tmp_path_factory.mktemp("serving"))
    return copied


@pytest.fixture(scope="module")
def url(served: Shell) -> Iterator[str]:
    """The address of a running `loopline up` on the workspace."""
    command = [sys.executable, "-m", "loopline", "up", "--workspace", str(served.workspace), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=served.environment()
    ) as process:
        try:
            note = served.workspace / "server.json"
            until = time.monotonic() + 60
            while not note.exists():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < until, "it does not begin to serve"
                time.sleep(0.05)
            yield json.loads(note.read_bytes())["url"]
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def answered(served: Shell, url: str) -> list[str]:
    """The ids of some predictions that are on record."""
    table = pl.read_csv(served.workspace.parent / "visits.csv").tail(ROWS).drop("back")
    body = json.dumps({"rows": table.to_dicts()}).encode()
    request = urllib.request.Request(f"{url}/predict/visits", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        found = json.load(response)
    ids = [one["id"] for one in found["predictions"]]
    until = time.monotonic() + 60
    while len(served("predictions", "ls", "visits", "--limit", "1000", "--json").json) < ROWS:
        assert time.monotonic() < until, "the predictions do not come on record"
        time.sleep(0.2)
    return ids


def test_the_server_is_seen(served: Shell, url: str) -> None:
    server = served("status", "--json").json["server"]
    assert server["url"] == url
    assert server["pid"] > 1
    assert "up since" in served("status").out
    assert "this workspace is served at" in served("doctor").out


def test_the_same_over_http(served: Shell, url: str) -> None:
    for line in (
        ["data", "ls"], ["data", "read", "visits@1", "--rows", "3"], ["models", "show", "visits@champion"],
        ["evaluations", "show", "visits@1"], ["pipeline", "show", "visits"], ["lineage", "visits@1"],
        ["access", "projects"], ["runs", "ls"],
    ):  # fmt: skip
        assert served(*line, "--json", "--server", url).json == served(*line, "--json").json
    assert served("evaluations", "report", "visits@1", "--server", url).out.lower().startswith("<!doctype html>")
    assert "no-dataset" in served("data", "show", "nothing", "--server", url, code=2).err
    assert served("status", "--server", url, "--json").json["server"]["url"] == url
    assert f"{url} answers" in served("doctor", "--server", url).out


def test_adding_data_over_http(served: Shell, url: str, write_visits: Any, tmp_path: Path) -> None:
    write_visits(tmp_path / "sent.csv", rows=100)
    line = ["data", "add", "sent", str(tmp_path / "sent.csv")]
    token = served("access", "create-token", "--role", "data_scientist").out.strip()
    assert "Added data:sent@1: 100 rows" in served(*line, "--server", url, "--token", token).out
    refused = served(*line, "--server", url, "--token", "ll_wrong", code=3).err
    assert "unauthenticated" in refused
    assert "ll_wrong" not in refused


def test_predictions(served: Shell, answered: list[str]) -> None:
    shown = served("predictions", "show", "visits", answered[0], "--json").json
    assert shown["id"] == answered[0]
    assert shown["model"] == "model:visits@1"
    assert answered[0] in served("predictions", "show", "visits", f"prediction:{answered[0]}").out
    assert served("predictions", "ls", "visits", "--since", "2001-01-01", "--limit", "5").out.count("\n") == 6
    traffic = served("predictions", "traffic", "visits", "--json").json
    assert traffic["variants"]["champion"]["rows"] == ROWS
    assert "champion\tmodel:visits@1" in served("predictions", "traffic", "endpoint:visits").out
    assert "no-prediction" in served("predictions", "show", "visits", "nothing", code=2).err


def test_labels_come_as_csv_and_as_lines_of_json(served: Shell, answered: list[str], tmp_path: Path) -> None:
    truth = pl.read_csv(served.workspace.parent / "visits.csv").tail(ROWS)["back"].to_list()
    file = tmp_path / "labels.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("prediction", "value"), *zip(answered[:200], truth[:200], strict=True)])
    taken = served("labels", "add", "visits", str(file), "--json").json
    assert (taken["taken"], taken["joined"], taken["waiting"]) == (200, 200, 0)
    lines = "\n".join(
        json.dumps({"prediction": ident, "value": value})
        for ident, value in [*zip(answered[200:], truth[200:], strict=True), ("later", "yes")]
    )
    said = served("labels", "add", "visits", "-", stdin=lines.encode()).out
    assert "101 labels: 100 joined to predictions of visits, 1 wait" in said
    quality = served("monitor", "quality", "visits", "--json").json
    assert quality["labelled"] == ROWS
    value, low, high = quality["overall"]["metrics"]["roc_auc"]
    assert 0.6 < low <= value <= high
    assert "champion" in served("monitor", "quality", "visits").out
    assert len(served("predictions", "ls", "visits", "--labelled", "--limit", "1000", "--json").json) == ROWS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,value\n1,yes\n", "no column 'prediction'"),
        ("prediction,value\n", "holds no labels"),
        ('{"prediction": "a", "value": [1]}\n', "Line 1"),
        ('{"prediction": "a", "value": 1}\n{"prediction"\n', "Line 2"),
    ],
)
def test_what_are_no_labels(served: Shell, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "labels"
    file.write_text(content)
    assert said in served("labels", "add", "visits", str(file), code=2).err


def test_the_monitor_looked(served: Shell, answered: list[str]) -> None:
    until = time.monotonic() + 60
    while not (found := served("monitor", "ls", "--json").json)[0]["looks"]:
        assert time.monotonic() < until, "no look was taken"
        time.sleep(0.2)
    assert found[0]["endpoint"] == "visits"
    while "(0 new rows)" not in (said := served("monitor", "look", "visits").out):
        assert time.monotonic() < until, said
    assert "No look was taken at visits (0 new rows): too few rows, 100 are wanted." in said
    told = served("monitor", "drift", "visits").out
    assert "drift" in told.casefold(), "the report of every look is kept"
    if found[0]["verdict"] != "no drift":
        assert found[0]["verdict"] in told


def test_a_look_that_is_not_due_says_when_the_next_one_is(served: Shell, answered: list[str]) -> None:
    served("monitor", "look", "visits")
    platform = Platform.open(
        workspace=str(served.workspace), checkpoints=str(served.state / "loopline" / "checkpoints")
    )
    try:
        # Watched anew with an hour between looks, at rows that come after.
        session = platform.session()
        (watch,) = session.monitors.list()
        session.monitors.declare("visits", watch.reference, watch.label, watch.task, look=3_600_000, rows=50)
    finally:
        platform.close()
    table = pl.read_csv(served.workspace.parent / "visits.csv").tail(60).drop("back")
    url = json.loads((served.workspace / "server.json").read_bytes())["url"]
    body = json.dumps(table.to_dicts()).encode()
    urllib.request.urlopen(urllib.request.Request(f"{url}/predict/visits", body)).close()
    until = time.monotonic() + 60
    while "the next is due at" not in (said := served("monitor", "look", "visits").out):
        assert time.monotonic() < until, said
        time.sleep(0.2)
    assert "(0 new rows)" not in said
    assert "One look each 60 min keeps its budget of false alarms, 1/quarter." in said


def test_a_loop_runs_beside_the_server(
    served: Shell, url: str, write_visits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_visits(tmp_path / "more.csv", seed=9)
    said = served("run", "visits", "--data", "more.csv", code=3).out
    assert "data:visits@3" in said
    assert said.count("misses 0.999") == 1, "the reason is said once"
    assert "not-remote" in served("--server", url, "run", "visits", "--data", "more.csv", code=2).err
    said = served("--server", url, "run", "visits").out
    assert f"The server at {url} runs it" in said


def test_the_reason_of_a_refusal_is_told_once_in_full(shell: Shell) -> None:
    assert shell("status").out.count("misses 0.999") == 1


def test_output_that_nobody_reads_does_not_end_a_run(shell: Shell, tmp_path: Path, write_visits: Any) -> None:
    copied = shell.copy(tmp_path)
    write_visits(tmp_path / "more.csv", rows=1500, seed=11)
    line = [
        sys.executable,
        "-m",
        "loopline",
        "--workspace",
        str(copied.workspace),
        "run",
        "visits",
        "--data",
        "more.csv",
    ]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=copied.environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"data")
        process.stdout.close()
        told = process.stderr.read().decode()
    assert (process.returncode, told) == (3, "")
    newest = copied("pipeline", "ls", "--json").json[0]
    assert newest["status"] == "stopped"
    assert newest["message"].startswith("refused by 1 of 1 gates")


def test_a_run_that_was_asked_for_is_cancelled(shell: Shell, tmp_path: Path) -> None:
    copied = shell.copy(tmp_path)
    assert "no-request" in copied("run", "visits", "--cancel", code=2).err
    platform = Platform.open(
        workspace=str(copied.workspace), checkpoints=str(copied.state / "loopline" / "checkpoints")
    )
    try:
        asked = platform.session().loops.request("visits")
        assert "Runs asked for" in copied("status").out
        assert "is withdrawn" in copied("run", "visits", "--cancel").out
        assert [r.status for r in platform.session().loops.requests() if r.id == asked.id] == ["withdrawn"]
        assert "Runs asked for" not in copied("status").out
    finally:
        platform.close()


def test_a_policy_is_shown_and_changed(served: Shell, url: str) -> None:
    assert "any" in served("policy", "visits").out
    changed = served("policy", "visits", "--rate", "50", "--hide", "age", "--days", "30", "--json").json
    assert (changed["rate"], changed["hidden"], changed["days"]) == (50.0, ["age"], 30.0)
    kept = served("policy", "visits", "--rows-kept", "0.5", "--json").json
    assert (kept["rate"], kept["rows_kept"]) == (50.0, 0.5)
    assert "50 a second" in served("policy", "visits").out
    assert "Did you mean" in served("policy", "visits", "--hash", "agee", code=2).err
    assert served("policy", "visits", "--reset", "--json").json["rate"] == 0.0
