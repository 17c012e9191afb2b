"""`ll.run` and `ll.log` in real programs, read again through a platform on the workspace that they logged to."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopline as ll
from loopline import failpoints
from loopline.api.up import Service
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client.run import active
from loopline.client.sender import sync as send
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.operations import Body
from loopline.settings import load
from loopline.tracking.journal_format import KINDS, frame, pack, run_prefix
from loopline.tracking.records import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that this program and those it starts are in, with a workspace of its own to come."""
    for name in [name for name in os.environ if name.startswith("LOOPLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Iterator[Callable[[], Session]]:
    """What stands in the workspace."""
    opened: list[Platform] = []

    def session() -> Session:
        opened.append(Platform.open(workspace=folder / ".loopline"))
        return opened[-1].session()

    yield session
    for platform in opened:
        platform.close()


def program(folder: Path, text: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a script of its own to its end."""
    (folder / "train.py").write_text("import loopline as ll\n" + text)
    return subprocess.run(
        [sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, timeout=120, check=False, **more
    )


def sync(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "loopline", "sync"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def only(session: Session, **which: Any) -> Run:
    (found,) = session.runs.list(**which).runs
    return found


def steps(session: Session, run: Run, key: str) -> list[tuple[int, float]]:
    return [(p.step, p.number) for p in session.runs.history(run.id, key)]


def test_a_run_keeps_all_that_is_logged(folder: Path, read: Callable[[], Session]) -> None:
    (folder / "plots" / "deep").mkdir(parents=True)
    (folder / "plots" / "roc.txt").write_text("roc")
    (folder / "plots" / "deep" / "more.txt").write_text("more")
    with ll.run("fit", params={"rate": 0.1}, tags={"by": "hand"}, inputs=("data:visits@7",), console=False) as run:
        assert active() is run
        run.log(loss=0.31, step=4)
        run.log({"train/loss": np.float32(0.5), "odd": math.nan}, auc=np.array(0.7))
        run.log(odd=-math.inf)
        run.params({"leaves": np.int64(31)}, names=["a", Path("b")], missing=math.nan, kind=None)
        run.tag({"team": "a"}, by=None)
        run.note("It *works*.")
        run.input("data:patients@1")
        run.output("model:readmission@1")
        run.artifact("plots/roc.txt")
        run.artifact("plots", "all")
    assert active() is None
    session = read()
    kept = only(session)
    assert (kept.id, kept.ref, kept.name, kept.kind, kept.status) == (run.id, run.ref, "fit", "run", "finished")
    assert kept.params == {"rate": 0.1, "leaves": 31, "names": ["a", "b"], "missing": "NaN", "kind": None}
    assert kept.tags == {"team": "a"}
    assert kept.note == "It *works*."
    assert kept.inputs == ("data:visits@7", "data:patients@1")
    assert kept.outputs == ("model:readmission@1",)
    assert {k: v for k, v in kept.metrics.items() if not k.startswith("system/")} == {
        "loss": 0.31,
        "train/loss": 0.5,
        "odd": "-Infinity",
        "auc": 0.7,
    }
    assert [a.path for a in session.runs.artifacts(kept.id)] == ["all/deep/more.txt", "all/roc.txt", "roc.txt"]
    assert session.runs.artifact(kept.id, "all/deep/more.txt").read() == b"more"
    assert kept.environment["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_metric_without_a_step_counts_by_itself(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("count", console=False, system=None) as run:
        for value in (1.0, 2.0):
            run.log(loss=value)
        run.log(loss=3.0, other=1.0, step=np.int64(10))
        run.log(loss=4.0)
        ll.log(other=2.0)
    session = read()
    assert steps(session, only(session), "loss") == [(0, 1.0), (1, 2.0), (10, 3.0), (11, 4.0)]
    assert steps(session, only(session), "other") == [(10, 1.0), (11, 2.0)]


def test_threads_log_to_one_run_and_lose_nothing(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("threads", console=False, system=None):
        threads = [threading.Thread(target=lambda: [ll.log(loss=1.0) for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    session = read()
    assert [step for step, _ in steps(session, only(session), "loss")] == list(range(4000))


def test_a_run_is_in_the_group_that_it_names_and_its_children_too(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("first", group="churn") as run, run.child("fold"), ll.run("other", group="else"):
        pass
    with ll.run("second", group="churn"):
        pass
    with ll.run("none"):
        pass
    session = read()
    names = {group.number: group.name for group in session.groups.list().groups}
    found = {found.name: names[found.group] for found in session.runs.list().runs}
    assert found == {"first": "churn", "fold": "churn", "other": "else", "second": "churn", "none": "Default"}
    with pytest.raises(Invalid):
        ll.run("third", group="a\nb")


def test_a_file_of_a_run_that_was_removed_for_good_blocks_nothing(folder: Path, read: Callable[[], Session]) -> None:
    (folder / "file").write_text("content")
    made = program(
        folder,
        """
        import os
        run = ll.run("gone")
        run.artifact("file")
        ll.run("kept").log(loss=1.0)
        print(run.id, flush=True)
        os._exit(1)
        """.replace("        ", ""),
    )
    gone = made.stdout.strip()
    session = read()
    session.runs.send(
        "0" * 26, 1, Body(pack(frame(KINDS.index("run") + 1, run_prefix(gone) + b'{"name":"a","created":1}')))
    )
    session.runs.delete(gone)
    session.runs.purge((gone,))
    sync(folder)
    assert not list((folder / ".loopline" / "journals").glob("*/*"))
    assert [run.name for run in session.runs.list(lifecycle="all").runs] == ["kept"]


def test_runs_within_runs_are_children(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("cross-validation", console=False, system=None) as above:
        with above.child("fold 1") as fold:
            ll.log(score=1.0)
            with ll.run("deeper"):
                ll.log(score=2.0)
        with ll.run("fold 2", params={"fold": 2}):
            ll.log(score=3.0)
        ll.log(score=4.0)
    session = read()
    found = {run.name: run for run in session.runs.list().runs}
    assert {name: run.parent for name, run in found.items()} == {
        "cross-validation": None,
        "fold 1": above.id,
        "deeper": fold.id,
        "fold 2": above.id,
    }
    assert {name: run.metrics["score"] for name, run in found.items()} == {
        "cross-validation": 4.0,
        "fold 1": 1.0,
        "deeper": 2.0,
        "fold 2": 3.0,
    }
    assert {run.status for run in found.values()} == {"finished"}


def test_threads_have_runs_of_their_own(folder: Path, read: Callable[[], Session]) -> None:
    both = threading.Barrier(2)

    def train(name: str) -> None:
        with ll.run(name, console=False, system=None):
            both.wait(30)
            ll.log(value=float(name))
            both.wait(30)

    threads = [threading.Thread(target=train, args=(name,)) for name in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read().runs.list().runs
    assert {(run.name, run.parent, run.metrics["value"]) for run in found} == {("1", None, 1.0), ("2", None, 2.0)}


def test_a_param_has_one_value_and_can_be_corrected(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("params", params={"rate": 0.1}, console=False, system=None) as run:
        run.params(rate=np.float64(0.1), depth=3)
        with pytest.raises(Conflict, match=r"'rate' .* 0\.1 already, and not 0\.2.*correct") as told:
            run.params(rate=0.2, new=1)
        assert told.value.code == "param-set"
        run.params(depth=3.0)
        run.correct({"rate": 0.2}, "a slip of the pen")
        run.params(rate=0.2)
    session = read()
    assert only(session).params == {"rate": 0.2, "depth": 3}
    (correction,) = session.runs.corrections(run.id)
    assert (correction.key, correction.value, correction.reason) == ("rate", 0.1, "a slip of the pen")


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        (lambda run: run.log({"": 1.0}), Invalid, "bad-key"),
        (lambda run: run.log({3: 1.0}), Invalid, "bad-key"),
        (lambda run: run.log({"good": 1.0, "../bad": 1.0}), Invalid, "bad-key"),
        (lambda run: run.log(good=1.0, bad="0.3"), Invalid, "bad-point"),
        (lambda run: run.log(good=1.0, bad=None), Invalid, "bad-point"),
        (lambda run: run.log(good=1.0, bad=np.zeros(2)), Invalid, "bad-point"),
        (lambda run: run.log(good=1.0, bad=10**400), Invalid, "bad-point"),
        (lambda run: run.log(good=1.0, step=2**63), Invalid, "bad-point"),
        (lambda run: run.log(good=1.0, step=0.5), Invalid, "bad-point"),
        (lambda run: run.params(good=1, big=2**60), Invalid, "bad-value"),
        (lambda run: run.params(good=1, long="x" * 64_001), Invalid, "too-long"),
        (lambda run: run.params({"good": 1, "a\0b": 1}), Invalid, "bad-key"),
        (lambda run: run.tag(good="x", long="x" * 64_001), Invalid, "too-long"),
        (lambda run: run.note("x" * 64_001), Invalid, "too-long"),
        (lambda run: run.note(["a", "b"]), Invalid, "bad-value"),
        (lambda run: run.tag(good="x", bad="a\0b"), Invalid, "bad-value"),
        (lambda run: run.correct({"rate": 1}, " "), Invalid, "bad-arguments"),
        (lambda run: run.finish("FINISHED"), Invalid, "bad-value"),
        (lambda run: run.finish("done"), Invalid, "bad-value"),
        (lambda run: run.finish(None), Invalid, "bad-value"),
        (lambda run: run.finish("failed", 3), Invalid, "bad-value"),
        (lambda run: run.input("nothing like a ref"), Invalid, "bad-ref"),
        (lambda run: run.artifact("nowhere.txt"), NotFound, "no-file"),
        (lambda run: run.artifact("train.py", "../train.py"), Invalid, "bad-path"),
        (lambda run: run.artifact(None), Invalid, "bad-arguments"),
        (lambda run: run.artifact("a\0b"), Invalid, "bad-arguments"),
        (lambda run: run.artifact("train.py", 3), Invalid, "bad-arguments"),
        (lambda run: run.note(None), Invalid, "bad-value"),
        (lambda run: run.correct({"rate": 1}, None), Invalid, "bad-value"),
        (lambda run: run.input(None), Invalid, "bad-ref"),
        (lambda run: run.output(Path("model:a@1")), Invalid, "bad-ref"),
        (lambda run: run.artifact("train.py", "/".join(["語" * 80] * 6)), Invalid, "bad-path"),
        (lambda run: run.child(" "), Invalid, "bad-key"),
        (lambda run: run.child(3), Invalid, "bad-value"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(
    folder: Path, read: Callable[[], Session], call: Callable[[Any], Any], error: type[LooplineError], code: str
) -> None:
    (folder / "train.py").write_text("")
    with ll.run("bad", console=False, system=None) as run:
        with pytest.raises(error) as told:
            call(run)
        run.log(after=1.0)
    assert told.value.code == code
    session = read()
    kept = only(session)
    assert (kept.params, kept.tags, kept.metrics, kept.note) == ({}, {}, {"after": 1.0}, "")
    assert session.runs.artifacts(kept.id) == ()


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a\0b"},
        {"params": {"a": 2**60}},
        {"tags": {"": "x"}},
        {"inputs": ("what",)},
        {"system": 0},
        {"project": "../x"},
    ],
)
def test_a_run_that_cannot_be_is_not_begun(folder: Path, given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ll.run(**{"name": "bad", **given})
    assert active() is None
    assert not (folder / ".loopline" / "journals").exists()


def test_a_run_that_has_ended_takes_nothing(folder: Path) -> None:
    run = ll.run("short", console=False, system=None)
    run.finish()
    run.finish("failed")
    for call in (lambda: run.log(a=1.0), lambda: run.params(a=1), lambda: run.child("b"), lambda: run.note("c")):
        with pytest.raises(Conflict) as told:
            call()
        assert told.value.code == "run-ended"


EXIT = ("raise SystemExit(3)", "failed", "SystemExit: 3")  # without a block the interpreter tells nobody of it
ENDS = [
    ("raise ValueError('no luck')", "failed", "ValueError: no luck"),
    ("raise AssertionError", "failed", "AssertionError"),
    ("raise SystemExit(0)", "finished", ""),
    ("raise KeyboardInterrupt", "killed", "KeyboardInterrupt"),
]


@pytest.mark.parametrize(
    ("how", "ends", "status", "message"),
    [*(("block", *end) for end in [*ENDS, EXIT]), *(("open", *end) for end in ENDS)],
)
def test_a_run_ends_as_its_program_does(
    folder: Path, read: Callable[[], Session], how: str, ends: str, status: str, message: str
) -> None:
    block, space = ("with ll.run('ends'):", "    ") if how == "block" else ("ll.run('ends')", "")
    done = program(folder, f"{block}\n{space}ll.log(loss=1.0)\n{space}{ends}")
    assert (done.returncode == 0) == (status == "finished")
    found = only(read())
    assert (found.status, found.message, found.metrics["loss"]) == (status, message, 1.0)


class Mute(Exception):
    """An exception that cannot say anything."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no luck"), "ValueError: no luck"),
        (ValueError("no \udcff"), "ValueError: no \\udcff"),
        (Mute(), "Mute"),
    ],
)
@pytest.mark.parametrize("how", ["block", "finish"])
def test_an_exception_is_the_message_whatever_it_says(
    folder: Path, read: Callable[[], Session], error: Exception, message: str, how: str
) -> None:
    run = ll.run("fails", console=False, system=None)
    if how == "finish":
        run.finish("failed", error)
    else:
        with pytest.raises(type(error)) as raised, run:
            raise error
        assert raised.value is error
    found = only(read())
    assert (found.status, found.message) == ("failed", message)


