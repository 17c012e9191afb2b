"""Models in child processes that crash, leak, never return and are slow: nobody else is kept waiting, and each comes back."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from loopline.errors import Unavailable
from loopline.packaging import child
from loopline.packaging.foreign import package
from loopline.packaging.records import Opening, Trust
from loopline.packaging.signed import sign_bundle
from loopline.packaging.signing import ModelSigner
from loopline.serving import door, supervisor
from loopline.serving import model as models
from loopline.serving.records import Endpoint, RouteTable
from loopline.serving.supervisor import Supervisor

from .conftest import Load, call, live, table
from .test_packaged import children

Serve = Callable[..., Supervisor]
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")

CODE = """
import ctypes, os, time

class Model:
    def load(self, folder):
        self.kept = []
        self.bias = float((folder / "bias.txt").read_text())

    def predict(self, rows):
        return [self.one(row) for row in rows]

    def one(self, row):
        match row["do"]:
            case "crash":
                ctypes.string_at(0)
            case "leave":
                os._exit(3)
            case "hang":
                time.sleep(3600)
            case "leak":
                while True:
                    self.kept.append(bytearray(16 << 20))
            case "flood":
                while True:
                    for fd in range(3, 10):
                        try:
                            os.write(fd, bytes([255]) * 65536)
                        except OSError:
                            pass
            case "raise":
                raise ValueError("not this one")
            case "nap":
                time.sleep(0.3)
            case "secrets":
                return 1.0 if any("SECRET" in name for name in os.environ) else 0.0
        return self.bias + (row["x"] or 0.0) / 100
"""


class Made:
    """A signed bundle of code, and how it is opened."""

    def __init__(self, folder: Path) -> None:
        signer = ModelSigner(folder / "keys")
        (folder / "code").mkdir()
        (folder / "code" / "model.py").write_text(CODE)
        (folder / "code" / "bias.txt").write_text("0.25")
        rows = pl.DataFrame({"x": [1.0, None], "do": ["answer", None], "label": ["no", "yes"]})
        self.folder = folder / "bundle"
        package(
            folder / "code", self.folder, kind="code", name="risk", rows=rows, label="label", signer=signer, created=0
        )
        self.key = signer.public_key(signer.sign({})["signatures"][0]["keyid"])

    def opening(self, **bounds: Any) -> Opening:
        return Opening(trust=Trust(keys=(self.key,)), **bounds)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("code"))


def ask(port: int, do: str, *, path: str = "/predict/risk", x: float = 50.0) -> Any:
    return call(port, "POST", path, [{"x": x, "do": do}])


def answers_again(port: int) -> None:
    """Comes back within a while: refusals until then say when to come again."""
    deadline = time.monotonic() + 30
    while (found := ask(port, "answer")).status != 200:
        assert found.status == 503, found.body
        assert found.headers["retry-after"] == "1"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found.json["predictions"][0]["probabilities"]["yes"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("crash", "model-down"),
        ("leave", "model-down"),
        ("leak", "model-down"),
        ("hang", "model-slow"),
        ("flood", "model-down"),
    ],
)
def test_a_model_that_gives_no_answer_is_started_again(serve: Serve, made: Made, do: str, code: str) -> None:
    server = serve(table(1, live(made.folder)), opening=made.opening(timeout=1.5, memory=400 << 20))
    answers_again(server.port)
    worker = server.pids
    (child,) = children(worker[0])
    for _ in range(2):
        found = ask(server.port, do)
        assert (found.status, found.error["code"], found.headers["retry-after"]) == (503, code, "1")
        answers_again(server.port)
    assert server.pids == worker, "the worker lives on"
    (successor,) = children(worker[0])
    assert successor != child


def test_a_model_s_own_error_is_its_fault_and_ends_nothing(serve: Serve, made: Made) -> None:
    server = serve(table(1, live(made.folder)), opening=made.opening())
    (child,) = children(server.pids[0])
    found = ask(server.port, "raise")
    assert (found.status, found.error["code"]) == (500, "model-failed")
    assert "not this one" not in found.body.decode(), "what a model says of a row is for the log"
    answers_again(server.port)
    assert children(server.pids[0]) == [child]


def test_one_that_ends_again_and_again_is_started_ever_more_rarely(serve: Serve, made: Made) -> None:
    server = serve(table(1, live(made.folder)), opening=made.opening())
    seen = set()
    for _ in range(12):
        assert ask(server.port, "leave").status == 503
        seen |= set(children(server.pids[0]))
    assert len(seen) < 8
    answers_again(server.port)


def test_a_hung_model_stalls_no_other(serve: Serve, made: Made, bundle: Callable[..., Path]) -> None:
    both = RouteTable(
        epoch=1,
        endpoints={
            "slow": Endpoint(name="slow", variants=(live(made.folder),)),
            "risk": Endpoint(name="risk", variants=(live(bundle()),)),
        },
    )
    server = serve(both, opening=made.opening(timeout=600))
    (child,) = children(server.pids[0])
    os.kill(child, signal.SIGSTOP)  # it is slower than anything
    slow = [Load(server.port, 1, "/predict/slow", {"x": 1.0, "do": "nap"}) for _ in range(4)]
    try:
        for one in slow:
            one.__enter__()
        with Load(server.port) as fast:
            fast.wait(400)
        assert {status for status, _ in fast.answers} == {200}
        assert not any(one.answers for one in slow), "they wait for theirs"
    finally:
        os.kill(child, signal.SIGCONT)
        for one in slow:
            one.wait(1)
            one.__exit__()
    assert {status for one in slow for status, _ in one.answers} == {200}


def test_too_many_for_a_slow_model_are_told_to_come_again(serve: Serve, made: Made) -> None:
    server = serve(table(1, live(made.folder)), opening=made.opening(timeout=2))
    (child,) = children(server.pids[0])
    os.kill(child, signal.SIGSTOP)
    with Load(server.port, 100, row={"x": 50.0, "do": "answer"}) as load:
        load.wait(150)
        os.kill(child, signal.SIGKILL)  # which ends a stopped one as well
    codes = {said.split('"code":')[1].split('"')[1] for status, said in load.answers if status == 503}
    assert {status for status, _ in load.answers} <= {200, 503}
    assert "busy" in codes
    answers_again(server.port)


def test_a_child_has_no_secret_of_the_environment(serve: Serve, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    server = serve(table(1, live(made.folder)), opening=made.opening())
    assert ask(server.port, "secrets").json["predictions"][0]["probabilities"]["yes"] == 0.0


def test_a_child_that_nobody_waits_for_ends(serve: Serve, made: Made) -> None:
    server = serve(table(1, live(made.folder)), opening=made.opening(timeout=1))
    (child,) = children(server.pids[0])

    def busy(pid: int) -> str:
        return Path(f"/proc/{pid}/wchan").read_text() + Path(f"/proc/{pid}/syscall").read_text()

    before = busy(child)
    with Load(server.port, 1, row={"x": 1.0, "do": "hang"}):
        deadline = time.monotonic() + 20
        while busy(child) == before:  # until it is at it
            assert time.monotonic() < deadline
        os.kill(server.pids[0], signal.SIGKILL)
        while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
            assert time.monotonic() < deadline, "it is left over"
            time.sleep(0.05)


def test_code_runs_only_where_a_trusted_key_signed_it(serve: Serve, made: Made, tmp_path: Path) -> None:
    server = serve(table(1, live(made.folder)))
    assert children(server.pids[0]) == []
    assert ask(server.port, "answer").status == 503
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy)
    sign_bundle(copy, ModelSigner(tmp_path / "other"))
    assert ask(serve(table(1, live(copy)), opening=made.opening()).port, "answer").status == 200, "two signed it"
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text().replace('"created":0', '"created":1'))
    assert ask(serve(table(1, live(copy)), opening=made.opening()).port, "answer").status == 503


SLOW = """
import pathlib, time
class Model:
    def load(self, folder):
        how = pathlib.Path("FLAG").read_text()
        while how == "compute" and time.process_time() < 2.5:
            pass
        if how == "wait":
            time.sleep(3600)
    def predict(self, rows):
        return [0.9 for row in rows]
