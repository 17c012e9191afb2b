"""Commands that change something say what they did and how to undo it; the undo works as printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.monitoring.alerts import AlertsService
from loopline.quality.contract import column, contract

Shell = Any  # conftest's


def undo(said: str) -> list[str]:
    """The command that a command names as its undo."""
    (line,) = [line for line in said.splitlines() if "Undo it: " in line]
    return shlex.split(line.partition("Undo it: loopline ")[2])


@pytest.fixture(scope="module")
def two(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A copy of the workspace, with a second registered version, which no gate let pass: registered by hand."""
    run = shell.copy(tmp_path_factory.mktemp("changing"))
    assert "signed by key" in run("models", "register", "visits@2").out
    return run


def test_adding_and_splitting_data(two: Shell, write_visits: Any, tmp_path: Path) -> None:
    file = tmp_path / "more.csv"
    write_visits(file, rows=300)
    rule = tmp_path / "contract.json"
    rule.write_bytes(contract(column("days").between(0, 60)).to_json())
    said = two("data", "add", "more", str(file), "--contract", str(rule), "--message", "for a test").out
    assert "Added data:more@1: 293 rows" in said
    assert "7 rows are held back" in said
    again = two("data", "add", "more", str(file), "--contract", str(rule)).out
    assert "there already: data:more@1" in again
    sides = two("data", "split", "more", "--label", "back", "--group", "person", "--json").json
    assert sides["test"] == "data:more.test@1"
    rule.write_text("{")
    assert "contract-json" in two("data", "add", "more", str(file), "--contract", str(rule), code=2).err


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


def test_an_alias_is_removed_and_asked_for_in_words(two: Shell) -> None:
    two("models", "alias", "visits@1", "gone")
    said = two("models", "remove-alias", "visits", "@gone", "--reason", "a try").out
    assert said.startswith("visits@gone points nowhere now (it was @1).")
    assert "no-alias" in two("models", "as-of", "visits", "gone", code=2).err
    early = two("models", "as-of", "visits", "gone", "--at", "1 March 2001 at noon", code=2).err
    assert "no-alias" in early
    assert re.search(r"Its first move was at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", early)
    assert "no-alias" in two("models", "as-of", "visits", "gone", "--at", "5 minutes ago", code=2).err
    said = two(*undo(said)).out
    assert said.startswith("visits@gone is visits@1 again (it was removed).")
    two(*undo(said))
    assert [m["version"] for m in two("models", "history", "visits", "gone", "--json").json] == [1, None, 1, None]


def test_what_is_said_of_models(two: Shell) -> None:
    said = two("models", "create", "later", "--title", "For later").out
    assert "model:later" in said
    for said_so in (("describe", "For later", "not yet"), ("as-of", "For later", "champion"), ("show", "For later@1")):
        assert "has the name later: use that" in two("models", *said_so, code=2).err
    assert "looks like model:name@version" in two("models", "show", "For never", code=2).err
    two("models", "describe", "later", "not yet")
    two("models", "tag", "later", "team=claims", "x=1")
    two("models", "tag", "later", "x=")
    two("models", "comment", "visits@1", "as good as it gets")
    renamed = two("models", "rename", "later", "Sooner").out
    found = next(m for m in two("models", "ls", "--json").json if m["name"] == "later")
    assert (found["title"], found["description"], found["tags"]) == ("Sooner", "not yet", {"team": "claims"})
    assert two(*undo(renamed)).out.startswith("model:later is called 'For later' now.")
    two("models", "tag", "visits@1", "checked=yes")
    assert two("models", "show", "visits@1", "--json").json["tags"] == {"checked": "yes"}
    assert two("models", "comments", "visits", "--json").json[0]["text"] == "as good as it gets"
    assert "is not KEY=TEXT" in two("models", "tag", "later", "x", code=2).err
    gone = two(*undo(said)).out
    assert "later" in two("models", "ls", "--deleted").out
    two(*undo(gone))
    two("models", "delete", "later")
    two("models", "purge", "later")
    assert "version-in-use" in two("models", "delete", "visits@1", code=2).err
    assert "not-deleted" in two("models", "purge", "visits@1", code=2).err


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
def alert(two: Shell) -> Iterator[str]:
    """An alert on record, as a monitor's look raises it."""
    copies = two.state / "loopline" / "checkpoints"
    platform = Platform.open(workspace=str(two.workspace), checkpoints=str(copies))
    try:
        with platform.database.begin(principal=platform.owner.name) as tx:
            ref = AlertsService(tx).raise_alert("visits", "drift", "days rose from 6.4 to 9.1", ["days"], tx.now)
    finally:
        platform.close()
    yield ref
    two("alerts", "close", ref)


