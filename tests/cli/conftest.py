"""A small real workspace: two runs of a tiny loop on synthetic rows, made once by the command line itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import polars as pl
import pytest

from loopline.cli import main

LOOP = """\
import loopline as ll


@ll.step
def fit(train: ll.Table) -> ll.Model:
    return ll.linear(train)


loop = ll.Loop(
    "visits",
    data=ll.source("visits.csv", label="back", time="visit", group="person", protected=["sex"]),
    contract=ll.contract(ll.unique("visit"), ll.column("days").between(0, 60)),
    train=fit,
    gates=[ll.gate.at_least("roc_auc", {floor})],
    rollout=ll.rollout.canary(10, 50, rows=100),
    monitor=ll.monitor(false_alarms="1/quarter", look="1s", rows=100),
)
"""


class Ended(NamedTuple):
    """A command that ended: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs commands in one workspace, as a shell would, in this process; copies of checkpoints go to `state`."""

    def __init__(self, workspace: Path, state: Path) -> None:
        self.workspace = workspace
        self.state = state

    def environment(self) -> dict[str, str]:
        """The environment of a command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPLINE_")}
        own = {name: os.environ[name] for name in ("LOOPLINE_PORT",) if name in os.environ}
        return {**kept, **own, "XDG_STATE_HOME": str(self.state)}

    def copy(self, folder: Path) -> Shell:
        """The same in a copy of the workspace, to be changed apart."""
        shutil.copytree(self.workspace, folder / "workspace", ignore=shutil.ignore_patterns("*.sock"))
        os.chmod(folder / "workspace", 0o700)
        shutil.copytree(self.state, folder / "state")
        shutil.copy(self.workspace.parent / "visits.csv", folder)
        return Shell(folder / "workspace", folder / "state")

    def __call__(self, *line: str, code: int = 0, stdin: bytes = b"") -> Ended:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        argv, given, sys.argv = sys.argv, sys.stdin, ["loopline", "--workspace", str(self.workspace), *line]
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        ended: int | str | None = None
        try:
            with (
                mock.patch.dict(os.environ, self.environment(), clear=True),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                main()
        except SystemExit as e:
            ended = e.code
        finally:
            sys.argv, sys.stdin = argv, given
        for stream in (out, err):
            stream.flush()
        found = Ended(int(ended or 0), *(s.buffer.getvalue().decode() for s in (out, err)))  # type: ignore[attr-defined]
        assert found.code == code, f"{' '.join(line)} ended with {found.code}:\n{found.out}{found.err}"
        return found


def visits(path: Path, rows: int = 2000, seed: int = 3) -> None:
    """Synthetic visits, seven of which break the contract."""
    random = np.random.default_rng(seed)
    days = random.integers(0, 14, rows)
    days[:7] = 99
    age = random.normal(60, 12, rows).round(1)
    chance = 1 / (1 + np.exp(-(0.3 * (days - 7) + 0.05 * (age - 60))))
    pl.DataFrame(
        {
            "visit": np.arange(rows),
            "person": np.arange(rows) // 2,
            "days": days,
            "age": age,
            "sex": random.choice(["f", "m"], rows),
            "back": np.where(random.random(rows) < chance, "yes", "no"),
        }
    ).write_csv(path)


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A workspace where `visits` ran twice: its first version was promoted, its second one refused by a gate.

    It is for reading; a test that changes something takes a copy.
    """
    folder = tmp_path_factory.mktemp("cli")
    run = Shell(folder / "workspace", folder / "state")
    visits(folder / "visits.csv")
    with within(folder):
        (folder / "visits.py").write_text(LOOP.format(floor=0.5))
        run("run", "visits")
        (folder / "visits.py").write_text(LOOP.format(floor=0.999))
        visits(folder / "visits.csv", seed=4)
        run("run", "visits", code=3)
    return run


@pytest.fixture
def bare(tmp_path: Path) -> Shell:
    """A shell where there is no workspace yet."""
    return Shell(tmp_path / "workspace", tmp_path / "state")


@pytest.fixture(scope="session")
def write_visits() -> Callable[..., None]:
    """Writes a table of visits."""
    return visits
