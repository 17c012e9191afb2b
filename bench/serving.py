"""Servers of one model beside each other, all in one run: ours, peers in environments of their own, and the limits.

Logistic regression, boosted trees and a small neural net of 20 numbers; 1 and 32 rows a request; 1, 16 and 64 keep-alive
connections. All servers of a model run at once with one worker each and are asked in turns, a few seconds each. The load comes
from a process of its own (bench/beside/http_load.py), the same for all, and shares the cores with whoever is measured: what
counts is the processor time of all of a server's processes a request, and the ratios. Ours has log, routing, validation and
metrics on. The limits are bare uvicorn, which reads the same body and answers "hello", and onnxruntime in a loop without any
server.

The goal is at most 1.25 of bare uvicorn, one row and 16 connections. With --bundle it is the example row of that bundle, against
bare uvicorn alone, and the goal is not meant: such a row is longer, and its model larger.

    python bench/serving.py [--rounds 5] [--seconds 2] [--only NAME,...] [--models NAME,...] [--bundle FOLDER]
        [--json FILE] [--plot FILE]
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "beside"))
from models import KINDS, rows
from servers import LIMIT, OURS, WAYS, Server

LOAD = Path(__file__).parent / "beside" / "http_load.py"
ROWS, CONNECTIONS = (1, 32), (1, 16, 64)
GOAL = 1.25
ENGINE = "onnxruntime, no server"
Figures = dict[str, float]


def asked(server: Server, body: Path, connections: int, seconds: float) -> Figures:
    """One turn of a server."""
    spent = server.cpu()
    command = [
        sys.executable,
        LOAD,
        str(server.port),
        server.way.path,
        body,
        str(connections),
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    found: Figures = json.loads(done.stdout)
    return found | {"us": (server.cpu() - spent) / found["requests"] * 1e6}


def engine_alone(bundle: Path, count: int) -> Figures:
    """onnxruntime in a loop: microseconds of the processor that a request's rows take."""
    from loopline.packaging.runtime import open_session

    session = open_session((bundle / "model.onnx").read_bytes())
    numbers = np.array(rows(count), np.float32)
    spent = time.process_time()
    for _ in range(2_000):
        session.run(["probabilities"], {"numbers": numbers})
    return {"us": (time.process_time() - spent) / 2_000 * 1e6}


def measured(kind: str, names: list[str], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One model on all servers."""
    with ExitStack() as running:
        servers = []
        for name in names:
            server = Server(name, kind, folder / name.replace(" ", "-"), given.bundle)
            running.callback(server.stop)
            servers.append(server)
            print(f"{kind}: {name} answers after {server.ready:.2f} s", file=sys.stderr)
        points: dict[str, dict[str, Figures]] = {}
        for count in (1,) if given.bundle else ROWS:
            for connections in CONNECTIONS:
                turns: dict[str, list[Figures]] = {name: [] for name in names}
                engine: list[Figures] = []
                for turn in range(given.rounds + 1):
                    for server in servers:
                        body = folder / "body"
                        body.write_bytes(server.body(count))
                        found = asked(server, body, connections, given.seconds)
                        if turn:  # the first warms up
                            turns[server.name].append(found)
                    if OURS in names and not given.bundle:
                        engine.append(engine_alone(folder / OURS / "bundle", count))
                middle = {name: _medians(found) for name, found in turns.items()}
                if OURS in names and LIMIT in names:
                    ratios = [ours["us"] / limit["us"] for ours, limit in zip(turns[OURS], turns[LIMIT], strict=True)]
                    middle[OURS] |= {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
                points[f"{count} rows, {connections} connections"] = middle | (
                    {ENGINE: _medians(engine)} if engine else {}
                )
                _print(kind, count, connections, middle, engine)
        whole = {s.name: {"ready_s": s.ready, "mb": s.memory(), "processes": len(s.processes)} for s in servers}
    for name, one in whole.items():
        print(
            f"{kind}: {name:16} ready in {one['ready_s']:6.2f} s, {one['mb']:6.0f} MB in {one['processes']} processes"
        )
    return {"points": points, "servers": whole}


def _medians(found: list[Figures]) -> Figures:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _print(kind: str, count: int, connections: int, middle: dict[str, Figures], engine: list[Figures]) -> None:
    print(f"\n{kind}, {count} row{'s' * (count > 1)} a request, {connections} connection{'s' * (connections > 1)}")
    print(f"  {'':24}{'CPU us/request':>15}{'to ours':>9}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'load us':>9}")
    ours = middle.get(OURS)
    for name, m in middle.items():
        times = "" if ours is None else f"{m['us'] / ours['us']:8.2f}x"
        print(
            f"  {name:24}{m['us']:15.1f}{times:>9}{m['rps']:12,.0f}{m['p50'] * 1e3:9.2f}{m['p99'] * 1e3:9.2f}{m['load_us']:9.1f}"
        )
    if engine:
        print(f"  {ENGINE:24}{_medians(engine)['us']:15.1f}")
    if ours is not None and "ratio" in ours:
        print(
            f"  ours to bare uvicorn {ours['ratio']:.2f} (turns {ours['least']:.2f} to {ours['most']:.2f}), goal {GOAL}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default=",".join(WAYS), help="some of the servers")
    parser.add_argument("--models", default=",".join(KINDS), help="some of the models")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    names = [OURS, LIMIT] if given.bundle else given.only.split(",")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="ll-bench-") as name:
        kinds = ["bundle"] if given.bundle else given.models.split(",")
        found = {kind: measured(kind, names, given, Path(name) / kind) for kind in kinds}
    print(
        f"load {load:.1f} to {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, of which the servers and the load are a part"
    )
    if given.json:
        given.json.write_text(json.dumps({"load": load, **found}, indent=1) + "\n")
    if given.plot:
        from plots import draw_serving

        draw_serving(given.plot, found)


if __name__ == "__main__":
    main()
