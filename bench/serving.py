"""Server CPU per request: our worker against bare uvicorn that answers "hello" to the same body.

One row of 20 numbers as JSON, logistic regression, 16 keep-alive connections; validation, routing, log and metrics on. The load
comes from a process of its own; both servers run at once and are measured in turns, CPU from /proc/PID/stat. Prints a table
and one line of JSON. The goal is a ratio of at most 1.25.

With --bundle it is the example row of that bundle instead, and the goal is not meant: such a row is longer, and its model larger.

    python bench/serving.py [--connections 16] [--rounds 6] [--seconds 1.5] [--bundle FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = [f"x{n:02d}" for n in range(20)]
TICK = os.sysconf("SC_CLK_TCK")


def write_bundle(folder: Path) -> Path:
    """A logistic regression of 20 numbers."""
    import msgspec
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from loopline.features.records import Field, Signature
    from loopline.hashing import digest_file
    from loopline.packaging.records import Manifest
    from loopline.packaging.runtime import encode, open_session

    rng = np.random.default_rng(1)
    constants = {
        "w": rng.normal(size=(20, 1)).astype(np.float32),
        "b": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["numbers", "w", "b"], ["s"]),
            helper.make_node("Sigmoid", ["s"], ["p"]),
            helper.make_node("Sub", ["one", "p"], ["q"]),
            helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        ],
        "logistic",
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, 20])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = Manifest(
        name="bench", version=1, task="binary", classes=("0", "1"), threshold=0.5,
        signature=Signature(
            inputs=tuple(Field(name=n, kind="number", nullable=True) for n in NAMES), task="binary", classes=("0", "1")
        ),
        runtime="onnx", numbers=tuple(NAMES), strings=(), outputs=("probabilities",),
        example=dict.fromkeys(NAMES, 0.5), golden={}, digests={"model.onnx": digest_file(folder / "model.onnx")}, created=0,
    )  # fmt: skip
    session = open_session((folder / "model.onnx").read_bytes())
    golden = encode(session.run(None, {"numbers": np.full((1, 20), 0.5, np.float32)})[0], manifest)[0]
    (folder / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, golden=golden)))
    return folder


async def hello(scope, receive, send):  # type: ignore[no-untyped-def]
    """The limit: reads the body, answers."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def serve_hello(fd: int) -> None:
    """The peer's process."""
    import uvicorn

    config = uvicorn.Config(
        hello, loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=75,
    )  # fmt: skip
    server = uvicorn.Server(config)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[socket.socket(fileno=fd)]))


class Client(asyncio.Protocol):
    """Sends the request again as soon as it is answered."""

    def __init__(self, request: bytes, times: list[float], until: float) -> None:
        self.request = request
        self.times = times
        self.until = until
        self.done = asyncio.get_running_loop().create_future()
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.at = time.perf_counter()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Looks whether the answer is whole."""
        self.got += data
        head, _, body = self.got.partition(b"\r\n\r\n")
        at = head.find(b"content-length: ")
        if at < 0 or len(body) < int(head[at + 16 :].split(b"\r\n", 1)[0]):
            return
        if not self.got.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self.got)
        self.got = b""
        now = time.perf_counter()
        self.times.append(now - self.at)
        if now < self.until:
            self._send()
        elif not self.done.done():
            self.transport.close()
            self.done.set_result(None)


def row_of(bundle: Path | None) -> dict[str, object]:
    """The row that is sent."""
    if bundle is not None:
        return json.loads((bundle / "manifest.json").read_bytes())["example"]
    rng = random.Random(1)
    return {name: rng.gauss(0, 1) for name in NAMES}


async def load(port: int, path: str, connections: int, seconds: float, bundle: Path | None) -> dict[str, float]:
    """Requests for so many seconds."""
    body = json.dumps([row_of(bundle)]).encode()
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    times: list[float] = []
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    start = time.perf_counter()
    made = [
        await loop.create_connection(lambda: Client(request, times, until), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in made))
    elapsed = time.perf_counter() - start
    times.sort()
    return {"requests": len(times), "rps": len(times) / elapsed, "p50": times[len(times) // 2],
            "p99": times[int(len(times) * 0.99)]}  # fmt: skip


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> float:
    """Resident MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> None:
    """Starts both, measures in turns, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--hello", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hello is not None:
        serve_hello(args.hello)
        return
    if args.load:
        import uvloop

        port, path = args.load.split(",")
        print(json.dumps(uvloop.run(load(int(port), path, args.connections, args.seconds, args.bundle))))
        return
    from loopline.serving.records import Endpoint, RouteTable, Variant
    from loopline.serving.supervisor import Supervisor, listen

    with tempfile.TemporaryDirectory(prefix="ll-bench-") as name:
        folder = Path(name)
        bundle = args.bundle or write_bundle(folder / "bundle")
        server = Supervisor(folder / "s", log=folder / "log", port=0)
        variant = Variant(name="champion", bundle=str(bundle), model="model:bench@1", weight=10_000)
        begun = time.perf_counter()
        server.start(RouteTable(epoch=1, endpoints={"bench": Endpoint(name="bench", variants=(variant,))}))
        ready = time.perf_counter() - begun
        sock = listen("127.0.0.1", 0)
        peer = subprocess.Popen([sys.executable, __file__, "--hello", str(sock.fileno())], pass_fds=[sock.fileno()])
        time.sleep(1)
        targets = {
            "loopline worker": (server.pids[0], server.port, "/predict/bench"),
            "bare uvicorn hello": (peer.pid, sock.getsockname()[1], "/predict/bench"),
        }
        found: dict[str, list[dict[str, float]]] = {k: [] for k in targets}
        try:
            for turn in range(args.rounds + 1):
                for label, (pid, port, path) in targets.items():
                    before = cpu(pid)
                    command = [
                        sys.executable,
                        __file__,
                        "--load",
                        f"{port},{path}",
                        "--connections",
                        str(args.connections),
                        *(["--bundle", str(args.bundle)] if args.bundle else []),
                    ]
                    said = subprocess.run([*command, "--seconds", str(args.seconds)], capture_output=True, check=True)
                    result = json.loads(said.stdout)
                    result["us"] = (cpu(pid) - before) / result["requests"] * 1e6
                    if turn:  # the first warms up
                        found[label].append(result)
            resident = memory(server.pids[0])
        finally:
            peer.send_signal(signal.SIGTERM)
            peer.wait()
            server.stop()
            sock.close()
    middle = {k: {m: statistics.median(r[m] for r in rs) for m in rs[0]} for k, rs in found.items()}
    print(f"{'':22}{'CPU us/request':>16}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for label, m in middle.items():
        print(f"{label:22}{m['us']:16.1f}{m['rps']:12.0f}{m['p50'] * 1e3:9.2f}{m['p99'] * 1e3:9.2f}")
    ours, limit = middle.values()
    ratios = [a["us"] / b["us"] for a, b in zip(*found.values(), strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"ratio {ratio:.2f} (rounds {min(ratios):.2f} to {max(ratios):.2f}), goal <= 1.25; "
        f"ready in {ready:.2f} s, {resident:.0f} MB"
    )
    print(json.dumps({"ratio": ratio, "ours": ours, "limit": limit, "ready_s": ready, "memory_mb": resident}))


if __name__ == "__main__":
    main()
