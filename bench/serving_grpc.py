"""Processor time of a gRPC call: our worker beside a grpcio server that gives the same bytes back.

One row of 20 numbers as 20 tensors (raw contents), logistic regression, 8 calls at once on 4 channels; validation, routing, log and
metrics on. Both servers are grpc.aio in one process each, and are asked in turns; the load comes from a process of its own. The
goal is at most 2.2 of the echo.

    python bench/serving_grpc.py [--rounds 5] [--seconds 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "beside"))

METHOD = "/inference.GRPCInferenceService/ModelInfer"
GOAL = 2.2
TICK = os.sysconf("SC_CLK_TCK")
CHANNELS, CALLS = 4, 8


async def echo() -> None:
    """The other server: prints its port."""
    import grpc

    async def same(data: bytes, context: object) -> bytes:
        return data

    service, _, method = METHOD[1:].partition("/")
    server = grpc.aio.server()
    handlers = {method: grpc.unary_unary_rpc_method_handler(same)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


async def load(port: int, seconds: float) -> None:
    """Asks for so long; prints how many were answered."""
    import grpc
    from models import rows

    from loopline.serving.grpc.messages import OIP

    request = OIP["ModelInferRequest"](model_name="bench")
    for n, value in enumerate(rows(1)[0]):
        request.inputs.add(name=f"x{n:02d}", datatype="FP64", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<d", value))
    body = request.SerializeToString()
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    end, count = time.perf_counter() + seconds, 0

    async def ask(channel: grpc.aio.Channel) -> None:
        nonlocal count
        call = channel.unary_unary(METHOD)
        while time.perf_counter() < end:
            assert await call(body)
            count += 1

    await asyncio.gather(*(ask(channels[n % CHANNELS]) for n in range(CALLS)))
    print(count)


def cpu(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.echo:
        asyncio.run(echo())
        return
    if given.load:
        asyncio.run(load(given.load, given.seconds))
        return
    from serve_loopline import write_bundle

    from loopline.serving.records import BUCKETS, Endpoint, RouteTable, Variant
    from loopline.serving.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="ll-bench-") as name:
        folder = Path(name)
        write_bundle(folder / "bundle", "logistic")
        variant = Variant(name="champion", bundle=str(folder / "bundle"), model="model:bench@1", weight=BUCKETS)
        ours = Supervisor(folder / "s", log=folder / "log", port=0, grpc_port=0)
        ours.start(RouteTable(epoch=1, endpoints={"bench": Endpoint(name="bench", variants=(variant,))}))
        other = subprocess.Popen([sys.executable, __file__, "--echo"], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        servers = {"ours": (ours.grpc_port, ours.pids[0]), "echo": (int(other.stdout.readline()), other.pid)}
        turns: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(given.rounds + 1):
            for name, (port, pid) in servers.items():
                spent = cpu(pid)
                command = [sys.executable, __file__, "--load", str(port), "--seconds", str(given.seconds)]
                count = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                if turn:  # the first warms up
                    turns[name].append((cpu(pid) - spent) / count * 1e6)
        other.terminate()
        other.wait()
        ours.stop()
    ratios = [a / b for a, b in zip(turns["ours"], turns["echo"], strict=True)]
    found = {name: statistics.median(values) for name, values in turns.items()} | {"ratio": statistics.median(ratios)}
    print(f"CPU us/call: ours {found['ours']:.0f}, echo {found['echo']:.0f}; ratio {found['ratio']:.2f}", end=" ")
    print(f"(turns {min(ratios):.2f} to {max(ratios):.2f}), goal {GOAL}; load {os.getloadavg()[0]:.1f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
