"""What the first page tells as things happen, out of a real workspace and its verbs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopline.access.records import Principal
from loopline.api.pages.home import page
from loopline.api.pages.overview import Overview, overview
from loopline.app import Platform
from loopline.cli import COMMANDS
from loopline.data.files.adding import add
from loopline.deployment.records import Plan, Stage
from loopline.loop.broken import register_constant
from loopline.operations import Body
from loopline.settings import load
from loopline.tracking.records import Point

KEY = "sha256:" + "0" * 64


@pytest.fixture
def platform(workspace: Path, tmp_path: Path) -> Iterator[Platform]:
    """A copy of the workspace in which the loop ran once."""
    shutil.copytree(workspace, tmp_path / "w")
    opened = Platform.open(workspace=str(tmp_path / "w"), checkpoints=str(tmp_path / "outside"))
    yield opened
    opened.close()


def seen(platform: Platform) -> Overview:
    return overview(platform.session(), platform.clock.now())


def told(platform: Platform) -> tuple[str, str]:
    """How the one champion stands: the word and the sentence."""
    (place,) = seen(platform).places
    return place.standing.word, place.standing.sentence


def commands(html: str) -> list[str]:
    """The commands that a page shows."""
    found = re.findall(r"<(?:pre|code)[^>]*>(loopline [^<]*)<", html)
    return [line for block in found for line in block.splitlines()]


def ended(session: Any, status: str, message: str) -> None:
    """A run of the loop's pipeline that ended so."""
    run = session.pipelines.start("readmission", key=KEY)
    session.pipelines.end(run.id, status, message)


def test_an_empty_workspace_shows_what_fills_it(tmp_path: Path) -> None:
    platform = Platform.open(load(workspace=str(tmp_path / "w"), checkpoints=str(tmp_path / "outside")))
    try:
        shown = commands(page(seen(platform)))
    finally:
        platform.close()
    assert shown == ["loopline demo", "loopline init NAME --data FILE --label COLUMN", "loopline run NAME"]
    assert {line.split()[1] for line in shown} <= set(COMMANDS)


def test_runs_of_scripts_are_there_and_lead_to_their_pages(tmp_path: Path) -> None:
    platform = Platform.open(load(workspace=str(tmp_path / "w"), checkpoints=str(tmp_path / "outside")))
    try:
        session = platform.session()
        assert "Nothing ran here yet" in page(seen(platform))
        group = session.groups.create("churn <i>").number
        made = [session.runs.create(f"try {n}", group=group).id for n in range(7)]
        session.runs.create("a model", kind="model", parent=made[0])
        session.runs.log(
            made[6], [Point(key="loss", value=0.25), Point(key="cpu", value=1), Point(key="system/a", value=2)]
        )
        shown = page(seen(platform))
        assert "Nothing ran here yet" not in shown
        assert re.findall(r'href="(/runs/[^"]+)">([^<]+)<', shown) == [
            (f"/runs/{made[n]}?project=default", f"try {n}") for n in range(6, 0, -1)
        ]
        assert "cpu 1, loss 0.25, system/a 2" in shown
        assert "The newest 6 of them are here" in shown
        assert re.findall(r'href="/groups/(\d+)[^"]*">([^<]+)<', shown) == [("0", "Default"), ("1", "churn &lt;i&gt;")]
    finally:
        platform.close()


def test_a_champion_goes_from_serving_to_what_happens_to_it(platform: Platform) -> None:
    session = platform.session()
    assert told(platform) == (
        "serving",
        "model:readmission@1 answers; too few rows have come for a first look at drift.",
    )

    ended(session, "stopped", "refused by 1 of 2 gates: roc_auc at least 0.5")
    assert told(platform) == (
        "refused",
        "The last run was refused by 1 of 2 gates: roc_auc at least 0.5. model:readmission@1 stays champion.",
    )
    ended(session, "failed", "the disk is full")
    assert told(platform) == ("run failed", "The last run failed: the disk is full.")
    needs = commands(page(seen(platform)))
    assert any(line.startswith("loopline pipeline show ") for line in needs)
    session.pipelines.start("readmission", key=KEY)
    assert told(platform)[0] == "learning"

    workspace = platform.settings.workspace
    challenger = register_constant(session, "readmission", workspace / "scratch", label="readmitted")
    plan = Plan(stages=(Stage(kind="shadow", rows=200), Stage(kind="canary", percent=50, rows=100)))
    rollout = session.rollouts.start("readmission", challenger, plan)
    assert told(platform) == (
        "rolling out",
        f"{challenger} is being rolled out against model:readmission@1: stage 1 of 2, it answers in the shadow.",
    )
    assert "This stage: 0 of 200 rows." in page(seen(platform))
    session.rollouts.decide(rollout.id, "roll_back", "it answers the same to all")
    shown = page(seen(platform))
    assert "rolled back" in shown
    assert "it answers the same to all" in shown

    asked = session.models.request_approval("readmission", 2)
    word, sentence = told(platform)
    assert word == "waits for a person"
    assert sentence.startswith(f"{challenger} waits for approval, asked by ")
    assert f"loopline models approve {asked.id}" in commands(page(seen(platform)))


def test_whoever_may_read_sees_the_same(platform: Platform) -> None:
    owner = platform.session()
    owner.access.add_principal("ann")
    owner.access.grant("ann", "viewer")
    now = platform.clock.now()
    assert overview(platform.session(Principal(name="ann")), now) == overview(owner, now)


def test_withdrawn_versions_and_files_are_told_as_such(tmp_path: Path) -> None:
    platform = Platform.open(load(workspace=str(tmp_path / "w"), checkpoints=str(tmp_path / "outside")))
    try:
        session = platform.session()
        session.datasets.add("visits", Body(b"id,back\n1,no\n2,yes\n", name="visits.csv"))
        session.datasets.add("scores", Body(b"id,score\n1,0.5\n", name="scores.csv"), inputs=["data:visits@1"])
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans" / "a.raw").write_bytes(b"1")
        add(session.files, "scans", tmp_path / "scans", states=tmp_path / "states")
        session.datasets.withdraw("visits", "1", "of <another> year")
        shown = page(seen(platform))
        assert re.search(r"data:visits@1</span>.*?of &lt;another&gt; year.*?withdrawn", shown)
        assert re.search(r"data:scores@1</span>.*?data:visits@1 is withdrawn.*?unsound", shown)
        assert "1 file<" in shown
        assert "datasets/scans" not in shown, "files have no profile"
    finally:
        platform.close()
