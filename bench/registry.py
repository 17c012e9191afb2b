"""The registry against MLflow with its SQLite store in process, in turns: versions with an alias, and reads by the alias.

Run: python bench/registry.py [--json FILE] [--no-peer]. MLflow's environment is made by scripts/peers.py. A pair is a new version
(of a run's files, hashed and signed) and the move of an alias to it, both durable and in the ledger when answered. Rates are by
the clock and by this process's CPU: two commits a pair are two waits for the disk. Goals: 500 pairs/s and 5,000 reads/s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from peers import MLFLOW, environment

PAIRS, READS, ROUNDS = 100, 1000, 3

PEER = r"""
import json, sys, time
import mlflow
def rate(count, work):
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        work(n)
    return count / (time.perf_counter() - began), count / (time.process_time() - cpu)
mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
client = mlflow.MlflowClient()
client.create_registered_model("m")
def pair(n):
    client.set_registered_model_alias("m", "champion", client.create_model_version("m", "s3://bucket/m").version)
found = {"pairs": rate(int(sys.argv[2]), pair)}
found["reads"] = rate(int(sys.argv[3]), lambda n: client.get_model_version_by_alias("m", "champion"))
print(json.dumps(found))
"""


def theirs() -> dict[str, tuple[float, float]]:
    """MLflow's rates, a second: by the clock, by CPU."""
    with tempfile.TemporaryDirectory() as folder:
        command = [environment(MLFLOW[0]), "-W", "ignore", "-c", PEER, folder, str(PAIRS), str(READS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours() -> dict[str, tuple[float, float]]:
    """Loopline's rates, a second: by the clock, by CPU."""
    from loopline.app import Platform
    from loopline.operations import Body

    with tempfile.TemporaryDirectory() as folder:
        platform = Platform.open(workspace=Path(folder, "w"), checkpoints=str(Path(folder, "copies")))
        session = platform.session()
        run = session.runs.create("fit").id
        session.runs.put_artifact(run, "model/MLmodel", Body(b"flavors: {}\n"))

        def pair(_: int) -> None:
            made = session.models.add("m", files=f"run:{run}", path="model", run=run)
            session.models.set_alias("m", "champion", made.version)

        pair(0)
        found = {
            "pairs": _rate(PAIRS, pair),
            "reads": _rate(READS, lambda _: session.models.show("m", "champion")),
        }
        platform.close()
    return found


def _rate(count: int, work: Callable[[int], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        work(n)
    return count / (time.perf_counter() - began), count / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    whose = {"loopline": ours} if options.no_peer else {"loopline": ours, "mlflow": theirs}
    rounds = [{who: rates() for who, rates in whose.items()} for _ in range(ROUNDS)]
    found = {
        who: {
            what: tuple(map(statistics.median, zip(*(one[who][what] for one in rounds), strict=True)))
            for what in ("pairs", "reads")
        }
        for who in whose
    }
    print(f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':10} {'pairs/s':>10} {'by CPU':>10} {'reads/s':>10} {'by CPU':>10}")
    for who, rates in found.items():
        print(f"{who:10}" + "".join(f" {value:10,.0f}" for pair in (rates["pairs"], rates["reads"]) for value in pair))
    if len(found) == 2:
        ratios = (
            a / b for what in ("pairs", "reads") for a, b in zip(*(found[who][what] for who in found), strict=True)
        )
        print(f"{'ratio':10}" + "".join(f" {ratio:9.1f}x" for ratio in ratios))
    if options.json:
        Path(options.json).write_text(json.dumps({"load": load, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
