"""Commands that change something say what they did and how to undo it; the undo works as printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.monitoring.alerts import AlertsService

Shell = Any  # conftest's


def undo(said: str) -> list[str]:
    """The command that a command names as its undo."""
    (line,) = [line for line in said.splitlines() if "Undo it: " in line]
    return shlex.split(line.partition("Undo it: loopline ")[2])


@pytest.fixture(scope="module")
def two(shell: Shell) -> Shell:
    """The workspace with a second registered version, which no gate let pass: registered by hand."""
    if shell("models", "show", "visits@2", "--json").json["status"] == "draft":
        said = shell("models", "register", "visits@2").out
        assert "signed by key" in said
    return shell


def test_aliases_and_their_way_back(two: Shell) -> None:
    two("models", "alias", "visits@1", "candidate")
    said = two("models", "alias", "visits@2", "@candidate", "--reason", "a try").out
    assert said.startswith("visits@candidate is now visits@2.")
    said = two(*undo(said)).out
    assert said.startswith("visits@candidate is visits@1 again (it was @2).")
    two(*undo(said))
    moves = two("models", "history", "visits", "candidate", "--json").json
    assert [m["version"] for m in moves] == [1, 2, 1, 2]
    assert moves[1]["reason"] == "a try"
    assert "version-in-use" in two("models", "withdraw", "visits@2", "--reason", "bad", code=2).err
    assert two("models", "as-of", "visits", "candidate", "--json").json["version"] == 2


def test_approvals_are_refused_to_who_may_not(two: Shell) -> None:
    request = two("models", "request", "visits@2", "--json").json["id"]
    assert [a["id"] for a in two("models", "approvals", "--decision", "open", "--json").json] == [request]
    needs = two("status", "--json").json["needs"]
    assert f"loopline models approve {request}" in [need["command"] for need in needs]
    for ref in (request, "visits@2"):
        assert "approver" in two("models", "approve", ref, code=3).err
    assert "approval-open" in two("models", "request", "visits@2", code=2).err


def test_deploying_and_undoing_it(two: Shell) -> None:
    before = two("status", "--json").json["champions"][0]["endpoint"]
    said = two("deploy", "second", "visits@2", "--route-key", "person", "--passthrough", "visit").out
    assert said.startswith("model:visits@2 stands behind second")
    changed = two("deploy", "second", "visits@1").out
    two(*undo(changed))
    removed = two(*undo(said)).out
    again = two(*undo(removed), "--json").json
    assert (again["champion"], again["route_key"], again["passthrough"]) == ("model:visits@2", "person", ["visit"])
    two("deploy", "second", "--remove")
    assert two("status", "--json").json["champions"][0]["endpoint"] == before
    assert "not-registered" in two("deploy", "third", "visits.baseline@1", code=2).err
    two("deploy", "third", code=2)


def test_a_rollout_step_by_step(two: Shell) -> None:
    two("deploy", "slow", "visits@1")
    assert "rising percentages" in two("rollout", "start", "slow", "visits@2", "--canary", "50,5", code=2).err
    said = two("rollout", "start", "slow", "visits@2", "--shadow-rows", "50", "--canary", "5,25", "--rows", "20").out
    assert "1 of 3: shadow for 50 rows" in said
    assert "2 of 3: 5% for 20 rows" in two("rollout", "advance", "slow").out
    (running,) = two("status", "--json").json["rollouts"]
    assert (running["endpoint"], running["stage"], running["stages"], running["percent"]) == ("slow", 2, 3, 5)
    assert two("rollout", "show", running["ref"], "--json").json["id"] == running["id"]
    ended = two(*undo(said)).out
    assert ended.startswith("Rolled back: model:visits@1 answers all of slow again.")
    two(*undo(ended))
    kept = two("rollout", "keep", "endpoint:slow", "--reason", "not sure").out
    assert "model:visits@1 stays champion" in kept
    two(*undo(kept))
    two("rollout", "promote", "slow")
    assert [r["status"] for r in two("rollout", "ls", "slow", "--json").json] == ["promoted", "kept", "rolled_back"]
    assert "not sure" in two("rollout", "ls", "--status", "kept").out
    assert two("models", "show", "visits@champion", "--json").json["version"] == 2
    assert "no rollout under way" in two("rollout", "back", "slow", code=2).err
    two("models", "roll-back", "visits", "champion")
    two("deploy", "slow", "--remove")


@pytest.fixture
def alert(shell: Shell) -> Iterator[str]:
    """An alert on record, as a monitor's look raises it."""
    platform = Platform.open(workspace=str(shell.workspace))
    try:
        with platform.database.begin(principal=platform.owner.name) as tx:
            ref = AlertsService(tx).raise_alert("visits", "drift", "days rose from 6.4 to 9.1", ["days"], tx.now)
    finally:
        platform.close()
    yield ref
    shell("alerts", "close", ref)


