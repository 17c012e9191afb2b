"""`loopline data retention` and `purge`, as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Shell


@pytest.fixture
def clinic(bare: Shell, tmp_path: Path) -> Shell:
    """Three versions of the visits."""
    for rows in (1, 2, 3):
        (tmp_path / "visits.csv").write_text("id\n" + "1\n" * rows)
        bare("data", "add", "visits", str(tmp_path / "visits.csv"))
    return bare


def test_a_retention_is_set_shown_and_taken_back(clinic: Shell) -> None:
    assert clinic("data", "retention").out == "All versions are kept for ever.\n"
    said = clinic("data", "retention", "90d", "--last", "10").out
    assert said.startswith("Each version is kept for 90 d, and as one of the last 10 of its dataset; `loopline up`")
    assert "data retention forever" in said
    assert clinic("data", "retention", "--json").json["last"] == 10
    assert "data retention 90d --last 10" in clinic("data", "retention", "--last", "1").out
    assert clinic("data", "retention").out == "Each version is kept as the last of its dataset.\n"
    assert "goes" not in clinic("data", "retention", "forever").out
    assert "needs no --last" in clinic("data", "retention", "forever", "--last", "1", code=2).err
    assert "no duration" in clinic("data", "retention", "soon", code=2).err


def test_a_dry_run_says_what_goes_and_why_the_others_stay(clinic: Shell) -> None:
    clinic("data", "tag", "visits@1", "first")
    said = clinic("data", "purge", "--older-than", "0s", "--dry-run").out
    assert said.startswith("1 version would be removed for good.\n  data:visits@2\n")
    assert "data:visits@1\tit is tagged first" in said
    assert "data:visits@3\tit is the newest" in said
    assert "removed" not in clinic("data", "log", "visits").out
    said = clinic("data", "purge", "--older-than", "0s").out
    assert said == "1 version removed for good; the bytes go in a day.\n  data:visits@2\n"
    assert "removed" in clinic("data", "log", "visits").out
    assert "removed" in clinic("data", "show", "visits@2").out
    assert "The content of data:visits@2 was removed for good" in clinic("data", "profile", "visits@2", code=2).err
    assert "data:visits@1 cannot be removed: it is tagged first." in clinic("data", "purge", "visits@1", code=2).err
    assert "goes with neither" in clinic("data", "purge", "visits@1", "--last", "1", code=2).err
    clinic("data", "untag", "visits@first")
    assert clinic("data", "purge", "visits@first", code=2).err
    assert clinic("data", "purge", "visits@1", "--json").json["versions"] == ["data:visits@1"]


def test_gc_goes_by_the_retention(clinic: Shell) -> None:
    assert clinic("gc", "--json").json["versions"] == []
    clinic("data", "retention", "--last", "2")
    assert "dataset versions past the retention\t1" in clinic("gc", "--dry-run").out
    assert clinic("gc", "--json").json["versions"] == ["data:visits@1"]