def test_the_life_of_an_alert(two: Shell, alert: str) -> None:
    assert "days rose" in two("alerts", "show", alert).out
    assert [a["ref"] for a in two("alerts", "ls", "visits", "--status", "open", "--json").json] == [alert]
    assert "visits: days rose from 6.4 to 9.1" in two("status").out
    said = two("alerts", "acknowledge", alert, "--comment", "on it").out
    assert "is acknowledged" in said
    assert two(*undo(said), "--json").json["status"] == "open"
    assert "is silenced until" in two("alerts", "silence", alert, "--until", "7d").out
    two("alerts", "silence", alert, code=2)
    assert two("alerts", "close", alert, "--json").json["status"] == "closed"
    assert two("alerts", "ls", "--status", "open", "--json").json == []


ASKING = """\
import loopline as ll


@ll.step
def fit(train: ll.Table) -> ll.Model:
    return ll.linear(train)


loop = ll.Loop(
    "visits",
    data=ll.source("visits.csv", label="back", time="visit", group="person", protected=["days"]),
    train=fit,
    gates=[ll.gate.fair("days", "equal_opportunity_difference", at_most=0.1, too_few="ask")],
)
"""


def test_a_gate_that_asks_waits_for_a_person(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shell.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "visits.py").write_text(ASKING)
    assert "waiting: model:visits@3 waits for a person" in run("run", "visits", code=3).out
    (request,) = run("models", "approvals", "--decision", "open", "--json").json
    assert request["ref"] == "model:visits@3"
    (need,) = run("status", "--json").json["needs"]
    assert need["kind"] == "approval"
    assert need["command"] == f"loopline models approve {request['id']}"
    assert "too few" in need["text"]
    said = run("status").out
    assert "Needs a person" in said
    assert need["text"] in said


def test_roles_and_tokens(two: Shell) -> None:
    two("access", "add-principal", "ann")
    said = two("access", "grant", "ann", "viewer").out
    assert [g["role"] for g in two("access", "grants", "--principal", "ann", "--json").json] == ["viewer"]
    two(*undo(said))
    assert two("access", "grants", "--principal", "ann", "--json").json == []
    said = two("access", "grant", "ann", "auditor", "--instance").out
    assert "ann" in two("access", "grants", "--instance").out
    two(*undo(said))
    two("access", "grant", "ann", "auditor", code=2)
    two("access", "grant", "ann", "viewer", "--instance", code=2)
    made = two("access", "create-token", "--label", "for a test", "--role", "viewer")
    secret, ident = made.out.strip(), two("access", "tokens", "--json").json[-1]["id"]
    assert secret.startswith("ll_")
    assert secret not in made.err, "what says how to undo it does not repeat the secret"
    assert secret not in two("access", "tokens").out
    assert ident in made.err
    two("access", "revoke-token", ident)
    assert two("access", "tokens", "--json").json[-1]["revoked"] is not None
    assert "admin" in two("access", "whoami").out
    assert "ann" in two("access", "principals").out
    two("access", "create-project", "clinic")
    assert {"clinic", "default"} == {p["name"] for p in two("access", "projects", "--json").json}
    assert two("data", "ls", "--project", "clinic", "--json").json == []


def test_the_ledger_is_checked_proven_and_carried_out(two: Shell, tmp_path: Path) -> None:
    assert "The ledger holds" in two("ledger", "verify").out
    signed = two("ledger", "checkpoint", "--json").json
    assert two("ledger", "checkpoints", "--limit", "1", "--json").json[0]["size"] == signed["size"]
    two("ledger", "prove", "3", "-o", str(tmp_path / "proof.json"))
    assert json.loads((tmp_path / "proof.json").read_text())["seq"] == 3
    made = two("ledger", "entries", "--ref", "visits@1", "--operation", "models.draft", "--json").json
    assert [entry["outputs"] for entry in made] == [["model:visits@1"]]
    two("ledger", "export", str(tmp_path / "ledger.ndjson"))
    lines = (tmp_path / "ledger.ndjson").read_text().splitlines()
    assert len(lines) > signed["size"]
    assert all(json.loads(line) for line in lines)
    assert two("ledger", "rotate-key", "--json").json["size"] > signed["size"]
    assert two("ledger", "verify", "--json").json["ok"]
    assert "cannot be written" in two("ledger", "export", str(tmp_path / "no" / "such"), code=2).err


def test_removed_copies_of_checkpoints_are_no_pass(two: Shell) -> None:
    signed = {c["size"] for c in two("ledger", "checkpoints", "--limit", "1000", "--json").json}
    for folder in two.state.glob("**/checkpoints/*"):
        shutil.rmtree(folder)
    ended = two("ledger", "verify", code=3)
    assert "not proven whole" in ended.out
    assert "The ledger holds" not in ended.out
    found = two("ledger", "verify", "--json", code=3).json
    (finding,) = found["findings"]
    assert (found["ok"], finding["severity"]) == (True, "warning")
    assert all(f"{size:,}" in finding["message"] for size in sorted(signed)[-20:])
    two("ledger", "checkpoint")
    assert "The ledger holds" in two("ledger", "verify").out


