"""Tables put aside: as many as there are, with few files open, and every row as it was."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from loopline.data import inbox, spooled
from loopline.data.spooled import Aside
from loopline.operations import Body
from loopline.quality.blocks import Blocks

from .conftest import Place

MANY = 150


@contextlib.contextmanager
def few_files() -> Iterator[None]:
    """Within, the process may open no more than some files beside those that it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + MANY // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["on disk", "in memory"])
def test_a_folder_of_more_files_than_may_be_open(
    place: Place, tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "_IN_MEMORY", memory)
    folder = tmp_path / "clinic"
    folder.mkdir()
    for n in range(MANY):
        more = ("days", n / 2 if n % 3 else n) if n % 2 else ("ward", f"w{n}" if n else "")
        (folder / f"{n:03}.csv").write_text(f"id,{more[0]}\n{n},{more[1]}\n")
    with few_files():
        made = place.session.sources.collect("visits", [{"address": str(folder)}])
    assert (made.read, made.version.rows) == (MANY, MANY)
    expected = [
        {
            "id": n,
            "ward": None if n % 2 or not n else f"w{n}",
            "days": (n / 2 if n % 3 else float(n)) if n % 2 else None,
        }
        for n in range(MANY)
    ]
    assert place.rows().to_dicts() == expected


def test_more_posts_wait_than_may_be_open(place: Place) -> None:
    place.add(1)
    for n in range(MANY):
        posted = place.session.inbox.post("visits", Body(b"id,days,back\n%d,3,true\n" % n, media="text/csv"))
        assert posted.taken is None
    place.clock.forward(milliseconds=inbox.MILLISECONDS)
    with few_files():
        taken = place.session.inbox.take("visits")
    assert taken is not None
    assert (taken.posts, taken.rows) == (MANY, MANY)
    assert place.rows()["id"].to_list() == [0, *range(MANY)]


def test_tables_are_read_as_often_as_wanted_and_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "_IN_MEMORY", 1000)
    frames = [
        pl.DataFrame({"a": range(n, n + 100), "b": [None if i % 7 == 0 else str(i) for i in range(100)]}).with_columns(
            pl.col("a").cast(pl.Int64() if n % 2 else pl.Float64())
        )
        for n in range(6)
    ]
    aside = Aside(tmp_path)
    tables = [
        aside.put(
            Blocks.chained([Blocks.of(frame.head(30)), Blocks.of(frame.slice(30))]) if n % 3 else Blocks.of(frame)
        )
        for n, frame in enumerate(frames)
    ]
    assert list(tmp_path.iterdir()) == [], "what was put aside has no name"
    for _ in range(2):
        for table, frame in reversed(list(zip(tables, frames, strict=True))):
            assert table.frame().equals(frame)
            assert table.only(["b"]).frame().equals(frame.select("b"))
            assert dict(table.nulls) == {"a": 0, "b": 15}
            assert table.height == 100
