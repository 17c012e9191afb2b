"""The console log: what is kept of what a program prints, and that the program sees no difference."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.client.console import Console


@contextlib.contextmanager
def streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Others in the place of the two streams."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def kept(say: Callable[[], None], limit: int = 1000) -> str:
    """What a console keeps of what `say` prints."""
    console = Console(limit)
    console.start()
    try:
        say()
    finally:
        found = console.stop()
    return found


def test_both_streams_are_kept_and_still_written() -> None:
    with streams() as (out, err):

        def say() -> None:
            print("one", 2, sep=", ")
            print("wrong", file=sys.stderr)
            sys.stdout.writelines(["three\n", "four"])

        assert kept(say) == "one, 2\nwrong\nthree\nfour\n"
        assert out.getvalue() == "one, 2\nthree\nfour"
        assert err.getvalue() == "wrong\n"
        assert "write" not in vars(out)


def test_lines_come_as_they_end() -> None:
    with streams():
        console = Console()
        console.start()
        print("a line\nand half", end="")
        assert console.take() == "a line\n"
        assert console.take() == ""
        print(" of another")
        assert console.take() == "and half of another\n"
        print("the rest", end="")
        assert console.stop() == "the rest\n"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("10%\r20%\r100%\n", "100%\n"),
        ("\r10%\r20%\r", "20%\n"),
        ("line\r\nline\r\n", "line\nline\n"),
        ("wait...\rdone   \nnext\n", "done   \nnext\n"),
        ("\n\n", "\n\n"),
        ("nul \0 and half \ud800\n", "nul \ufffd and half ?\n"),
    ],
)
def test_what_is_written_over_is_folded(said: str, seen: str) -> None:
    with streams():
        assert kept(lambda: print(said, end="")) == seen
        for at in range(len(said)):
            assert kept(lambda at=at: [print(part, end="") for part in (said[:at], said[at:])]) == seen  # type: ignore[misc]


@given(st.lists(st.text(alphabet="ab\r\n", max_size=8), max_size=8))
def test_folding_does_not_depend_on_the_pieces(pieces: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        whole = kept(lambda: print("".join(pieces), end=""))
        assert kept(lambda: [print(piece, end="") for piece in pieces]) == whole  # type: ignore[misc, return-value]
    assert "\r" not in whole


def test_a_progress_bar_takes_no_room() -> None:
    with streams():
        console = Console(limit=100)
        console.start()
        for percent in range(100):
            print(f"\r{percent}% " + "=" * 70, end="")
            assert console.take() == ""
        print("\nready")
        assert console.stop() == "99% " + "=" * 70 + "\nready\n"


def test_it_is_bounded_and_says_so() -> None:
    with streams() as (out, _):
        found = kept(lambda: [print("x" * 60) for _ in range(99)], limit=100)  # type: ignore[misc, return-value]
        assert found == f"{'x' * 60}\n{'x' * 39}\n[The console log is kept up to here: 100 characters.]\n"
        assert len(out.getvalue()) == 99 * 61


def test_a_stream_that_is_closed_missing_or_strange_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr(sys, "stderr", Strange())
    monkeypatch.setattr(sys, "stdout", None)
    assert kept(lambda: print("nobody hears")) == ""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    console = Console()
    console.start()
    with pytest.raises(ValueError, match="closed file"):
        print("as without us")
    assert console.stop() == ""


def test_who_listens_over_us_goes_on() -> None:
    with streams() as (out, _):
        console = Console()
        console.start()
        ours, heard = sys.stdout.write, []

        def theirs(text: str) -> int:
            heard.append(text)
            return ours(text)

        sys.stdout.write = theirs  # type: ignore[method-assign]
        print("both")
        assert console.stop() == "both\n"
        print("theirs alone")
        assert "".join(heard) == out.getvalue() == "both\ntheirs alone\n"
        assert console.take() == ""


def test_a_logger_that_was_there_before_is_kept() -> None:
    with streams():
        handler = logging.StreamHandler(sys.stderr)
        logger = logging.getLogger("test_console")
        logger.addHandler(handler)
        try:
            assert kept(lambda: logger.warning("careful")) == "careful\n"
        finally:
            logger.removeHandler(handler)


def test_a_program_sees_no_difference(tmp_path: Path) -> None:
    """Terminal, encoding, descriptors and exit of a real program, with a run and without."""
    text = """
import os, subprocess, sys
import loopline as ll
def say():
    print(sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.errors, sys.stderr.fileno())
    subprocess.run(["echo", "from a child"])
    os.write(1, b"from below\\n")
    print("last words", flush=True)
if len(sys.argv) > 1:
    with ll.run("said"):
        say()
        os._exit(3)
say()
os._exit(3)
"""
    (tmp_path / "say.py").write_text(text)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "latin-1"}
    plain, run = (
        subprocess.run([sys.executable, "say.py", *more], cwd=tmp_path, env=environment, capture_output=True)
        for more in ((), ("run",))
    )
    assert (plain.stdout, plain.returncode) == (run.stdout, run.returncode)
    assert run.stdout.endswith(b"last words\n")
    assert run.stderr == b""


def test_a_closed_pipe_is_no_matter_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(
        "import loopline as ll\nwith ll.run('said') as run:\n    for i in range(100000): print(i)\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        [sys.executable, "say.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"BrokenPipeError" in process.stderr.read()
    assert process.returncode == 1
