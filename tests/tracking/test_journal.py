"""The journal: what a call that returned has written, however the process ends, and what happens where there is no room."""

from __future__ import annotations

import math
import os
import signal
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from loopline import failpoints
from loopline.errors import Invalid, LooplineError, NotFound, Unavailable
from loopline.hashing import digest_bytes
from loopline.tracking.entries import ENDINGS, RUN_KINDS
from loopline.tracking.journal import Journal, Target
from loopline.tracking.journal_format import MAGIC, Entry, Points, decode, spans
from loopline.tracking.journal_lock import claimed
from loopline.tracking.outbox import Outbox
from loopline.tracking.records import Ending, RunKind

RUN = "01K00000000000000000000000"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def read(folder: Path) -> tuple[list[Entry | Points], int]:
    """What a journal says, and how many bytes of it are no frame."""
    found, damaged = [], 0
    for path in sorted(folder.glob("*.log")):
        data = path.read_bytes()
        assert data.startswith(MAGIC[: len(data)])
        some = list(spans(data, len(MAGIC)))
        found += decode(b"\0" + b"".join(data[s.start : s.end] for s in some if s.kind))
        damaged += sum(s.end - s.start for s in some if not s.kind)
    return found, damaged


def steps(folder: Path) -> list[int]:
    return [step for one in read(folder)[0] if isinstance(one, Points) for step in one.steps]


def test_what_was_logged_is_in_the_file(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journals", target=Target("clinic", "https://ml.example.org"))
    said = {"name": "fit", "created": 1, "kind": "trial"}
    journal.record("run", RUN, **said, params={"rate": math.inf, "of": [1, None, True]})
    journal.point(RUN, "loss", 0.5, 1, 1000)
    journal.points(RUN, [("loss", math.nan, 2, 2000), ("größe", 1, -5, 0)])
    journal.record("finish", RUN, status="finished", ended=2)
    begun, points, ended = read(journal.folder)[0]
    assert begun == Entry("run", RUN, {**said, "params": {"rate": "Infinity", "of": [1, None, True]}})
    assert isinstance(points, Points)
    assert (points.keys, list(points.index), list(points.steps)) == (["loss", "größe"], [0, 0, 1], [1, 2, -5])
    assert (list(points.times), points.values[0], math.isnan(points.values[1])) == ([1000, 2000, 0], 0.5, True)
    assert ended == Entry("finish", RUN, {"status": "finished", "ended": 2})
    assert Outbox(journal.folder).target == Target("clinic", "https://ml.example.org")
    journal.close()


def test_a_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journals")
    (tmp_path / "x").write_bytes(b"x")
    journal.keep_file(tmp_path / "x")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in journal.folder.rglob("*") if path.is_file()}
    folders = (tmp_path / "journals", journal.folder, journal.folder / "artifacts")
    assert (modes, {stat.S_IMODE(path.stat().st_mode) for path in folders}) == ({0o600}, {0o700})
    journal.close()


