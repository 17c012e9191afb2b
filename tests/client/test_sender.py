"""Journals on their way: to real servers, which die, lose answers, say no; each point arrives once."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client import channel, connect
from loopline.client.sender import Sender, sync
from loopline.database import metadata
from loopline.errors import Refused, Unavailable
from loopline.tracking import outbox
from loopline.tracking.entries import NUMBERS
from loopline.tracking.ids import ulid
from loopline.tracking.journal import Journal, Target
from loopline.tracking.journal_format import Entry, Points, decode, frame, run_prefix


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    platform = Platform.open(
        workspace=tmp_path / "workspace",
        checkpoints=str(tmp_path / "copies"),
        database=None if database_url.startswith("sqlite") else database_url,
    )
    yield platform
    platform.close()


@pytest.fixture
def server(platform: Platform) -> Iterator[ApiServer]:
    with ApiServer(platform) as server:
        yield server


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.open(tmp_path / "journals")
    yield journal
    journal.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES", (0.01, 0.01, 0.01))


def begin(journal: Journal, name: str = "fit") -> str:
    run = ulid(time.time_ns() // 1_000_000)
    journal.record("run", run, name=name, created=1)
    return run


def log(journal: Journal, run: str, steps: range) -> None:
    for step in steps:
        journal.point(run, "loss", step / 3, step, 1 + step)


def steps(session: Session, run: str) -> list[int]:
    return [point.step for point in session.runs.history(run, "loss")]


def own(platform: Platform) -> Callable[[Target], Session]:
    return lambda target: platform.session(project=target.project)


def test_what_is_logged_arrives_while_it_is_logged(server: ApiServer, platform: Platform, journal: Journal) -> None:
    sender = Sender(journal, lambda: connect(server.url), wake=0.01).start()
    run = begin(journal)
    for part in range(5):
        log(journal, run, range(part * 1000, part * 1000 + 1000))
        assert sender.flush()
        assert steps(platform.session(), run) == list(range(part * 1000 + 1000))
    journal.record("params", run, params={"rate": 0.1})
    journal.record("console", run, text="epoch 1\n", time=1)
    journal.record("finish", run, status="finished", ended=2)
    assert sender.flush()
    sender.stop()
    shown = platform.session().runs.show(run)
    assert (shown.status, shown.params, shown.metrics) == ("finished", {"rate": 0.1}, {"loss": 4999 / 3})
    assert platform.session().runs.console(run).read() == b"epoch 1\n"
    assert not journal.folder.exists()


def test_many_threads_log_while_it_is_sent(server: ApiServer, platform: Platform, journal: Journal) -> None:
    sender = Sender(journal, lambda: connect(server.url), wake=0.001).start()
    runs = [begin(journal, f"fit{n}") for n in range(6)]
    threads = [threading.Thread(target=log, args=(journal, run, range(5000))) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sender.flush()
    sender.stop()
    assert [steps(platform.session(), run) for run in runs] == [list(range(5000))] * 6


def test_a_platform_in_the_same_process_gets_all_at_the_end(platform: Platform, journal: Journal) -> None:
    run = begin(journal)
    log(journal, run, range(100))
    sender = Sender(journal, lambda: Platform.open(platform.settings).session())
    assert sender.flush()
    sender.stop()
    assert steps(platform.session(), run) == list(range(100))
    assert not journal.folder.exists()


def test_nothing_logged_leaves_nothing(server: ApiServer, journal: Journal) -> None:
    sender = Sender(journal, lambda: connect(server.url)).start()
    assert sender.flush()
    sender.stop()
    assert not journal.folder.exists()


def test_a_server_that_is_away_is_never_noticed(
    tmp_path: Path, journal: Journal, platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    run = begin(journal)
    sender = Sender(journal, lambda: connect(url), wake=0.01).start()
    log(journal, run, range(100))
    assert not sender.flush()
    sender.stop()
    assert caplog.messages == []
    (report,) = sync(tmp_path / "journals", own(platform))
    assert (report.state, report.batches, report.waiting) == ("sent", 1, 0)
    assert steps(platform.session(), run) == list(range(100))
    assert sync(tmp_path / "journals", own(platform)) == []
    assert list((tmp_path / "journals").iterdir()) == []


def test_a_refusal_is_told_once_and_all_stays(
    server: ApiServer, journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = begin(journal)
    log(journal, run, range(10))
    sender = Sender(journal, lambda: connect(server.url, token="ll_wrong"), wake=0.01).start()
    assert not sender.flush()
    assert not sender.flush()
    sender.stop()
    assert ["loopline sync" in text for text in caplog.messages] == [True]

    def refused(target: Target) -> Session:
        raise Refused("No.", code="forbidden", hint="Ask.")

    (report,) = sync(tmp_path / "journals", refused)
    assert (report.state, report.code, report.note, report.waiting > 600) == ("kept", "forbidden", "No. Ask.", True)


class Proxy:
    """Passes everything on to a server, and while `deaf` takes its answers to PUT requests and gives none."""

    def __init__(self, url: str) -> None:
        self._to = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.deaf = False
        self.swallowed = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        put = False
        with client, socket.create_connection(self._to) as server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is client:
                        put = put or data.startswith(b"PUT")
                        server.sendall(data)
                    elif put and self.deaf:
                        self.swallowed += 1
                        return
                    else:
                        put = False
                        client.sendall(data)

    def close(self) -> None:
        self._socket.close()


def test_a_batch_whose_answer_was_lost_is_taken_once(server: ApiServer, platform: Platform, journal: Journal) -> None:
    with contextlib.closing(Proxy(server.url)) as proxy:
        sender = Sender(journal, lambda: connect(proxy.url, token=""), wake=0.01).start()
        run = begin(journal)
        for part in range(3):
            log(journal, run, range(part * 100, part * 100 + 50))
            proxy.deaf = True
            assert not sender.flush()
            log(journal, run, range(part * 100 + 50, part * 100 + 100))
            proxy.deaf = False
            assert sender.flush()
            assert proxy.swallowed > part
        sender.stop()
    assert steps(platform.session(), run) == list(range(300))
    with platform.database.begin(lazy=True) as tx:  # its number says it all: no answer is kept besides
        assert tx.scalar(sa.select(sa.func.count()).select_from(metadata.tables["idempotency"])) == 0


def test_artifacts_are_uploaded_after_their_run_and_once(
    server: ApiServer, platform: Platform, journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "x.txt").write_text("content")
    with contextlib.closing(Proxy(server.url)) as proxy:
        sender = Sender(journal, lambda: connect(proxy.url, token=""), wake=0.01).start()
        run = begin(journal)

        def keep(path: str) -> None:
            digest, size = journal.keep_file(tmp_path / "x.txt")
            journal.record("artifact", run, path=path, digest=digest, size=size)

        keep("a/x.txt")
        assert sender.flush()
        assert list((journal.folder / "artifacts").iterdir()) == []
        proxy.deaf = True
        keep("b/x.txt")
        assert not sender.flush()
        keep("c/x.txt")
        proxy.deaf = False
        assert sender.flush()
        assert list((journal.folder / "artifacts").iterdir()) == []
        sender.stop()
    session = platform.session()
    assert [a.path for a in session.runs.artifacts(run)] == ["a/x.txt", "b/x.txt", "c/x.txt"]
    assert session.runs.artifact(run, "c/x.txt").read() == b"content"


def test_artifacts_of_a_dead_process_are_uploaded_and_a_lost_one_is_told(
    platform: Platform, journal: Journal, tmp_path: Path
) -> None:
    run = begin(journal)
    for name in ("x", "y"):
        (tmp_path / name).write_text(name)
        digest, size = journal.keep_file(tmp_path / name)
        journal.record("artifact", run, path=name, digest=digest, size=size)
    (journal.folder / "artifacts" / digest.partition(":")[2]).unlink()
    journal.close()
    (report,) = sync(tmp_path / "journals", own(platform))
    assert (report.state, report.lost) == ("sent", (f"{run}/y",))
    assert [a.path for a in platform.session().runs.artifacts(run)] == ["x"]


# A server that dies


@contextlib.contextmanager
def served(
    workspace: Path, copies: Path, port: int = 0, database: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real `loopline up`; gives its process and its address."""
    command = [sys.executable, "-m", "loopline", "--workspace", str(workspace), "up", "--port", str(port)]
    environment = {**os.environ, "LOOPLINE_CHECKPOINTS": str(copies), "LOOPLINE_DATABASE": database}
    note = workspace / "server.json"
    note.unlink(missing_ok=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            until = time.monotonic() + 60
            while not note.exists():
                assert process.poll() is None
                assert time.monotonic() < until, "it does not begin to serve"
                time.sleep(0.05)
            yield process, json.loads(note.read_bytes())["url"]
        finally:
            process.terminate()


def test_a_server_killed_in_the_midst_loses_nothing(database_url: str, tmp_path: Path, journal: Journal) -> None:
    workspace, copies = tmp_path / "workspace", tmp_path / "copies"
    database = "" if database_url.startswith("sqlite") else database_url
    run = begin(journal)
    logged = threading.Event()

    def train() -> None:
        for part in range(300):
            journal.points(run, [("loss", 0.5, part * 500 + n, 1) for n in range(500)])
            if part == 100:
                logged.set()

    with served(workspace, copies, database=database) as (process, url):
        sender = Sender(journal, lambda: connect(url), wake=0.001).start()
        thread = threading.Thread(target=train)
        thread.start()
        logged.wait()
        process.send_signal(signal.SIGKILL)
        process.wait()
    thread.join()
    assert not sender.flush()
    with served(workspace, copies, int(url.rpartition(":")[2]), database):
        assert sender.flush()
        sender.stop()
    platform = Platform.open(workspace=workspace, checkpoints=str(copies), database=database or None)
    assert steps(platform.session(), run) == list(range(150_000))
    platform.close()


TRAINS = """
import os, sys, time
from pathlib import Path
from loopline.client import connect
from loopline.client.sender import Sender
from loopline.tracking.ids import ulid
from loopline.tracking.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
Sender(journal, lambda: connect(sys.argv[2]), wake=0.001).start()
run = ulid(time.time_ns() // 1_000_000)
journal.record("run", run, name="fit", created=1)
os.write(1, run.encode() + b"\\n")
for step in range(10**9):
    journal.point(run, "loss", step / 3, step, 1 + step)
    os.write(1, b"%d\\n" % step)
"""


@pytest.mark.parametrize("lines", [10, 3000, 12_000])
def test_a_training_killed_while_it_sends_has_each_point_on_the_server_once(
    server: ApiServer, platform: Platform, tmp_path: Path, lines: int
) -> None:
    command = [sys.executable, "-c", TRAINS, str(tmp_path / "journals"), server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        run = process.stdout.readline().decode().strip()
        for _ in range(lines):
            last = process.stdout.readline()
        process.kill()
        last = ([last, *process.stdout.read().split()])[-1]
    (report,) = sync(tmp_path / "journals", own(platform))
    assert (report.state, report.lost) == ("sent", ())
    found, returned = steps(platform.session(), run), int(last)
    assert found in (list(range(returned + 1)), list(range(returned + 2)))


# Many journals


def test_two_syncs_at_once_send_each_journal_once(platform: Platform, tmp_path: Path) -> None:
    runs = []
    for _ in range(6):
        journal = Journal.open(tmp_path / "journals")
        runs.append(begin(journal))
        log(journal, runs[-1], range(200))
        journal.close()
    both = threading.Barrier(2)

    def send(_: int) -> list[str]:
        both.wait()
        return [report.state for report in sync(tmp_path / "journals", own(platform))]

    with ThreadPoolExecutor(2) as pool:
        states = [state for found in pool.map(send, range(2)) for state in found]
    assert states.count("sent") == 6
    assert set(states) <= {"sent", "in use"}
    assert [steps(platform.session(), run) for run in runs] == [list(range(200))] * 6


def test_a_living_journal_is_left_to_its_sender(platform: Platform, journal: Journal, tmp_path: Path) -> None:
    log(journal, begin(journal), range(5))
    assert [report.state for report in sync(tmp_path / "journals", own(platform))] == ["in use"]


def test_a_journal_goes_to_the_project_and_server_it_is_for(platform: Platform, tmp_path: Path) -> None:
    platform.session().projects.create("clinic")
    runs = {}
    for target in (Target("clinic"), Target("default", "https://ml.example.org")):
        journal = Journal.open(tmp_path / "journals", target=target)
        runs[target] = begin(journal)
        log(journal, runs[target], range(3))
        journal.close()
    reports = sync(
        tmp_path / "journals", lambda target: None if target.server else platform.session(project=target.project)
    )
    assert [(r.state, r.project, r.server) for r in reports] == [
        ("sent", "clinic", ""),
        ("elsewhere", "default", "https://ml.example.org"),
    ]
    assert steps(platform.session(project="clinic"), runs[Target("clinic")]) == [0, 1, 2]


def test_what_a_fork_logged_waits_for_its_run(platform: Platform, journal: Journal, tmp_path: Path) -> None:
    run = begin(journal)
    child = os.fork()
    if child == 0:
        log(journal, run, range(100, 105))
        os._exit(0)
    os.waitpid(child, 0)
    log(journal, run, range(5))
    first = sync(tmp_path / "journals", own(platform))
    assert [(r.state, r.code) for r in first] == [("in use", ""), ("kept", "run-awaited")]
    journal.close()
    assert [r.state for r in sync(tmp_path / "journals", own(platform))] == ["sent", "sent"]
    assert steps(platform.session(), run) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_a_forks_sender_sends_its_own_journal(server: ApiServer, platform: Platform, journal: Journal) -> None:
    sender = Sender(journal, lambda: connect(server.url), wake=0.01).start()
    run = begin(journal)
    log(journal, run, range(5))
    assert sender.flush()
    for logs in (True, False):
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                if logs:
                    log(journal, run, range(100, 105))
                code = 0 if sender.flush() else 2
                sender.stop()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log(journal, run, range(5, 10))
    assert sender.flush()
    sender.stop()
    assert steps(platform.session(), run) == [*range(10), *range(100, 105)]


def test_a_gap_is_told_and_the_next_journal_sent(platform: Platform, tmp_path: Path) -> None:
    first = Journal.open(tmp_path / "journals", quota=1 << 20)  # segments of 64 KiB
    sender = Sender(first, lambda: Platform.open(platform.settings).session())
    run = begin(first)
    for part in range(30):
        log(first, run, range(part * 100, part * 100 + 100))
        assert sender.flush()
    assert not (first.folder / "00000001.log").exists()
    log(first, run, range(3000, 3100))
    second = Journal.open(tmp_path / "journals")
    other = begin(second)
    log(second, other, range(3))
    first.close()
    second.close()
    older = Platform.open(workspace=tmp_path / "older", checkpoints=str(tmp_path / "copies"))  # a backup of before
    reports = sync(tmp_path / "journals", own(older))
    assert [(r.state, r.code) for r in reports] == [("kept", "journal-gap"), ("sent", "")]
    assert "up to batch 0; batches 1 to " in reports[0].note
    assert reports[0].waiting > 6000
    assert steps(older.session(), other) == [0, 1, 2]
    older.close()
    copy = tmp_path / "copied"
    shutil.copytree(tmp_path / "journals", copy)
    behind = Platform.open(workspace=tmp_path / "behind", checkpoints=str(tmp_path / "copies"))
    (report,) = sync(copy, own(behind), skip_gap=True)
    assert (report.state, report.skipped.startswith("batches 1 to "), report.code) == ("sent", True, "")
    kept = behind.session().runs.show(run)
    assert (kept.tags, kept.name) == ({"journal.skipped": report.skipped}, f"beginning lost ({run[-6:]})")
    assert steps(behind.session(), run)[-101:-1][-1] == 3098
    entries = [e for e in behind.session().ledger.entries(limit=1000) if e.operation == "runs.skip_batches"]
    assert [(e.count, list(e.digests)) for e in entries] == [(int(report.skipped.split()[-1]), ["skipped"])]
    behind.close()
    (report,) = sync(tmp_path / "journals", own(platform))
    assert report.state == "sent"
    assert steps(platform.session(), run) == list(range(3100))


def test_folders_that_are_no_journals_are_left_alone(platform: Platform, tmp_path: Path) -> None:
    """Whatever has a file named `lock` in it: only a ULID's folder with an empty one is a journal's."""
    journals = tmp_path / "journals"
    others = [journals / "data", journals / ulid(1)]
    for other in others:
        (other / "artifacts").mkdir(parents=True)
        (other / "model.bin").write_text("x")
        (other / "lock").write_text("" if other.name == "data" else "1234\n")
    begun = journals / ulid(2)
    begun.mkdir()
    (begun / "lock").touch()
    mixed = journals / ulid(3)
    mixed.mkdir()
    (mixed / "lock").touch()
    (mixed / "mine.txt").write_text("x")
    (report,) = sync(journals, own(platform))
    assert (report.sender, "mine.txt" in report.note) == (mixed.name, True)
    assert not begun.exists()
    assert [path.name for path in mixed.iterdir()] == ["mine.txt"]
    for other in others:
        assert sorted(path.name for path in other.iterdir()) == ["artifacts", "lock", "model.bin"]


def unchecked(journal: Journal, kind: str, run: str, **fields: Any) -> None:
    """Logs what this version refuses to log."""
    journal._append(frame(NUMBERS[kind], run_prefix(run) + json.dumps(fields).encode()))


def test_what_a_server_refuses_is_set_aside_on_request_and_all_else_arrives(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH", 1000)
    (tmp_path / "x.txt").write_text("content")
    journal = Journal.open(tmp_path / "journals")
    run = begin(journal)
    log(journal, run, range(100))
    unchecked(journal, "note", run, text=["no", "text"])
    digest, size = journal.keep_file(tmp_path / "x.txt")
    journal.record("artifact", run, path="x.txt", digest=digest, size=size)
    journal.record("link", run, inputs=["no ref at all"])
    log(journal, run, range(100, 200))
    unchecked(journal, "finish", run, status="FINISHED", ended=2)
    journal.record("tags", run, tags={"last": "yes"})
    journal.close()
    (kept,) = sync(tmp_path / "journals", own(platform))
    assert (kept.state, kept.code, "--set-aside" in kept.note) == ("kept", "batch-refused", True)
    assert kept.waiting > 0
    (report,) = sync(tmp_path / "journals", own(platform), set_aside=True)
    assert (report.state, len(report.refused), "refused" in report.note) == ("sent", 2, True)
    session = platform.session()
    arrived = steps(session, run)
    assert (arrived[0], arrived[-1]) == (0, 199)
    shown = session.runs.show(run)
    assert (shown.status, shown.tags) == ("killed", {"last": "yes"})  # of a journal that never said how it ended
    held = journal.folder / "refused"
    batches = sorted((path for path in held.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    aside = [one for path in batches for one in decode(path.read_bytes())]
    assert [one.kind for one in aside if isinstance(one, Entry) and one.kind != "artifact"] == [
        "note",
        "link",
        "finish",
    ]
    assert sorted(arrived + [step for one in aside if isinstance(one, Points) for step in one.steps]) == list(
        range(200)
    )
    assert session.runs.artifact(run, "x.txt").read() == b"content"
    assert sync(tmp_path / "journals", own(platform)) == []


def test_one_server_that_is_away_is_asked_once(tmp_path: Path) -> None:
    for _ in range(3):
        journal = Journal.open(tmp_path / "journals")
        log(journal, begin(journal), range(3))
        journal.close()
    asked: list[Target] = []

    def away(target: Target) -> Session:
        asked.append(target)
        raise Unavailable("It does not answer.", code="server-away")

    assert [r.code for r in sync(tmp_path / "journals", away)] == ["server-away"] * 3
    assert len(asked) == 1


# At the command line, and when a server starts


def test_the_command_sends_and_shows(tmp_path: Path, journal: Journal) -> None:
    run = begin(journal)
    log(journal, run, range(10))
    journal.close()
    data = (journal.folder / "00000001.log").read_bytes()
    (journal.folder / "00000001.log").write_bytes(data[:-1])
    environment = {**os.environ, "LOOPLINE_CHECKPOINTS": str(tmp_path / "copies")}
    command = [sys.executable, "-m", "loopline", "--workspace", str(tmp_path / "workspace")]

    def ask(*line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *line], env=environment, capture_output=True, text=True)

    away = ask("sync", str(tmp_path / "journals"), "--server", "http://127.0.0.1:1", "--json")
    assert (away.returncode, json.loads(away.stdout)[0]["code"]) == (4, "server-away")
    done = ask("sync", str(tmp_path / "journals"))
    assert done.returncode == 0, done.stderr
    assert "sent" in done.stdout
    assert "ended while it wrote this" in done.stderr
    history = json.loads(ask("runs", "history", run, "loss", "--json").stdout)
    assert [point["step"] for point in history] == list(range(9))
    assert "Nothing waits" in ask("sync").stderr


def test_a_server_takes_what_waits_for_its_workspace_when_it_starts(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "workspace" / "journals")
    run = begin(journal)
    log(journal, run, range(10))
    journal.close()
    with served(tmp_path / "workspace", tmp_path / "copies") as (_, url), connect(url) as session:
        until = time.monotonic() + 60
        while journal.folder.exists():
            assert time.monotonic() < until, "it does not take the journal"
            time.sleep(0.05)
        assert steps(session, run) == list(range(10))
