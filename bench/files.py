"""Folders as versions, beside their limits in the same run: hashing and one copy, a stat walk, hard links.

10,000 files of 100 kB: added, looked at, checked out linked. One file of 1 GB: added, checked out, and what a contiguous change of
1 % costs in space. With --peer DVC does the same. Each figure is the best of the rounds; the machine's load is told.

    python bench/files.py [--json FILE] [--peer] [--folder DIR] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

FILES, SIZE, LARGE = 10_000, 100_000, 1 << 30


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


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def hashed(folder: Path) -> None:
    for file in folder.rglob("*.bin"):
        blake3(file.read_bytes()).hexdigest()


def walked(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            os.lstat(os.path.join(place, name))


def linked(folder: Path, target: Path) -> None:
    for file in folder.rglob("*.bin"):
        to = target / file.relative_to(folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, to)


def ours(folder: Path, place: Path) -> dict[str, float]:
    from loopline.app import Platform
    from loopline.data.files.adding import add
    from loopline.data.files.checkout import checkout
    from loopline.data.files.state import status

    platform = Platform.open(workspace=place / "w", checkpoints=str(place / "copies"))
    session, states = platform.session(), place / "w" / "folders"
    many, one = folder / "many", folder / "one"
    found = {"add 10,000 files": timed(lambda: add(session.files, "many", many, states=states))}
    time.sleep(1.1)
    status(states, many)
    found["status, unchanged"] = timed(lambda: status(states, many))
    found["add again, unchanged"] = timed(lambda: add(session.files, "many", many, states=states))
    found["checkout, linked"] = timed(lambda: checkout(session.files, "many", "1", place / "many", states=states))
    found["add 1 GB file"] = timed(lambda: add(session.files, "one", one, states=states))
    found["checkout 1 GB file"] = timed(lambda: checkout(session.files, "one", "1", place / "one", states=states))
    before = session.store.usage().bytes
    with (one / "large.bin").open("r+b") as file:
        file.seek(LARGE // 3)
        file.write(os.urandom(LARGE // 100))
    found["add 1 GB file, 1 % changed"] = timed(lambda: add(session.files, "one", one, states=states))
    found["extra space, share"] = (session.store.usage().bytes - before) / LARGE
    platform.close()
    return found


def limits(folder: Path, place: Path) -> dict[str, float]:
    return {
        "limit: hash 10,000 files": timed(lambda: hashed(folder / "many")),
        "limit: copy 10,000 files": timed(lambda: shutil.copytree(folder / "many", place / "copied")),
        "limit: stat walk": timed(lambda: walked(folder / "many")),
        "limit: hard links": timed(lambda: linked(folder / "many", place / "linked")),
        "limit: copy 1 GB file": timed(lambda: shutil.copy(folder / "one" / "large.bin", place / "large")),
    }


def dvc(folder: Path, place: Path) -> dict[str, float]:
    from peers import environment

    program = str(environment("dvc==3.67.1").with_name("dvc"))
    work = place / "dvc"
    shutil.copytree(folder, work)
    run = lambda *words: subprocess.run([program, *words], cwd=work, check=True, capture_output=True)  # noqa: E731
    run("init", "--no-scm")
    run("config", "cache.type", "hardlink")
    found = {"DVC: add 10,000 files": timed(lambda: run("add", "many"))}
    found["DVC: status, unchanged"] = timed(lambda: run("status"))
    shutil.rmtree(work / "many")
    found["DVC: checkout, linked"] = timed(lambda: run("checkout", "many.dvc"))
    found["DVC: add 1 GB file"] = timed(lambda: run("add", "one/large.bin"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", action="store_true", help="DVC too, in an environment of its own")
    parser.add_argument("--folder", type=Path, help="where to work: the disk that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, float] = {}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            place = Path(name)
            made(place / "in")
            for measure in (ours, limits, *((dvc,) if given.peer else ())):
                for what, value in measure(place / "in", place).items():
                    found[what] = min(value, found.get(what, value))
    for what, value in found.items():
        print(f"{what:32} {value:8.3f}{'' if 'share' in what else ' s'}")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps(found | {"load": os.getloadavg()[0]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