def test_importing_the_journal_loads_the_standard_library_alone() -> None:
    program = (
        "import sys; before = {m.partition('.')[0] for m in sys.modules}; import loopline.tracking.outbox\n"
        "new = {m.partition('.')[0] for m in sys.modules} - before - set(sys.stdlib_module_names)\n"
        "assert new == {'loopline'}, new"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("point", "code"),
    [
        (("", 1.0, 1, 1), "bad-key"),
        (("x" * 251, 1.0, 1, 1), "bad-key"),
        (("a/../b", 1.0, 1, 1), "bad-key"),
        (("a\0", 1.0, 1, 1), "bad-key"),
        (("\ud800", 1.0, 1, 1), "bad-key"),
        ((math.nan, 1.0, 1, 1), "bad-key"),
        ((None, 1.0, 1, 1), "bad-key"),
        (("loss", "0.5", 1, 1), "bad-point"),
        (("loss", None, 1, 1), "bad-point"),
        (("loss", 10**400, 1, 1), "bad-point"),
        (("loss", 1.0, 2**63, 1), "bad-point"),
        (("loss", 1.0, 0.5, 1), "bad-point"),
        (("loss", 1.0, 1, -1), "bad-point"),
        (("loss", 1.0, 1, 2**63), "bad-point"),
        (("loss", 1.0, 1, None), "bad-point"),
    ],
)
def test_a_bad_point_is_refused_and_all_that_came_with_it(tmp_path: Path, point: Any, code: str) -> None:
    journal = Journal.open(tmp_path)
    for log in (lambda: journal.point(RUN, *point), lambda: journal.points(RUN, [("good", 1.0, 1, 1), point])):
        with pytest.raises(Invalid) as e:
            log()
        assert e.value.code == code
    assert read(journal.folder) == ([], 0)
    journal.close()


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("points", {}, "bad-value"),
        ("nonsense", {}, "bad-value"),
        ("params", {"params": {"x": object()}}, "bad-value"),
        ("params", {"params": {"x": 2**53 + 1}}, "bad-value"),
        ("params", {"params": {"x": "\ud800"}}, "bad-value"),
        ("params", {"params": {"a/../b": 1}}, "bad-key"),
        ("params", {"params": {"x": "y" * 10_000_000}}, "too-long"),
        ("params", {"params": {str(n): n for n in range(100_000)}}, "bad-batch"),
        ("params", {"params": {str(n): "x" * 60_000 for n in range(100)}}, "too-long"),
        ("note", {"text": "x" * 64_001}, "too-long"),
        ("artifact", {"path": "../x", "digest": "", "size": 0}, "bad-path"),
        ("artifact", {"path": "/".join(["語" * 80] * 6), "digest": "", "size": 0}, "bad-path"),
        ("artifact", {"path": "x", "digest": "", "size": -1}, "bad-value"),
        ("note", {"text": ["a"]}, "bad-value"),
        ("note", {}, "bad-value"),
        ("note", {"text": "a", "more": "b"}, "bad-value"),
        ("params", {"params": [1]}, "bad-value"),
        ("params", {"params": {}, "reason": 1}, "bad-value"),
        ("tags", {"tags": {"x": 1}}, "bad-value"),
        ("tags", {"tags": {"x": "a\0"}}, "bad-value"),
        ("link", {"inputs": "data:x@1"}, "bad-value"),
        ("console", {"text": "x", "time": -1}, "bad-value"),
        ("run", {"name": "x", "created": True}, "bad-value"),
        ("run", {"name": "", "created": 1}, "bad-key"),
        ("run", {"name": "x", "created": 1, "kind": "sweep"}, "bad-value"),
        ("run", {"name": "x", "created": 1, "parent": 1}, "bad-value"),
        ("finish", {"status": "FINISHED", "ended": 1}, "bad-value"),
        ("finish", {"status": None, "ended": 1}, "bad-value"),
        ("finish", {"status": "failed", "message": None, "ended": 1}, "bad-value"),
        ("finish", {"status": "failed", "ended": -1}, "bad-value"),
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, kind: str, fields: dict[str, Any], code: str) -> None:
    journal = Journal.open(tmp_path)
    with pytest.raises(Invalid) as e:
        journal.record(kind, RUN, **fields)
    assert e.value.code == code
    assert read(journal.folder) == ([], 0)
    journal.close()