def test_a_clock_before_1970_is_0(folder: Path, read: Callable[[], Session], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as set_back:
        set_back.setattr(time, "time_ns", lambda: -1_000_000_000)
        with ll.run("early", console=False, system=None) as run:
            run.log(loss=1.0)
    found = only(read())
    assert (found.status, found.created, found.ended) == ("finished", 0, 0)


def test_a_command_line_that_is_no_utf_8_is_escaped(folder: Path, read: Callable[[], Session]) -> None:
    (folder / "train.py").write_text("import loopline as ll\nll.log(loss=1.0)")
    done = subprocess.run([sys.executable, b"train.py", b"\xff"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert only(read()).environment["argv"] == ["train.py", "\\udcff"]


def test_where_an_end_cannot_be_written_the_run_is_ended_all_the_same(
    folder: Path, read: Callable[[], Session]
) -> None:
    run = ll.run("cut off", console=False, system=None)
    run.log(loss=1.0)
    failpoints.arm("tracking.journal.write=ENOSPC")
    try:
        with pytest.warns(RuntimeWarning, match=f"That {run.ref} is failed could not be written"):
            run.finish("failed")
    finally:
        failpoints.arm("")
    found = only(read())
    assert (found.status, found.metrics) == ("killed", {"loss": 1.0})
    assert list((folder / ".loopline" / "journals").iterdir()) == []


def test_ctrl_c_kills_a_run(folder: Path, read: Callable[[], Session]) -> None:
    text = "with ll.run('long'):\n    ll.log(loss=1.0)\n    print('ready', flush=True)\n    import time\n    time.sleep(100)"
    (folder / "train.py").write_text("import loopline as ll\n" + text)
    with subprocess.Popen([sys.executable, "train.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    found = only(read())
    assert (found.status, found.message, found.metrics["loss"]) == ("killed", "KeyboardInterrupt", 1.0)


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), 9)"])
def test_what_was_logged_survives_the_end_of_the_process(folder: Path, read: Callable[[], Session], end: str) -> None:
    text = f"import os\nwith ll.run('gone'):\n    for i in range(1000):\n        ll.log(loss=float(i))\n    {end}"
    assert program(folder, text).returncode in (7, -9)
    sync(folder)
    session = read()
    assert steps(session, only(session), "loss") == [(i, float(i)) for i in range(1000)]


def test_a_script_that_only_logs_has_a_run_of_its_name(folder: Path, read: Callable[[], Session]) -> None:
    done = program(folder, "ll.log(loss=0.5)\nll.log({'loss': 0.25})\nprint('said')")
    assert (done.returncode, done.stdout) == (0, "said\n"), done.stderr
    session = read()
    found = only(session)
    assert (found.name, found.status) == ("train", "finished")
    assert steps(session, found, "loss") == [(0, 0.5), (1, 0.25)]
    assert session.runs.console(found.id).read() == b"said\n"


def test_threads_of_a_script_share_the_run_that_began_by_itself(folder: Path, read: Callable[[], Session]) -> None:
    text = """
import threading
all = [threading.Thread(target=lambda: ll.log(loss=1.0)) for _ in range(8)]
for t in all: t.start()
for t in all: t.join()
ll.log(loss=2.0)
"""
    assert program(folder, text).returncode == 0
    session = read()
    assert len(steps(session, only(session), "loss")) == 9


@pytest.mark.parametrize(
    ("code", "status"), [("3", "failed"), ("'no rows'", "failed"), ("0", "finished"), ("", "finished")]
)
def test_a_program_that_exits_tells_how(folder: Path, read: Callable[[], Session], code: str, status: str) -> None:
    program(folder, f"import sys\nll.run('fit')\nll.log(loss=1.0)\nsys.exit({code})")
    found = only(read())
    assert (found.status, found.message) == (
        status,
        f"SystemExit: {code}".replace("'", "") if status == "failed" else "",
    )


CAUGHT = {
    "in the script": "try:\n    sys.exit(3)\nexcept SystemExit:\n    pass",
    "in the script, and kept": "try:\n    sys.exit(3)\nexcept SystemExit as e:\n    kept = e",
    "in a function": "def main():\n    try:\n        sys.exit(3)\n    except SystemExit as e:\n        return e\nkept = main()",
    "by another library": "import contextlib\nwith contextlib.suppress(SystemExit):\n    sys.exit(3)",
    "and another one raised, of no fault": "try:\n    sys.exit(3)\nexcept SystemExit:\n    sys.exit(0)",
    "by its thread": "import threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start()\nt.join()",
}
UNCAUGHT = {
    "out of a function": "def main():\n    sys.exit(3)\nmain()",
    "past a block that ends": "try:\n    sys.exit(3)\nfinally:\n    print('end')",
    "past a file": "with open('x', 'w'):\n    sys.exit(3)",
    "raised again": "try:\n    sys.exit(3)\nexcept SystemExit as e:\n    kept = e\n    raise",
    "out of a coroutine": "import asyncio\nasync def main():\n    sys.exit(3)\nasyncio.run(main())",
    "after one that was caught": "try:\n    sys.exit(4)\nexcept SystemExit:\n    pass\nsys.exit(3)",
}


@pytest.mark.parametrize(
    ("way", "how"),
    [
        *((way, "a script") for way in CAUGHT | UNCAUGHT),
        ("in the script", "a module"),
        ("out of a function", "a module"),
    ],
)
def test_an_exit_that_was_caught_is_none(folder: Path, read: Callable[[], Session], way: str, how: str) -> None:
    text = f"import sys\nimport loopline as ll\nll.run('fit')\nll.log(loss=1.0)\n{(CAUGHT | UNCAUGHT)[way]}\n"
    (folder / "train.py").write_text(text)
    given = {"a script": ["train.py"], "a module": ["-m", "train"]}[how]
    done = subprocess.run([sys.executable, *given], capture_output=True, timeout=120, check=False)
    assert done.returncode == (3 if way in UNCAUGHT else 0), done.stderr
    found = only(read())
    assert (found.status, found.message) == (("failed", "SystemExit: 3") if way in UNCAUGHT else ("finished", ""))


def test_a_forked_process_logs_to_the_run_and_does_not_end_it(folder: Path, read: Callable[[], Session]) -> None:
    text = """
import os, sys
with ll.run("parent") as run:
    ll.log(before=1.0)
    child = os.fork()
    if child == 0:
        for i in range(100):
            ll.log(inside=float(i))
        sys.exit(0)
    os.waitpid(child, 0)
    ll.log(after=1.0)
"""
    assert program(folder, text).returncode == 0
    sync(folder)
    session = read()
    found = only(session)
    assert found.status == "finished"
    assert len(steps(session, found, "inside")) == 100
    assert (len(steps(session, found, "before")), len(steps(session, found, "after"))) == (1, 1)


def test_worker_processes_log_to_the_run(folder: Path, read: Callable[[], Session]) -> None:
    text = """
import multiprocessing
def work(i):
    ll.log({f"worker/{i}": float(i)})
if __name__ == "__main__":
    with ll.run("pool"):
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pool.map(work, range(20))
"""
    assert program(folder, text).returncode == 0
    sync(folder)
    assert {k: v for k, v in only(read()).metrics.items() if k.startswith("worker/")} == {
        f"worker/{i}": float(i) for i in range(20)
    }


def test_the_code_that_ran_can_be_made_again(folder: Path, read: Callable[[], Session]) -> None:
    def git(*arguments: str, at: Path = folder, stdin: bytes = b"") -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=at, check=True, capture_output=True, input=stdin
        ).stdout.decode()

    git("init", "-q")
    (folder / "train.py").write_text("# as committed\n")
    (folder / ".gitignore").write_text("state/\nelsewhere/\nagain/\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (folder / "elsewhere").mkdir()
    (folder / "new.py").write_text("value = 1\n")
    (folder / "train.py").write_text("import loopline as ll\nimport new\nll.log(value=new.value)\n")
    # The script is found by its own place, wherever it is started from.
    done = subprocess.run(
        [sys.executable, str(folder / "train.py"), "--token", "hidden"],
        cwd=folder / "elsewhere",
        env={**os.environ, "LOOPLINE_WORKSPACE": str(folder / ".loopline")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    session = read()
    found = only(session)
    assert found.environment["commit"] == git("rev-parse", "HEAD").strip()
    assert found.environment["argv"][1:] == ["--token", "***"]
    (kept,) = session.runs.artifacts(found.id)
    assert (kept.path, kept.digest) == ("code/patch.diff", found.environment["patch"])
    git("clone", "-q", str(folder), "again")
    git("apply", "-", at=folder / "again", stdin=session.runs.artifact(found.id, kept.path).read())
    for name in ("train.py", "new.py"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert not list((folder / "again").glob(".loopline")), "the workspace is no part of the code"


def test_a_seed_makes_the_same_numbers_and_is_kept(folder: Path, read: Callable[[], Session]) -> None:
    found = []
    for _ in range(2):
        with ll.run("seeded", console=False, system=None) as run:
            run.seed(7)
            found.append((random.random(), np.random.random()))
    assert found[0] == found[1]
    assert [run.params for run in read().runs.list().runs] == [{"seed": 7}] * 2


@pytest.mark.timeout(60)
def test_the_machine_is_sampled_while_a_run_goes_on(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("sampled", console=False, system=0.02) as run:
        journal = run._journal.folder
        while b"system/process_memory" not in b"".join(f.read_bytes() for f in journal.glob("*.log")):
            time.sleep(0.01)
    found = only(read()).metrics
    assert {"system/cpu_percent", "system/memory_percent", "system/network_received"} <= set(found)
    assert float(found["system/process_memory"]) > 2**20


def test_a_server_has_it_while_the_training_goes_on(folder: Path) -> None:
    settings = load(workspace=str(folder / ".loopline"), checkpoints=str(folder / "copies"), port=0)
    with Service(settings, turn=3600) as service:
        text = """
import sys
with ll.run("told", project="default"):
    ll.log(loss=1.0)
    print(ll.__version__, flush=True)
    sys.stdin.readline()
    ll.log(loss=2.0)
    assert "sqlalchemy" not in sys.modules
"""
        (folder / "train.py").write_text("import loopline as ll\n" + text)
        with (
            subprocess.Popen(
                [sys.executable, "train.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
            ll.connect(service.url) as session,
        ):
            assert process.stdout is not None
            process.stdout.readline()
            while not (runs := session.runs.list().runs) or "loss" not in runs[0].metrics:
                assert process.poll() is None
                time.sleep(0.05)
            assert (runs[0].status, runs[0].metrics["loss"]) == ("running", 1.0)
            _, said = process.communicate(b"\n", timeout=60)
            assert (process.returncode, said) == (0, b"")
            found = only(session)
            assert (found.status, found.metrics["loss"]) == ("finished", 2.0)
    assert list((folder / ".loopline" / "journals").iterdir()) == [], "what the server has needs no journal"


def test_a_server_that_is_away_disturbs_nothing(folder: Path) -> None:
    text = (
        "with ll.run('alone', url='http://127.0.0.1:9'):\n    for i in range(100): ll.log(loss=float(i))\nprint('done')"
    )
    done = program(folder, text)
    assert (done.returncode, done.stdout) == (0, "done\n")
    (said,) = done.stderr.splitlines()
    assert "loopline sync" in said
    assert "http://127.0.0.1:9" in said
    settings = load(workspace=str(folder / "served"), checkpoints=str(folder / "copies"), port=0)
    with Service(settings, turn=3600) as service, ll.connect(service.url) as session:
        command = [sys.executable, "-m", "loopline", "--server", service.url, "sync", ".loopline", "--json"]
        told = subprocess.run(
            command, capture_output=True, check=True, env={**os.environ, "LOOPLINE_WORKSPACE": "served"}
        )
        assert len(json.loads(told.stdout)) == 1
        assert [step for step, _ in steps(session, only(session), "loss")] == list(range(100))


def test_a_run_that_goes_elsewhere_is_no_child(folder: Path, read: Callable[[], Session]) -> None:
    with ll.run("here", console=False, system=None):
        with ll.run("there", workspace=folder / "other", console=False, system=None) as there:
            ll.log(loss=1.0)
        with ll.run("here, too", workspace=folder / ".loopline"):
            pass
    assert {run.name for run in read().runs.list().runs} == {"here", "here, too"}
    other = Platform.open(workspace=folder / "other")
    assert only(other.session()).id == there.id
    assert there.parent is None
    other.close()


def test_starting_a_run_loads_little(folder: Path) -> None:
    text = """
import sys
with ll.run("light") as run:
    ll.log(loss=1.0)
    heavy = {"numpy", "pandas", "polars", "sqlalchemy", "starlette", "sklearn", "rich", "http.client"} & set(sys.modules)
    assert not heavy, heavy
    assert len(sys.modules) <= 220, len(sys.modules)
"""
    done = program(folder, text)
    assert done.returncode == 0, done.stderr
    text = """
import os, sys
run = ll.run("to a server", url="http://127.0.0.1:9", console=False, system=None)
# Before its sender looks for the first time: the verbs, HTTP and the rest of the client come in its thread.
heavy = {"loopline.catalog", "http.client", "tomllib"} & set(sys.modules)
print(len(sys.modules), heavy, file=sys.stderr, flush=True)
os._exit(0 if len(sys.modules) <= 210 and not heavy else 1)
"""
    done = program(folder, text)
    assert done.returncode == 0, done.stderr


def test_the_quota_is_a_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPLINE_JOURNAL_QUOTA", "lots")
    with pytest.raises(Invalid, match="journal_quota"):
        ll.run("bad")
    monkeypatch.setenv("LOOPLINE_JOURNAL_QUOTA", "20000000")
    with ll.run("good", console=False, system=None) as run:
        assert run._journal._quota == 20_000_000


def test_a_full_journal_is_said_where_it_is_logged_to_and_never_at_the_end(
    folder: Path, read: Callable[[], Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPLINE_JOURNAL_QUOTA", "200000")
    (folder / "large.bin").write_bytes(os.urandom(250_000))
    run = ll.run("full", url="http://127.0.0.1:9", console=False, system=None)
    with pytest.raises(Unavailable) as told:
        run.artifact("large.bin")
    assert told.value.code == "journal-full"

    def fill() -> None:
        while True:
            run.log(loss=1.0)

    with pytest.warns(RuntimeWarning, match="200,000 bytes"), pytest.raises(Unavailable):
        fill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.finish()
    assert active() is None
    assert [report.state for report in send(folder / ".loopline" / "journals", lambda _: read())] == ["sent"]
    assert only(read()).status == "finished"