"""


@pytest.fixture
def slow(tmp_path: Path, signer: ModelSigner) -> tuple[Path, Path]:
    """A bundle whose code loads as slowly as a file says, and that file."""
    flag = tmp_path / "flag"
    flag.write_text("")
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "model.py").write_text(SLOW.replace("FLAG", str(flag)))
    rows = pl.DataFrame({"x": [1.0, 2.0], "y": ["no", "yes"]})
    package(tmp_path / "slow", tmp_path / "b", kind="code", name="risk", rows=rows, label="y", signer=signer, created=0)
    return tmp_path / "b", flag


def test_a_child_loads_by_what_it_computes_and_not_by_the_clock(
    slow: tuple[Path, Path], opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flag = slow
    flag.write_text("compute")
    with pytest.raises(Unavailable, match=r"of computing, 1\.5 are allowed") as told:
        models.load(folder, msgspec.structs.replace(opening, start=1.5))
    assert (told.value.code, "LOOPLINE_MODEL_START" in told.value.hint) == ("slow-bundle", True)
    models.load(folder, opening).close()
    flag.write_text("wait")
    monkeypatch.setattr(child, "STALL", 2.0)
    with pytest.raises(Unavailable, match="did nothing for 2 s"):
        models.load(folder, opening)


def test_a_worker_that_says_it_loads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START", 0.5)
    monkeypatch.setattr(door, "ALIVE", 0.1)
    worker = supervisor._Worker(0)
    said: list[bytes] = []

    def tell(frame: bytes) -> None:
        said.append(frame)
        worker.heard = time.monotonic()
        if len(said) == 12:
            worker.replies.put(door.Reply(did="prepare", epoch=7))

    with door.loading(tell):
        found = worker.reply(time.monotonic())
    assert found is not None
    assert found.epoch == 7
    assert len(said) >= 12, "longer than it may say nothing"
    assert msgspec.json.decode(said[0][4:])["did"] == "loads"
    with pytest.raises(queue.Empty):
        worker.reply(time.monotonic())
