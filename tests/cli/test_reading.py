"""What the reading commands show of a workspace in which a loop ran twice."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline.hashing import digest_file

Shell = Any  # conftest's


def test_data(shell: Shell, tmp_path: Path) -> None:
    assert {d["name"] for d in shell("data", "ls", "--json").json} >= {"visits", "visits.train", "visits.test"}
    assert [v["version"] for v in shell("data", "log", "visits", "--json").json] == [2, 1]
    shown = shell("data", "show", "data:visits@1", "--json").json
    assert (shown["rows"], shown["quarantined"]) == (1993, 7)
    for ref in ("visits@1", "data:visits@1"):
        assert shell("data", "show", ref).out.startswith("data:visits@1\n")
    profile = shell("data", "profile", "visits@1", "--json").json
    assert profile["rows"] == 1993
    shell("data", "profile", "visits", "--html", str(tmp_path / "p.html"))
    assert (tmp_path / "p.html").read_text().lower().startswith("<!doctype html>")
    held = shell("data", "quarantine", "list", "visits@1", "--limit", "2", "--json").json
    assert held["rows"] == 7
    assert [row["days"] for row in held["shown"]] == [99, 99]
    for version in ("visits@1", "visits@2"):
        rows = shell("data", "read", version, "--rows", "5000", "--json").json
        found = [row["visit"] for row in rows]
        assert found == sorted(set(found) & set(range(7, 2000))), "in the order of the file"
        sealed = shell("data", "show", "visits.test", "--json").json["rows"]
        assert len(found) == 1993 - sealed, "without the rows that a split has sealed"
        assert f"{sealed} of its 1,993 rows are sealed" in shell("data", "read", version).err
    assert "sealed" in shell("data", "read", "visits.test", code=3).err


def test_a_file_is_checked_before_it_is_added(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("name,age,visit\nAnn,41,9\nBob,300,8\nCy,7,77777\n")
    rules = [
        {"rule": "between", "column": "age", "low": 0, "high": 120},
        {"rule": "expression", "name": "no Bob", "sql": "name <> 'Bob'", "severity": "warn"},
        {"rule": "refers_to", "column": "visit", "dataset": "data:visits@1", "to": "visit"},
    ]
    (tmp_path / "c.json").write_text(json.dumps({"rules": rules, "personal": ["name"]}))
    given = ("data", "check", str(tmp_path / "v.csv"), str(tmp_path / "c.json"))
    said = shell(*given, code=1).out
    assert "row 2: age '300'" in said
    assert "row 2: name (personal)" in said
    assert "row 3: visit '77777'" in said
    assert "2 of 3 rows would be held back." in said
    assert shell(*given, "--json", code=1).json["outcome"] == "quarantine"
    (tmp_path / "c.json").write_text(json.dumps({"rules": rules[1:2]}))
    assert "0 of 3 rows" in shell(*given).out


def test_a_file_is_profiled_and_a_version_is_checked(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("name,age\n" + "".join(f"{'?' if n % 3 else 'Ann'},{n}\n" for n in range(60)))
    assert "name is missing in 66.7% of the rows" in shell("data", "profile", str(tmp_path / "v.csv")).out
    assert (
        shell("data", "profile", str(tmp_path / "v.csv"), "--full", "--label", "name", "--json").json["label"] == "name"
    )
    shell("data", "profile", str(tmp_path / "v.csv"), "--html", str(tmp_path / "v.html"))
    assert "<h1>v.csv</h1>" in (tmp_path / "v.html").read_text()
    assert "Did you mean 'age'" in shell("data", "profile", str(tmp_path / "v.csv"), "--label", "aeg", code=2).err
    (tmp_path / "c.py").write_text(
        'import loopline as ll\n\n\n@ll.rule("a short stay")\ndef short(rows):\n    return rows["days"] < 99\n\n\n'
        'contract = ll.contract(short, ll.column("visit").refers_to("data:visits@1", "vist", severity="warn"))\n'
    )
    given = ("data", "check", "visits@1", str(tmp_path / "c.py"))
    assert "data:visits@1 has no column 'vist'" in shell(*given, code=2).err
    (tmp_path / "c.py").write_text((tmp_path / "c.py").read_text().replace("vist", "visit"))
    assert "0 of" in shell(*given).out
    assert (
        "neither a file nor a dataset 'nothing.csv'"
        in shell("data", "check", "nothing.csv", str(tmp_path / "c.py"), code=2).err
    )
    (tmp_path / "c.py").write_text("contract = 3\n")
    assert "declares no contract" in shell(*given, code=2).err


def test_tables_are_tab_separated_where_there_is_no_terminal(shell: Shell) -> None:
    lines = shell("data", "read", "visits@1", "--rows", "2").out.splitlines()
    found = pl.read_csv(io.StringIO("\n".join(lines)), separator="\t")
    assert found.columns == ["visit", "person", "days", "age", "sex", "back"]
    assert found.height == 2
    assert "\x1b" not in "".join(lines)


def test_runs(shell: Shell) -> None:
    runs = shell("runs", "ls", "--name", "visits", "--json").json["runs"]
    assert [r["kind"] for r in runs] == ["step", "step"]
    first = runs[-1]
    assert shell("runs", "show", first["ref"]).out.startswith(first["ref"])
    points = shell("runs", "history", first["id"], "validation_roc_auc", "--json").json
    assert points[0]["value"] == first["metrics"]["validation_roc_auc"]
    assert "Did you mean" in shell("runs", "history", first["id"], "validation_roc_au", code=2).err
    kept = shell("runs", "artifacts", first["id"], "--json").json
    assert [artifact["path"] for artifact in kept] == ["manifest.json", "parity.json", "transform.json"]
    assert shell("runs", "ls", "--status", "failed", "--json").json["runs"] == []


def test_models(shell: Shell, tmp_path: Path) -> None:
    assert {"visits", "visits.baseline"} == {m["name"] for m in shell("models", "ls", "--json").json}
    assert [v["status"] for v in shell("models", "ls", "visits", "--json").json] == ["draft", "registered"]
    for ref in ("visits", "visits@1", "visits@champion", "model:visits@1"):
        assert shell("models", "show", ref, "--json").json["ref"] == "model:visits@1"
    assert shell("models", "show", "visits.baseline", "--json").json["version"] == 2, "no champion: the newest"
    assert "model:visits@1 holds" in shell("models", "verify", "visits").out
    assert "# " in shell("models", "card", "visits").out
    assert json.loads(shell("models", "card", "visits", "--form", "json").out)
    shell("models", "card", "visits", "--form", "html", "-o", str(tmp_path / "card.html"))
    assert "<html" in (tmp_path / "card.html").read_text()
    assert shell("models", "document", "visits", "verdicts").json["document"]["verdicts"][0]["outcome"] == "pass"
    assert [m["version"] for m in shell("models", "history", "visits", "champion", "--json").json] == [1]
    assert shell("models", "as-of", "visits", "@champion", "--json").json["version"] == 1
    assert "no-alias" in shell("models", "as-of", "visits", "champion", "--at", "2001-01-01", code=2).err
    assert "is no time" in shell("models", "as-of", "visits", "champion", "--at", "soon", code=2).err


def test_pipelines(shell: Shell) -> None:
    runs = shell("pipeline", "ls", "visits", "--json").json
    assert [r["status"] for r in runs] == ["stopped", "finished"]
    assert shell("pipeline", "show", "visits", "--json").json["id"] == runs[0]["id"]
    assert "refused by 1 of 1 gates" in shell("pipeline", "show", runs[0]["ref"]).out
    assert "deploy" in shell("pipeline", "show", runs[1]["id"]).out


def test_evaluations(shell: Shell, tmp_path: Path) -> None:
    found = shell("evaluations", "ls", "--json").json
    assert [e["evidence"]["model"] for e in found] == ["model:visits@2", "model:visits@1"]
    assert shell("evaluations", "show", "visits@champion", "--json").json["id"] == found[1]["id"]
    assert "roc_auc at least 0.999\tfail" in shell("evaluations", "show", found[0]["ref"]).out
    assert shell("evaluations", "report", found[0]["id"]).out.lower().startswith("<!doctype html>")
    shell("evaluations", "plots", "visits@1", str(tmp_path / "plots"))
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(found[1]["plots"])
    assert "never evaluated" in shell("evaluations", "show", "visits.baseline@1", code=2).err


def test_lineage_goes_down_to_the_files_hash(shell: Shell) -> None:
    said = shell("lineage", "visits@champion").out.splitlines()
    assert said[0].startswith("model:visits@1")
    source = next(line for line in said if "source:visits.csv@" in line)
    shown = shell("data", "show", "visits@1", "--json").json
    assert shown["source"] in source
    newest = shell("data", "show", "visits@2", "--json").json["source"]
    file = shell.workspace.parent / "visits.csv"
    assert newest.partition("@")[2] == digest_file(file).partition(":")[2], "the hash is that of the file"
    assert said.index(source) > next(i for i, line in enumerate(said) if "data:visits@1" in line)
    forward = shell("lineage", shown["source"], "--forward").out
    assert "model:visits@1" in forward
    assert "endpoint:visits" in forward
    assert shell("lineage", "data:visits@1", "--depth", "1", "--json").json["edges"][0]["depth"] == 1
    assert "ref-not-found" in shell("lineage", "run:nothing", code=2).err


def test_status(shell: Shell) -> None:
    said = shell("status").out
    assert "no server runs" in said
    assert "model:visits@1" in said
    assert "refused  the newest run of visits: refused by 1 of 1 gates" in said
    found = shell("status", "--json").json
    assert found["server"] is None
    (champion,) = found["champions"]
    assert (champion["loop"], champion["model"], champion["endpoint"]) == ("visits", "model:visits@1", "visits")
    value, low, high = champion["metrics"]["roc_auc"]
    assert low <= value <= high
    assert [need["kind"] for need in found["needs"]] == ["refused"]
    assert [run["status"] for run in found["runs"]] == ["stopped", "finished"]
    assert found["monitors"][0]["verdict"] == "not looked at yet"


@pytest.mark.parametrize("line", [["alerts", "ls"], ["rollout", "ls"], ["models", "approvals"]], ids=" ".join)
def test_nothing_is_said_on_standard_error(shell: Shell, line: list[str]) -> None:
    ended = shell(*line)
    assert ended.out == ""
    assert ended.err.startswith("No ")
    assert shell(*line, "--json").json == []