def test_what_has_no_utf_8_form_is_escaped_in_what_people_say(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.record("finish", RUN, status="failed", ended=1, message="no \udcff\0")
    ((entry,), _) = read(journal.folder)
    assert isinstance(entry, Entry)
    assert entry.fields["message"] == "no \\udcff\ufffd"
    journal.close()


def test_a_full_journal_has_room_to_say_how_a_run_ended(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, quota=200_000)
    with pytest.warns(RuntimeWarning), pytest.raises(Unavailable):
        fill(journal)
    for _ in range(10):
        journal.record("finish", RUN, status="failed", ended=1, message="x" * 400)
        with pytest.raises(Unavailable):
            journal.point(RUN, "loss", 0.5, 1, 1)
    assert [one.kind for one in read(journal.folder)[0] if isinstance(one, Entry)] == ["finish"] * 10
    assert sum(path.stat().st_size for path in journal.folder.iterdir()) <= 200_000
    journal.close()


def test_endings_and_kinds_are_those_of_records() -> None:
    assert (get_args(Ending), get_args(RunKind)) == (ENDINGS, RUN_KINDS)


def test_an_ending_that_is_none_is_told_the_one_meant(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    with pytest.raises(Invalid, match="Did you mean 'finished'"):
        journal.record("finish", RUN, status="FINISHED", ended=1)
    journal.close()


def test_segments_follow_each_other(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, quota=1 << 20)  # segments of 64 KiB
    for step in range(3000):
        journal.point(RUN, "loss", step / 3, step, 1)
    journal.close()
    sizes = [path.stat().st_size for path in sorted(journal.folder.glob("*.log"))]
    assert len(sizes) == 4
    assert max(sizes) <= 64 << 10
    assert steps(journal.folder) == list(range(3000))


def test_threads_share_a_journal(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, quota=4 << 20)

    def log(n: int) -> None:
        for step in range(2000):
            journal.point(RUN, f"loss{n}", 0.5, step, 1)

    threads = [threading.Thread(target=log, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found, damaged = read(journal.folder)
    by_key: dict[str, list[int]] = {}
    for one in found:
        assert isinstance(one, Points)
        for place, step in zip(one.index, one.steps, strict=True):
            by_key.setdefault(one.keys[place], []).append(step)
    assert by_key == {f"loss{n}": list(range(2000)) for n in range(8)}
    assert damaged == 0


def test_a_signals_handler_may_log_in_the_midst_of_a_call(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, quota=1 << 20)
    handled: list[int] = []

    def handle(*_: object) -> None:
        journal.point(RUN, "signals", 1.0, len(handled), 1)
        handled.append(1)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        step = 0
        while len(handled) < 50 or step < 3000:
            if step < 6000:
                journal.point(RUN, "loss", 1.0, step, 1)
                step += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    journal.close()
    found, damaged = read(journal.folder)
    assert (sum(len(one.steps) for one in found if isinstance(one, Points)), damaged) == (step + len(handled), 0)


# However the process ends

LOGS = """
import os, sys
from pathlib import Path
from loopline.tracking.journal import Journal
journal = Journal.open(Path(sys.argv[1]), quota=64 << 20)
for step in range(10**9):
    journal.point("01K00000000000000000000000", "loss", step / 3, step, 1)
    os.write(1, b"%d\\n" % step)  # the call has returned
    if step == int(sys.argv[2]):
        os._exit(7)
"""


def test_what_was_logged_outlives_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", LOGS, str(tmp_path), "-1"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        for _ in range(20_000):
            process.stdout.readline()
        process.kill()
        rest = process.stdout.read().split()
    returned = int(rest[-1]) if rest else 19_999
    (folder,) = tmp_path.iterdir()
    found = steps(folder)
    assert found in (
        list(range(returned + 1)),
        list(range(returned + 2)),
    )  # the kill may come before the line is written


def test_what_was_logged_outlives_an_exit_without_goodbye(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOGS, str(tmp_path), "123"], stdout=subprocess.DEVNULL)
    (folder,) = tmp_path.iterdir()
    assert (done.returncode, steps(folder)) == (7, list(range(124)))
    with claimed(folder) as ours:
        assert ours


def test_a_fork_writes_a_journal_of_its_own(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.point(RUN, "loss", 0.5, 0, 1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        journal.point(RUN, "loss", 0.5, 100, 1)
        journal.point(RUN, "loss", 0.5, 101, 1)
        os.write(writer, journal.sender.encode())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    other = os.read(reader, 26).decode()
    journal.point(RUN, "loss", 0.5, 1, 1)
    assert (steps(journal.folder), steps(tmp_path / other)) == ([0, 1], [100, 101])
    with claimed(journal.folder) as parents, claimed(tmp_path / other) as childs:
        assert (parents, childs) == (False, True)
    journal.close()


def test_a_fork_that_lives_on_does_not_hold_its_parents_journal(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom loopline.tracking.journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1]))\n"
        "if os.fork() == 0:\n    os.write(1, b'forked')\n    sys.stdin.read()\n    os._exit(0)\nos._exit(0)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(6) == b"forked"
        process.wait()
        (folder,) = tmp_path.iterdir()
        with claimed(folder) as ours:
            assert ours


def test_a_living_journal_cannot_be_claimed_nor_one_twice(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    with claimed(journal.folder) as ours:
        assert not ours
    journal.close()
    with claimed(journal.folder) as first, claimed(journal.folder) as second:
        assert (first, second) == (True, False)


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(Invalid) as e:
        journal.point(RUN, "loss", 0.5, 1, 1)
    assert e.value.code == "journal-closed"


# No room


def fill(journal: Journal) -> None:
    for step in range(100_000):
        journal.point(RUN, "loss", 0.5, step, 1)


def test_the_quota_warns_once_then_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, quota=200_000)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(Unavailable) as e:
            fill(journal)
    assert [("loopline sync" in str(w.message), w.category) for w in said] == [(True, RuntimeWarning)]
    assert (e.value.code, "LOOPLINE_JOURNAL_QUOTA" in e.value.hint) == ("journal-full", True)
    full = steps(journal.folder)
    assert full == list(range(len(full)))
    assert 190_000 < sum(path.stat().st_size for path in journal.folder.iterdir()) <= 200_000
    with pytest.raises(Unavailable):
        journal.points(RUN, [("loss", 0.5, step, 1) for step in range(100)])
    with pytest.raises(Unavailable):
        Journal.open(tmp_path, quota=200_000).point(RUN, "loss", 0.5, 1, 1)  # all journals of a workspace share it
    outbox = Outbox(journal.folder)
    while batch := outbox.cut(journal.written()):
        outbox.settle(batch.number)
    journal.point(RUN, "loss", 0.5, -1, 1)
    assert steps(journal.folder)[-1] == -1
    journal.close()


def test_a_file_counts_before_it_is_copied(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journals", quota=100_000)
    (tmp_path / "large").write_bytes(bytes(100_000))
    with pytest.raises(Unavailable) as e:
        journal.keep_file(tmp_path / "large")
    assert e.value.code == "journal-full"
    assert not (journal.folder / "artifacts").exists()
    journal.close()


@pytest.mark.parametrize(("number", "code"), [("ENOSPC", "disk-full"), ("EIO", "disk-failing")])
def test_a_disk_that_takes_nothing_is_told_and_logging_goes_on_after_it(tmp_path: Path, number: str, code: str) -> None:
    journal = Journal.open(tmp_path)
    journal.point(RUN, "loss", 0.5, 1, 1)
    failpoints.arm(f"tracking.journal.write={number}")
    with pytest.raises(LooplineError) as e:
        journal.point(RUN, "loss", 0.5, 2, 1)
    assert e.value.code == code
    journal.point(RUN, "loss", 0.5, 3, 1)
    assert (steps(journal.folder), read(journal.folder)[1]) == ([1, 3], 0)
    failpoints.arm("tracking.keep_file.write=ENOSPC")
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(Unavailable):
        journal.keep_file(tmp_path / "x")
    assert list((journal.folder / "artifacts").iterdir()) == []
    journal.close()


def test_a_write_that_the_disk_takes_in_part_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom loopline.tracking.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal.open(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "done = 0\n"
        "try:\n"
        "    while True:\n"
        "        journal.point('01K00000000000000000000000', 'loss', 0.5, done, 1)\n"
        "        done += 1\n"
        "except OSError:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    journal.point('01K00000000000000000000000', 'loss', 0.5, done, 1)\n"
        "print(done)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    (folder,) = tmp_path.iterdir()
    found, damaged = steps(folder), read(folder)[1]
    assert (found, damaged) == (list(range(int(done.stdout) + 1)), 0)
    assert len(found) > 5


# Files put aside


def test_a_file_is_put_aside_once_and_goes_with_the_last_that_needs_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journals")
    (tmp_path / "x").write_bytes(b"content" * 1000)
    digest, size = journal.keep_file(tmp_path / "x")
    assert (digest, size) == (digest_bytes(b"content" * 1000), 7000)
    assert journal.keep_file(tmp_path / "x") == (digest, size)
    (aside,) = (journal.folder / "artifacts").iterdir()
    assert aside.read_bytes() == b"content" * 1000
    journal.let_go(digest)
    assert aside.exists()
    journal.let_go(digest)
    assert not aside.exists()
    with pytest.raises(NotFound):
        journal.keep_file(tmp_path / "missing")
    journal.close()
