"""Folders as versions beside DVC, git-lfs and the limits, in turns on one disk: hashing and one copy, a stat walk, hard links.

10,000 files of 100 kB: added, looked at, checked out. One file of 1 GB: added, checked out, and what a change of 1 % costs in
space: a contiguous one, and one scattered over 100 places. Peers are commands, and so is Loopline in the lines that say so; DVC is
installed at the first call (scripts/peers.py), git-lfs is measured where it is on PATH (Debian: git-lfs). Medians of the rounds are
printed, with the processor's time.

    python bench/files.py [--rounds 3] [--no-peer] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent / "beside"))
from peers import environment
from turns import kept

FILES, SIZE, LARGE = 10_000, 100_000, 1 << 30
ADD, STATUS, CHECKOUT = "add 10,000 files", "status, unchanged", "check them out"
LARGE_ADD, LARGE_OUT, CHANGED = "add a file of 1 GB", "check it out", "add it again, 1 % changed"
SPACE = "space that the change took, share"
SCATTERED = "space of one in 100 places, share"
Found = dict[str, dict[str, tuple[float, float]]]
"""Seconds and seconds of the processor of each way, by what was done."""


def made(folder: Path) -> None:
    for number in range(FILES):
        file = folder / "many" / f"{number % 100:02}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(SIZE))
    (folder / "one").mkdir()
    with (folder / "one" / "large.bin").open("wb") as file:
        for _ in range(LARGE >> 24):
            file.write(os.urandom(1 << 24))
    for file in folder.rglob("*.bin"):  # not of this second
        os.utime(file, (1_700_000_000, 1_700_000_000))
    os.sync()


def change(file: Path, places: int = 1) -> None:
    """A hundredth, in the middle or in so many places."""
    file.chmod(0o644)
    with file.open("r+b") as out:
        for place in range(places):
            out.seek((LARGE * place + LARGE // 3) // places)
            out.write(os.urandom(LARGE // 100 // places))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    os.sync()  # what others have written is not waited for here
    spent, began = _processor(), time.perf_counter()
    call()
    return time.perf_counter() - began, _processor() - spent


def _processor() -> float:
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime


def _size(folder: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def ours(folder: Path, place: Path) -> dict[str, tuple[float, float]]:
    from loopline.app import Platform
    from loopline.data.files.adding import add
    from loopline.data.files.checkout import checkout
    from loopline.data.files.state import status

    platform = Platform.open(workspace=place / "w", checkpoints=str(place / "copies"))
    session, states = platform.session(), place / "w" / "folders"
    many, one = folder / "many", folder / "one"
    found = {ADD: timed(lambda: add(session.files, "many", many, states=states))}
    time.sleep(1.1)
    status(states, many)
    found[STATUS] = timed(lambda: status(states, many))
    found["add again, unchanged"] = timed(lambda: add(session.files, "many", many, states=states))
    found[CHECKOUT] = timed(lambda: checkout(session.files, "many", "1", place / "many", states=states))
    found[LARGE_ADD] = timed(lambda: add(session.files, "one", one, states=states))
    found[LARGE_OUT] = timed(lambda: checkout(session.files, "one", "1", place / "one", states=states))
    before = session.store.usage().bytes
    change(one / "large.bin")
    found[CHANGED] = timed(lambda: add(session.files, "one", one, states=states))
    found[SPACE] = ((session.store.usage().bytes - before) / LARGE, 0.0)
    before = session.store.usage().bytes
    change(one / "large.bin", 100)
    add(session.files, "one", one, states=states)
    found[SCATTERED] = ((session.store.usage().bytes - before) / LARGE, 0.0)
    platform.close()
    return found


def command(folder: Path, place: Path) -> dict[str, tuple[float, float]]:
    """As `ours`, each a command."""
    workspace = str(place / "command")
    environ = {**os.environ, "LOOPLINE_WORKSPACE": workspace, "XDG_STATE_HOME": str(place / "state")}
    run = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "loopline", "data", *words], check=True, capture_output=True, env=environ, cwd=place
    )
    many = str(folder / "many")
    found = {ADD: timed(lambda: run("add", "many", many, "--files"))}
    time.sleep(1.1)
    run("status", many)
    return found | {STATUS: timed(lambda: run("status", many))}


def limits(folder: Path, place: Path) -> dict[str, tuple[float, float]]:
    def hashed() -> None:
        for file in (folder / "many").rglob("*.bin"):
            blake3(file.read_bytes()).hexdigest()

    def copied() -> None:
        shutil.copytree(folder / "many", place / "copied")
        os.sync()

    def walked() -> None:
        for at, _, names in os.walk(folder / "many"):
            for name in names:
                os.lstat(os.path.join(at, name))

    def linked() -> None:
        for file in (folder / "many").rglob("*.bin"):
            to = place / "linked" / file.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, to)

    reading, writing = timed(hashed), timed(copied)
    return {
        ADD: (reading[0] + writing[0], reading[1] + writing[1]),
        STATUS: timed(walked),
        CHECKOUT: timed(linked),
        LARGE_OUT: timed(lambda: shutil.copy(folder / "one" / "large.bin", place / "large")),
    }


def dvc(folder: Path, place: Path) -> dict[str, tuple[float, float]]:
    program = str(environment("dvc==3.67.1").with_name("dvc"))
    work = place / "dvc"
    shutil.copytree(folder, work)
    run = lambda *words: subprocess.run([program, *words], cwd=work, check=True, capture_output=True)  # noqa: E731
    run("init", "--no-scm")
    run("config", "cache.type", "hardlink")
    found = {ADD: timed(lambda: run("add", "many"))}
    found[STATUS] = timed(lambda: run("status"))
    shutil.rmtree(work / "many")
    found[CHECKOUT] = timed(lambda: run("checkout", "many.dvc"))
    found[LARGE_ADD] = timed(lambda: run("add", "one/large.bin"))
    (work / "one" / "large.bin").unlink()
    found[LARGE_OUT] = timed(lambda: run("checkout", "one/large.bin.dvc"))
    run("unprotect", "one/large.bin")
    before = _size(work / ".dvc" / "cache")
    change(work / "one" / "large.bin")
    found[CHANGED] = timed(lambda: run("add", "one/large.bin"))
    return found | {SPACE: ((_size(work / ".dvc" / "cache") - before) / LARGE, 0.0)}


def git_lfs(folder: Path, place: Path) -> dict[str, tuple[float, float]]:
    work = place / "lfs"
    shutil.copytree(folder, work)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "init.defaultBranch=main"]
    run = lambda *words: subprocess.run(["git", *who, *words], cwd=work, check=True, capture_output=True)  # noqa: E731

    def add(path: str) -> None:
        run("add", path)
        run("commit", "-m", path)

    run("init")
    run("lfs", "install", "--local")
    run("lfs", "track", "*.bin")
    found = {ADD: timed(lambda: add("many"))}
    found[STATUS] = timed(lambda: run("status", "many"))
    shutil.rmtree(work / "many")
    found[CHECKOUT] = timed(lambda: run("checkout", "--", "many"))
    found[LARGE_ADD] = timed(lambda: add("one"))
    (work / "one" / "large.bin").unlink()
    found[LARGE_OUT] = timed(lambda: run("checkout", "--", "one"))
    before = _size(work / ".git")
    change(work / "one" / "large.bin")
    found[CHANGED] = timed(lambda: add("one"))
    return found | {SPACE: ((_size(work / ".git") - before) / LARGE, 0.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work: the disk that is measured")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ways = {"loopline": ours, "as a command": command, "limit": limits}
    if not given.no_peer:
        ways["DVC"] = dvc
        if shutil.which("git-lfs"):
            ways["git-lfs"] = git_lfs
    load = os.getloadavg()[0]
    rounds: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            made(Path(name, "in"))
            order = list(ways.items())
            # `ours` changes the large file in the end: whoever comes after it starts from that one, which is as large.
            for way, measure in order[turn % len(order) :] + order[: turn % len(order)]:
                for what, took in measure(Path(name, "in"), Path(name)).items():
                    rounds[what][way].append(took)
    found: Found = {
        what: {way: tuple(map(statistics.median, zip(*took, strict=True))) for way, took in by.items()}  # type: ignore[misc]
        for what, by in rounds.items()
    }
    print(f"{'':36}" + "".join(f"{way:>22}" for way in ways))
    for what, by in found.items():
        form = "{:.3f}" if what in (SPACE, SCATTERED) else "{:.3f} (cpu {:.2f})"
        print(f"{what:36}" + "".join(f"{form.format(*by[way]) if way in by else '':>22}" for way in ways))
    ratio = found[ADD]["loopline"][0] / found[ADD]["limit"][0]
    print(
        f"goals: add 3 s ({ratio:.2f} of hashing and one synced copy), status 0.15 s, check out 1.2 s linked, space 0.05"
    )
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kept(given.json, {"load": load, **found})


if __name__ == "__main__":
    main()
