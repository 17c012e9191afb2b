"""`loopline runs compare`: in the terminal, as pictures and as a page, and its errors."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.tracking.records import Point

Shell = Any  # conftest's


@pytest.fixture
def pair(bare: Shell) -> tuple[str, str]:
    """Two runs with three seeds each; the first of each."""
    platform = Platform.open(workspace=bare.workspace, checkpoints=str(bare.state / "copies"))
    runs, rng, first = platform.session().runs, random.Random(2), []
    for leaves, middle in ((8, 0.6), (64, 0.7)):
        made = [runs.create("fit", params={"leaves": leaves, "depth": 3, "seed": seed}).id for seed in range(3)]
        for run in made:
            runs.log(run, [Point(key="auc", value=middle + rng.gauss(0, 0.01), step=n) for n in range(20)])
        first.append(made[0])
    platform.close()
    return first[0], first[1]


def test_a_comparison_in_words(bare: Shell, pair: tuple[str, str]) -> None:
    told = bare("runs", "compare", *pair).out
    assert "higher: mean +0." in told
    assert "leaves\t8\t64" in told
    assert "depth" not in told
    assert "depth\t3\t3" in bare("runs", "compare", *pair, "--all").out
    assert "by the t-test of Welch (1947)" in told
    assert "are not shown" in told


def test_a_comparison_for_programs(bare: Shell, pair: tuple[str, str]) -> None:
    found = bare("runs", "compare", f"run:{pair[0]}", pair[1], "--json", "--metric", "auc").json
    assert [run["id"] for run in found["runs"]] == list(pair)
    assert found["metrics"][0]["deltas"][0] is None
    assert found["metrics"][0]["deltas"][1]["method"] == "welch"


def test_pictures_and_a_page(bare: Shell, pair: tuple[str, str], tmp_path: Path) -> None:
    for name, begins in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        bare("runs", "compare", *pair, "--metric", "auc", "--plot", str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(begins)
    bare("runs", "compare", *pair, "--html", str(tmp_path / "a.html"))
    assert "data:image/svg+xml;base64," in (tmp_path / "a.html").read_text()


def test_what_cannot_be_compared(bare: Shell, pair: tuple[str, str], tmp_path: Path) -> None:
    assert "cannot stand beside" in bare("runs", "compare", pair[0], code=2).err
    assert "no run" in bare("runs", "compare", pair[0], "01ZZZZZZZZZZZZZZZZZZZZZZZZ", code=2).err
    assert "--metric" in bare("runs", "compare", *pair, "--plot", str(tmp_path / "a.png"), code=2).err
    assert ".gif" in bare("runs", "compare", *pair, "--metric", "auc", "--plot", str(tmp_path / "a.gif"), code=2).err
