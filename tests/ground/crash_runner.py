"""Kills a scenario at every failpoint that it passes, and looks at what is left. Run as a program of one thread, which forks.

    python crash_runner.py SCENARIOS_FILE NAME EMPTY_FOLDER

A file of scenarios has `SCENARIOS: dict[name, (work, check)]`. `work(folder)` does the job, and may be run again on the same
folder, as a person does after a crash; `check(folder, finished)` raises where the invariants do not hold, also for an empty
folder; `finished` says whether a whole `work` has gone before. Imports that start threads belong inside of them.
A file may say in `SAMPLED: dict[name, kills]` that its work is too long to be killed everywhere each time: then so many places
are drawn with a fixed seed, and all are gone through where LOOPLINE_SOAK is set. It may say in `ROOMS: dict[name, rooms]` that
its work passes those of other rooms as well, which are killed at by their own scenarios: then only these rooms' are, each once,
but for LOOPLINE_SOAK.
Prints {"reached": {failpoint: passages}, "killed": [failpoint, ...], "failures": [...]} as JSON.
"""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from loopline import failpoints


def forked(function: Callable[..., None], *arguments: object, armed: str = "") -> tuple[int, str]:
    """Runs the function in a fork; gives minus the signal, or the exit code, and what it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 0
        try:
            failpoints.arm(armed)
            function(*arguments)
        except BaseException:
            code = 1
            os.write(writer, traceback.format_exc()[-4000:].encode())
        os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def places(reached: dict[str, int], kills: int, rooms: Sequence[str] = ()) -> list[tuple[str, int]]:
    """Where to kill: at the first, second, middle and last passage of each failpoint, or at some of these."""
    soak = bool(os.environ.get("LOOPLINE_SOAK"))
    found = [
        (name, hit)
        for name, passages in sorted(reached.items())
        if soak or not rooms or name.split(".")[0] in rooms
        for hit in (
            sorted({1, 2, (passages + 1) // 2, passages} & set(range(1, passages + 1))) if soak or not rooms else [1]
        )
    ]
    return found if not kills or soak else random.Random(1).sample(found, kills)


def run(
    work: Callable[[Path], None],
    check: Callable[[Path, bool], None],
    folder: Path,
    kills: int = 0,
    rooms: Sequence[str] = (),
) -> dict[str, object]:
    trace, failures = folder / "trace", []
    folder.joinpath("whole").mkdir(parents=True)
    for function, arguments, armed in (
        (check, (folder / "whole", False), ""),
        (work, (folder / "whole",), f"*=trace:{trace}"),
        (check, (folder / "whole", True), ""),
        (work, (folder / "whole",), ""),
        (check, (folder / "whole", True), ""),
    ):
        code, said = forked(function, *arguments, armed=armed)
        if code:
            failures.append(f"without a crash: {function.__name__}: {said}")
    reached = collections.Counter(trace.read_text().split() if trace.exists() else [])
    killed = []
    for name, hit in places(reached, kills, rooms):
        place = folder / "killed"
        place.mkdir()
        code, said = forked(work, place, armed=f"{name}=kill@{hit}")
        if code != -signal.SIGKILL:
            failures.append(f"{name}@{hit}: not killed ({code}): {said}")
        else:
            killed.append(name)
        for function, arguments in ((check, (place, False)), (work, (place,)), (check, (place, True))):
            code, said = forked(function, *arguments)
            if code:
                failures.append(f"{name}@{hit}: {function.__name__} afterwards: {said}")
        shutil.rmtree(place)
    return {"reached": reached, "killed": sorted(set(killed)), "failures": failures}


if __name__ == "__main__":
    file, name, folder = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("scenarios", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kills, rooms = (getattr(module, said, {}).get(name) for said in ("SAMPLED", "ROOMS"))
    print(json.dumps(run(*module.SCENARIOS[name], Path(folder), kills or 0, rooms or ())))
