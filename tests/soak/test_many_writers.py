"""32 writers at once for a minute, in four processes on one workspace: no writer is refused, no point is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

PROCESSES, THREADS, SECONDS = 4, 8, 60

WRITER = """
import json, sys, threading, time
from pathlib import Path
from loopline.app import Platform
from loopline.tracking.records import Point

folder, database, shared, threads, seconds = sys.argv[1], sys.argv[2] or None, sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
platform = Platform.open(workspace=Path(folder) / "workspace", checkpoints=folder + "/copies", database=database)
runs = platform.session().runs
done, failures, stop = {}, [], time.monotonic() + seconds

def write(number):
    try:
        own = runs.create("own").id
        step = 0
        while time.monotonic() < stop:
            place = step * 1000 + int(sys.argv[6]) * 100 + number
            runs.log(own, [Point(key="loss", value=1.0, step=step, time=1)])
            runs.log(shared, [Point(key="loss", value=1.0, step=place, time=1)])
            step += 1
        done[own] = step
    except Exception as e:
        failures.append(repr(e))

writers = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
[w.start() for w in writers]
[w.join() for w in writers]
platform.close()
print(json.dumps([done, failures]))
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_many_writers_are_all_taken(kind: str, tmp_path: Path, request: Any) -> None:
    database = "" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    platform = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database or None
    )
    runs = platform.session().runs
    shared = runs.create("shared").id
    given = [str(tmp_path), database, shared, str(THREADS), str(SECONDS)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *given, str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    said = [json.loads(writer.communicate()[0]) for writer in writers]
    assert [failure for _, failures in said for failure in failures] == []
    done = {run: steps for each, _ in said for run, steps in each.items()}
    assert len(done) == PROCESSES * THREADS
    for run, steps in done.items():
        assert [p.step for p in runs.history(run, "loss")] == list(range(steps))
    assert len(runs.history(shared, "loss")) == sum(done.values())
    assert platform.session().ledger.verify().ok
    print(
        f"\n{kind}: {2 * sum(done.values()) / SECONDS:,.0f} batches a second, the slowest writer {min(done.values())} times"
    )
    platform.close()