def test_versions_of_data_by_hand(two: Shell, tmp_path: Path) -> None:
    file, rule, page = tmp_path / "ward.csv", tmp_path / "rule.json", tmp_path / "d.html"
    rule.write_bytes(contract(column("days").between(0, 31)).to_json())
    for number, days in enumerate(("3,99,5", "3,4,5")):
        file.write_text("id,days\n" + "".join(f"{n},{d}\n" for n, d in enumerate(days.split(","))))
        said = two("data", "add", "ward", str(file), "--contract", str(rule)).out
        assert ("data quarantine list data:ward@1" in said) is (number == 0)
    assert two("data", "contract", "ward@1").out.startswith('[[rules]]\nrule = "between"\ncolumn = "days"')
    drafted = tmp_path / "drafted.toml"
    drafted.write_text(two("data", "contract", "ward@1", "--suggest").out)
    assert "there already: data:ward@2" not in two("data", "add", "ward2", str(file), "--contract", str(drafted)).out
    assert "unique" in two("data", "contract", str(file), "--suggest", "--python").out
    assert two("data", "tag", "ward@1", "good").out == "data:ward@1 is ward@good.\n"
    assert two("data", "show", "ward@good", "--json").json["version"] == 1
    assert "Rows by id: 1 added, 2 the same" in two("data", "diff", "ward@good", "--key", "id").out
    assert two("data", "diff", "ward@1", "ward@2", "--json").json["added"] == 1
    two("data", "diff", "ward@1", "--html", str(page))
    assert page.read_text().startswith("<!doctype")
    assert two("data", "quarantine", "list", "ward@1", "--json").json["held"] == 1
    assert "--reason" in two("data", "quarantine", "drop", "ward@1", code=2).err
    assert "data:ward@3. 0 are held" in two("data", "quarantine", "release", "ward@1", "--reason", "meant so").out
    assert two("data", "restore", "ward@1", "--json").json["version"] == 4
    assert "data:ward@4" in two("data", "withdraw", "ward@1", "--reason", "wrong ward").out
    assert "data:ward@1 is withdrawn (wrong ward)" in two("data", "restore", "ward@3", code=3).err
    assert "unsound" in two("data", "log", "ward").out
    assert "names nothing any more" in two("data", "untag", "ward@good").out


def test_a_look_by_hand_is_counted(shell: Shell, tmp_path: Path) -> None:
    shell = shell.copy(tmp_path)
    before = shell("data", "show", "visits.test", "--json").json["looks"]
    given = ("evaluations", "measure", "visits@1", "visits.test", "--label", "back", "--against", "visits.baseline@1")
    found = shell(*given, "--protected", "sex", "--json").json["evidence"]
    assert (found["model"], found["looks"]) == ("model:visits@1", before + 1)
    assert {one["opponent"] for one in found["differences"]} == {"visits.baseline@1"}
    assert f"look {before + 2}" in shell(*given).out
    assert shell("data", "show", "visits.test", "--json").json["looks"] == before + 2
    assert "Did you mean" in shell(*given[:4], "--label", "bakc", code=2).err