def test_the_life_of_an_alert(shell: Shell, alert: str) -> None:
    assert "days rose" in shell("alerts", "show", alert).out
    assert [a["ref"] for a in shell("alerts", "ls", "visits", "--status", "open", "--json").json] == [alert]
    assert "visits: days rose from 6.4 to 9.1" in shell("status").out
    said = shell("alerts", "acknowledge", alert, "--comment", "on it").out
    assert "is acknowledged" in said
    assert shell(*undo(said), "--json").json["status"] == "open"
    assert "is silenced until" in shell("alerts", "silence", alert, "--until", "7d").out
    shell("alerts", "silence", alert, code=2)
    assert shell("alerts", "close", alert, "--json").json["status"] == "closed"
    assert shell("alerts", "ls", "--status", "open", "--json").json == []


def test_roles_and_tokens(shell: Shell) -> None:
    shell("access", "add-principal", "ann")
    said = shell("access", "grant", "ann", "viewer").out
    assert [g["role"] for g in shell("access", "grants", "--principal", "ann", "--json").json] == ["viewer"]
    shell(*undo(said))
    assert shell("access", "grants", "--principal", "ann", "--json").json == []
    said = shell("access", "grant", "ann", "auditor", "--instance").out
    assert "ann" in shell("access", "grants", "--instance").out
    shell(*undo(said))
    shell("access", "grant", "ann", "auditor", code=2)
    shell("access", "grant", "ann", "viewer", "--instance", code=2)
    made = shell("access", "create-token", "--label", "for a test", "--role", "viewer")
    secret, ident = made.out.strip(), shell("access", "tokens", "--json").json[-1]["id"]
    assert secret.startswith("ll_")
    assert secret not in made.err, "what says how to undo it does not repeat the secret"
    assert secret not in shell("access", "tokens").out
    assert ident in made.err
    shell("access", "revoke-token", ident)
    assert shell("access", "tokens", "--json").json[-1]["revoked"] is not None
    assert "admin" in shell("access", "whoami").out
    assert "ann" in shell("access", "principals").out
    shell("access", "create-project", "clinic")
    assert {"clinic", "default"} == {p["name"] for p in shell("access", "projects", "--json").json}
    assert shell("data", "ls", "--project", "clinic", "--json").json == []


def test_the_ledger_is_checked_proven_and_carried_out(shell: Shell, tmp_path: Path) -> None:
    assert "The ledger holds" in shell("ledger", "verify").out
    signed = shell("ledger", "checkpoint", "--json").json
    assert shell("ledger", "checkpoints", "--limit", "1", "--json").json[0]["size"] == signed["size"]
    shell("ledger", "prove", "3", "-o", str(tmp_path / "proof.json"))
    assert json.loads((tmp_path / "proof.json").read_text())["seq"] == 3
    made = shell("ledger", "entries", "--ref", "visits@1", "--operation", "models.draft", "--json").json
    assert [entry["outputs"] for entry in made] == [["model:visits@1"]]
    shell("ledger", "export", str(tmp_path / "ledger.ndjson"))
    lines = (tmp_path / "ledger.ndjson").read_text().splitlines()
    assert len(lines) > signed["size"]
    assert all(json.loads(line) for line in lines)
    assert shell("ledger", "rotate-key", "--json").json["size"] > signed["size"]
    assert shell("ledger", "verify", "--json").json["ok"]
    assert "cannot be written" in shell("ledger", "export", str(tmp_path / "no" / "such"), code=2).err
