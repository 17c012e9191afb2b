"""Batches of a journal: a number has one content for good, and what cannot be sent is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopline import failpoints
from loopline.errors import Conflict, Invalid, Unavailable
from loopline.tracking import outbox as module
from loopline.tracking.journal import Journal, Position
from loopline.tracking.journal_format import ENTRIES, LARGEST_CONTENT, MAGIC, Entry, Points, decode, pack
from loopline.tracking.outbox import Batch, Outbox, is_journal

RUN = "01K00000000000000000000000"


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "BATCH", 1000)
    yield
    failpoints.arm("")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dead process's journal of three segments: steps 0 to 599 of one metric."""
    journal = Journal.open(tmp_path, quota=16 * 16_000)
    for step in range(600):
        journal.point(RUN, "loss", step / 3, step, 1)
    journal.close()
    assert len(list(journal.folder.glob("*.log"))) == 3
    return journal.folder


def steps(outbox: Outbox, batch: Batch) -> list[int]:
    found = decode(pack(outbox.frames(batch)))
    return [step for one in found if isinstance(one, Points) for step in one.steps]


def drained(outbox: Outbox) -> list[int]:
    found: list[int] = []
    while batch := outbox.batch(outbox.settled + 1) or outbox.cut():
        assert batch.number == outbox.settled + 1
        found += steps(outbox, batch)
        outbox.settle(batch.number)
    return found


def test_all_frames_are_in_one_batch_each(folder: Path) -> None:
    outbox = Outbox(folder)
    assert drained(outbox) == list(range(600))
    assert (outbox.settled, outbox.waiting(), outbox.damages) == (outbox.last, 0, {})
    assert outbox.last > 30
    assert [path.name for path in sorted(folder.glob("*.log"))] == ["00000003.log"]
    outbox.remove()
    assert not folder.exists()


def test_a_number_has_the_same_content_after_a_restart(folder: Path) -> None:
    outbox = Outbox(folder)
    cut = [batch for _ in range(5) if (batch := outbox.cut())]
    contents = [outbox.frames(batch) for batch in cut]
    again = Outbox(folder)
    assert [again.batch(n) for n in range(1, 6)] == cut
    assert [again.frames(batch) for batch in cut] == contents
    following = again.cut()
    assert following
    assert (following.number, following.start) == (6, cut[-1].end)


def test_a_living_journal_is_cut_up_to_where_it_is_written(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    outbox = Outbox(journal.folder)
    assert outbox.cut(journal.written()) is None
    journal.point(RUN, "loss", 0.5, 0, 1)
    end = journal.written()
    journal.point(RUN, "loss", 0.5, 1, 1)
    first, none, second = outbox.cut(end), outbox.cut(end), outbox.cut(journal.written())
    assert first
    assert second
    assert none is None
    assert (steps(outbox, first), steps(outbox, second)) == ([0], [1])
    journal.close()


def test_a_living_journal_is_cut_where_its_writer_says_that_frames_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2 << 20)
    journal = Journal.open(tmp_path)
    outbox = Outbox(journal.folder, living=True)
    journal.points(RUN, [("loss", 0.5, step, 1) for step in range(100_000)])  # one write, larger than a batch
    for step in range(100_000, 200_000):
        journal.point(RUN, "loss", 0.5, step, 1)
    found: list[int] = []
    sizes = []
    while batch := outbox.cut(journal.written()):
        sizes.append(batch.end - batch.start)
        found += steps(outbox, batch)
        outbox.settle(batch.number)
    assert found == list(range(200_000))
    assert max(sizes) <= 2 << 20
    assert len(sizes) < 10
    journal.close()


@pytest.mark.parametrize("living", [True, False])
def test_a_batch_has_so_many_entries_that_taking_it_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, living: bool
) -> None:
    monkeypatch.setattr(module, "BATCH", 2 << 20)
    journal = Journal.open(tmp_path)
    outbox = Outbox(journal.folder, living=living)
    found: list[str] = []
    counts = []

    def drain(written: list[Position]) -> None:
        while batch := outbox.cut(written):
            held = decode(pack(outbox.frames(batch)))
            found.extend(one.fields["text"] for one in held if isinstance(one, Entry))
            counts.append(sum(isinstance(one, Entry) for one in held))
            outbox.settle(batch.number)

    for n in range(3 * ENTRIES + 500):
        journal.record("note", RUN, text=str(n))
        journal.point(RUN, "loss", 0.5, n, 1)
        if living and n in (10, ENTRIES + 400):
            drain(journal.written())
    written = journal.written() if living else []
    journal.close()
    drain(written)
    assert found == [str(n) for n in range(3 * ENTRIES + 500)]
    assert max(counts) == ENTRIES
    assert len(counts) <= 6