def test_groups_deletion_and_what_is_removed_for_good(shell: Shell, tmp_path: Path) -> None:
    run = shell.copy(tmp_path)
    runs = Platform.open(workspace=run.workspace, checkpoints=str(run.state)).session().runs
    said = run("groups", "create", "rates", "--note", "why").out
    assert said.startswith("group:1 is the group 'rates'.")
    mine = [runs.create(name, group=1).id for name in ("a", "b", "c")]
    assert [r["id"] for r in run("runs", "ls", "--group", "rates", "--json").json["runs"]] == mine[::-1]
    assert [r["id"] for r in run("runs", "search", "name = 'a'", "--group", "1", "--json").json["runs"]] == mine[:1]
    assert "rates" in run("runs", "show", mine[0]).out
    for line in (("rename", "rates", "speeds"), ("note", "1", "new"), ("tag", "1", "team=a")):
        before = run("groups", "show", "1", "--json").json
        changed = run("groups", *line)
        assert run("groups", "show", "1", "--json").json != before
        run(*undo(changed.out))
        after = run("groups", "show", "1", "--json").json
        assert {**after, "changed": 0} == {**before, "changed": 0}
    assert "Did you mean 'rates'?" in run("groups", "show", "rate", code=2).err
    assert "is not KEY=TEXT" in run("groups", "tag", "1", "team", code=2).err
    said = run("runs", "delete", mine[0], mine[1]).out
    assert said.startswith("2 runs deleted.")
    assert {r["id"] for r in run("runs", "ls", "--deleted", "--json").json["runs"]} == set(mine[:2])
    run(*undo(said))
    assert run("runs", "ls", "--deleted", "--json").json["runs"] == []
    said = run("groups", "delete", "rates").out
    assert [g["name"] for g in run("groups", "ls", "--deleted", "--json").json] == ["rates"]
    run(*undo(said))
    run("runs", "delete", mine[0])
    assert "1 run would be removed for good" in run("runs", "purge", mine[0], "--dry-run").out
    assert "run-live" in run("runs", "purge", mine[1], code=2).err
    assert "1 run removed for good" in run("runs", "purge", mine[0]).out
    assert "removed for good" in run("runs", "show", mine[0], code=2).err
    assert "no-retention" in run("runs", "purge", code=2).err
    said = run("runs", "retention", "0s").out
    assert "kept for 0 s" in run("runs", "retention").out
    run("groups", "delete", "rates")
    assert "2 runs and 1 group would be removed" in run("runs", "purge", "--dry-run").out
    looked = run("gc", "--dry-run", "--json").json
    assert (len(looked["runs"]), looked["groups"]) == (2, ["group:1"])
    assert run("gc", "--json").json["runs"] == looked["runs"]
    assert "deleted runs past the retention\t0" in run("gc").out
    run(*undo(said))
    assert "kept for ever" in run("runs", "retention").out
    run("runs", "retention", "36h")
    assert undo(run("runs", "retention", "2w").out)[2] == "36h"
    assert undo(run("runs", "retention", "1500ms").out)[2] == "2w"
    assert undo(run("runs", "retention", "forever").out)[2] == "1500ms"
    run("runs", "retention", "30d", "--tag", "hold", "forever", "--tag", "a b=c d", "2w")
    assert "kept for 30 d; with the tag hold, for ever; with the tag a b=c d, for 14 d" in run("runs", "retention").out
    back = undo(run("runs", "retention", "forever").out)
    assert back[2:9] == ["30d", "--tag", "hold", "forever", "--tag", "a b=c d", "2w"]
    assert "without the tag" in run("runs", "retention", "--tag", "hold", "1d", code=2).err
    assert run("groups", "purge", "1", code=2).err


def test_an_undo_is_for_the_place_that_was_named(two: Shell) -> None:
    two("access", "create-project", "annex")
    two("access", "add-principal", "ann", "--kind", "user")
    for said in (
        two("--project", "annex", "access", "grant", "ann", "viewer").out,
        two("access", "grant", "ann", "viewer").out,
    ):
        assert f"--workspace {two.workspace}" in said
        two(*undo(said))
    assert [
        grant for grant in two("--project", "annex", "access", "grants", "--json").json if grant["principal"] == "ann"
    ] == []


def test_what_is_withdrawn_and_served_nevertheless_is_told(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = shell.copy(tmp_path_factory.mktemp("withdrawn"))
    run("models", "remove-alias", "visits", "champion")
    said = run("models", "withdraw", "visits@1", "--reason", "it leaks")
    assert "model:visits@1 is withdrawn: it leaks" in said.out
    assert "visits still answers by it" in said.err


def test_a_threshold_is_set_listed_and_taken_back(shell: Shell, tmp_path: Path) -> None:
    run = shell.copy(tmp_path)
    assert "None was set" in run("threshold", "visits").err
    assert "no-reason" in run("threshold", "visits", "0.3", code=2).err
    said = run("threshold", "visits", "0.3", "--reason", "too many are missed").out
    assert "model:visits@1 at visits decides by 0.3 (number 1)." in said
    assert "--back --version 1" in said
    assert "packaged with" in run("threshold", "visits", "--back", "--reason", "it was better").out
    listed = run("threshold", "visits", "--json").json
    assert [(t["number"], t["how"], t["reason"]) for t in listed] == [
        (1, "set", "too many are missed"),
        (2, "rolled_back", "it was better"),
    ]
    assert "--back" in run("threshold", "visits", "0.3", "--back", code=2).err


def test_a_bundle_is_pulled_and_sent_again(shell: Shell, tmp_path: Path) -> None:
    run = shell.copy(tmp_path)
    out = str(tmp_path / "pulled")
    assert "model:visits@1 is in" in run("models", "pull", "visits@champion", out).out
    assert "bundle-exists" in run("models", "pull", "visits@1", out, code=2).err
    assert "is a draft" in run("models", "push", out).out
    assert run("models", "show", "visits@3", "--json").json["status"] == "draft"
    assert "not-registered" in run("models", "pull", "visits@3", str(tmp_path / "draft"), code=2).err
    assert "no-bundle" in run("models", "push", str(tmp_path), code=2).err
