"""A real `loopline run`, killed at random moments and at every failpoint; `make soak`."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

TESTS = Path(__file__).parents[1]
MOMENTS = 50


def scenario() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loop_crash", TESTS / "loop" / "crash_scenarios.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(folder: Path) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1"}
    return [sys.executable, "-m", "loopline", "--workspace", str(folder / "workspace"), "run", "visits"], environment


def checked(folder: Path, finished: bool) -> None:
    """The scenario's check, in a process of its own: it opens the workspace as the next program would."""
    program = (
        f"import sys, importlib.util as u; s = u.spec_from_file_location('c', {str(TESTS / 'loop' / 'crash_scenarios.py')!r});"
        f"m = u.module_from_spec(s); s.loader.exec_module(m); from pathlib import Path; m.check(Path({str(folder)!r}), {finished})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_run_killed_at_random_moments_ends_as_if_it_was_not(tmp_path: Path) -> None:
    crash = scenario()
    whole = tmp_path / "whole"
    place = crash.prepare(whole)
    line, environment = command(whole)
    began = time.monotonic()
    subprocess.run(line, cwd=place, env=environment, check=True, capture_output=True)
    length = time.monotonic() - began
    checked(whole, True)
    chance = random.Random(20)
    killed = 0
    for moment in range(MOMENTS):
        folder = tmp_path / f"m{moment}"
        for again in itertools.count():  # until it was killed: a moment that came after its end is drawn again
            shutil.rmtree(folder, ignore_errors=True)
            place = crash.prepare(folder)
            line, environment = command(folder)
            running = subprocess.Popen(
                line, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            try:
                _, said = running.communicate(timeout=chance.uniform(0, 1 / (1 + again)) * length)
                assert running.returncode == 0, said[-3000:]
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGKILL)
                running.communicate()
                killed += running.returncode == -signal.SIGKILL
                break
        checked(folder, False)
        done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        checked(folder, True)
        shutil.rmtree(folder)
    assert killed == MOMENTS


def test_every_scenario_killed_at_every_passage(tmp_path: Path) -> None:
    """The scenarios of which `make test` takes a part alone; the loop's own stands below."""
    environment = {**os.environ, "LOOPLINE_SOAK": "1"}
    for file, name in (("registry", "model version"), ("loop", "begun loop")):
        runner = [sys.executable, str(TESTS / "ground" / "crash_runner.py"), str(TESTS / file / "crash_scenarios.py")]
        done = subprocess.run([*runner, name, str(tmp_path / file)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["failures"] == []
        assert found["killed"] == sorted(found["reached"])


def test_a_run_killed_at_every_failpoint(tmp_path: Path) -> None:
    runner = [sys.executable, str(TESTS / "ground" / "crash_runner.py"), str(TESTS / "loop" / "crash_scenarios.py")]
    environment = {**os.environ, "LOOPLINE_SOAK": "1"}
    done = subprocess.run([*runner, "loop", str(tmp_path / "all")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failures"] == []
    assert found["killed"] == sorted(found["reached"])
    assert len(found["reached"]) >= 25