def test_a_frame_larger_than_a_batch_is_one_and_can_be_sent(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.record("params", RUN, params={f"{n}": os.urandom(15_000).hex() for n in range(135)})
    journal.point(RUN, "loss", 0.5, 1, 1)
    journal.close()
    outbox = Outbox(journal.folder)
    first, second = outbox.cut(), outbox.cut()
    assert first
    assert second
    content = pack(outbox.frames(first))
    assert 2_000_000 < len(content) <= LARGEST_CONTENT
    assert len(decode(content)) == 1
    assert steps(outbox, second) == [1]


def test_a_torn_record_of_a_cut_is_cut_again(folder: Path) -> None:
    outbox = Outbox(folder)
    outbox.cut()
    second = outbox.cut()
    path = folder / "00000001.sent"
    path.write_bytes(path.read_bytes()[:-3])
    again = Outbox(folder)
    assert again.last == 1
    assert again.cut() == second
    assert drained(Outbox(folder)) == list(range(600))


def test_a_full_disk_at_a_cut_is_told_and_the_cut_made_when_there_is_room(folder: Path) -> None:
    outbox = Outbox(folder)
    for place in ("before_write", "before_sync"):
        failpoints.arm(f"tracking.outbox.{place}=ENOSPC")
        with pytest.raises(Unavailable):
            outbox.cut()
        assert outbox.last == 0
    assert drained(outbox) == list(range(600))


@pytest.mark.parametrize("size", [0, 5, len(MAGIC), len(MAGIC) + 4])
def test_a_tail_torn_off_is_told_as_that(folder: Path, size: int) -> None:
    path = folder / "00000003.log"
    path.write_bytes(path.read_bytes()[:size])
    outbox = Outbox(folder)
    found = drained(outbox)
    assert found == list(range(len(found)))
    told = [(d.segment, d.end - d.start, d.tail) for d in outbox.damages.values()]
    assert told == ([(3, 4, True)] if size > len(MAGIC) else [])


def test_damage_is_told_and_all_else_is_sent(folder: Path) -> None:
    path = folder / "00000002.log"
    data = bytearray(path.read_bytes())
    data[5000] ^= 255
    data[9000:9300] = bytes(300)
    path.write_bytes(data)
    outbox = Outbox(folder)
    found = drained(outbox)
    assert found == sorted(found)
    lost = set(range(600)) - set(found)
    assert 2 < len(lost) < 9
    assert [(d.segment, d.tail) for d in outbox.damages.values()] == [(2, False)] * 2


def test_damage_within_a_batch_that_was_cut_leaves_its_other_frames(folder: Path) -> None:
    outbox = Outbox(folder)
    first = outbox.cut()
    assert first
    before = steps(outbox, first)
    path = folder / "00000001.log"
    data = bytearray(path.read_bytes())
    data[first.start + 20] ^= 255
    path.write_bytes(data)
    again = Outbox(folder)
    assert steps(again, first) == before[1:]
    assert [(d.segment, d.start, d.tail) for d in again.damages.values()] == [(1, first.start, False)]


def test_a_server_that_fell_back_behind_what_is_here_is_told_the_gap(folder: Path) -> None:
    outbox = Outbox(folder)
    drained(outbox)
    first = min(n for n in range(1, outbox.last + 1) if outbox.batch(n))
    outbox.check(outbox.last)
    outbox.check(first - 1)
    with pytest.raises(Conflict) as e:
        outbox.check(2)
    assert (e.value.code, f"batches 3 to {first - 1}" in str(e.value)) == ("journal-gap", True)
    with pytest.raises(Conflict) as e:
        outbox.check(outbox.last + 1)
    assert (e.value.code, str(outbox.last) in str(e.value)) == ("journal-gap", True)


def test_a_journal_of_another_version_is_left_alone(folder: Path) -> None:
    path = folder / "00000001.log"
    path.write_bytes(b"loopline journal 2\n" + path.read_bytes()[len(MAGIC) :])
    with pytest.raises(Invalid) as e:
        Outbox(folder).cut()
    assert e.value.code == "bad-journal"


def test_a_target_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "target.json").write_text("[]")
    with pytest.raises(Invalid, match=r"target\.json"):
        _ = Outbox(folder).target


def test_only_what_a_journal_writes_is_removed(folder: Path) -> None:
    (folder / "artifacts").mkdir()
    for name in ("a" * 64, ".writing-0123456789abcdef", "model.bin"):
        (folder / "artifacts" / name).write_text("x")
    (folder / "7.log").write_text("no segment")
    (folder / "notes.sent").write_text("no cuts of a segment")
    (folder / "more").mkdir()
    assert drained(outbox := Outbox(folder)) == list(range(600))
    assert outbox.remove() == ["7.log", "artifacts", "more", "notes.sent"]
    assert [path.name for path in sorted((folder / "artifacts").iterdir())] == ["model.bin"]
    assert not is_journal(folder)
