"""The supervisor: binds the port, keeps the workers alive, and puts routing tables in force on all of them.

It carries no traffic. Its listening socket stays open while workers come and go, so that a client that connects while one is
started again waits instead of being refused. Lives in the control process; its methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, Unavailable, from_dict
from loopline.serving.door import Change, Order, Reply, frame, read_state, receive, write_state
from loopline.serving.limits import share
from loopline.serving.records import ControlMessage, RouteTable, WorkerSettings

logger = logging.getLogger("loopline.serving")
START = 60.0
"""Seconds that a worker may say nothing in, while it loads its table or prepares a new one."""
BACK_OFF = (0.1, 10.0)
"""Seconds before a dead worker is started again: the first time, and at most."""
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
"""glibc keeps what the pieces of a body took: a third of the time of an upload went into giving it back and fetching it anew."""
STEADY = 10.0
"""A worker that lived so many seconds starts again without delay."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `Conflict` (the port is in use) or `Invalid` (there is no such address here)."""
    sock = _bind(host, port)
    sock.listen(2048)
    return sock


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket; `shared`: others of this user may bind its port, too, and this one only keeps it. Raises as `listen`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as e:
        raise Invalid(f"{host!r}:{port} is no address to listen on: {e}.", code="bad-address") from e
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except (OSError, OverflowError) as e:
        sock.close()
        if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
            raise Conflict(
                f"Port {port} on {host} is in use.",
                code="port-in-use",
                hint=f"Choose another (--port {port + 1}), or stop what listens there.",
                host=host,
                port=port,
            ) from e
        raise Invalid(f"It cannot be listened on {host}:{port}: {e}.", code="bad-address") from e
    return sock


class _Worker:
    """One place for a worker process, filled again when the process dies."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.door: socket.socket | None = None
        self.replies: queue.Queue[Reply | None] = queue.Queue()
        self.ready = threading.Event()
        self.epoch = -1
        self.heard = 0.0
        """When it last said that it loads models, by time.monotonic."""
        self.restarts = 0
        self.keeper: threading.Thread | None = None
        self.sending = threading.Lock()

    def reply(self, since: float) -> Reply | None:
        """Its next reply; None: it died. Raises queue.Empty where it says nothing for long, not even that it loads models."""
        while True:
            left = max(since, self.heard) + START - time.monotonic()
            try:
                return self.replies.get(timeout=max(0.0, left))
            except queue.Empty:
                if max(since, self.heard) + START <= time.monotonic():
                    raise

    def send(self, order: Order) -> None:
        """Puts an order on the door. Raises OSError or AttributeError where there is none."""
        with self.sending:
            self.door.sendall(frame(order))  # type: ignore[union-attr]


class Supervisor:
    """Workers on one port.

    `folder` is for the supervisor's own files: the routing table in force (`routes.json`, mode 0600), the workers' settings
    and what they say (`worker-N.err`). `log` is the prediction log's folder, `control` the Unix socket of the control process.
    `grpc_port` is where gRPC is answered, too (None: nowhere; 0: any free port). `change` is called with "load" or "unload" and the
    name of a model where a caller asks for it, in a thread of its own (None: callers are refused).
    `options` are further fields of `WorkerSettings`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Path,
        host: str = "127.0.0.1",
        port: int = 8400,
        workers: int = 1,
        control: str = "",
        grpc_port: int | None = None,
        change: Callable[[str, str], None] | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.grpc_port = grpc_port
        self._reserved: socket.socket | None = None
        self.host = host
        self.port = port
        self._log = log
        self._control = control
        self._change = change
        self._options = options
        self._workers = [_Worker(n) for n in range(workers)]
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch that all workers acknowledged last."""
        return self._epoch

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run."""
        return [w.process.pid for w in self._workers if w.process is not None and w.process.poll() is None]

    @property
    def restarts(self) -> int:
        """How often a worker died and was started again."""
        return sum(w.restarts for w in self._workers)

    def start(self, table: RouteTable | None = None, tokens: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Binds the port, starts the workers and waits until they answer.

        `table` is put in force from the start; without it the last one on file is. Raises `Conflict` where the port is in use
        (nothing is started then), `Unavailable` with what the worker said where it does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.grpc_port is not None and importlib.util.find_spec("grpc") is None:
            raise MissingExtra("Answering gRPC needs grpcio.", extra="grpc")
        self._socket = listen(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        grpc = None
        if self.grpc_port is not None:
            try:
                self._reserved = _bind(self.host, self.grpc_port, shared=True)
            except BaseException:
                self._socket.close()
                raise
            grpc = self._reserved.getsockname()[:2]
            self.grpc_port = grpc[1]
        counters = self.folder / "counters"
        counters.mkdir(exist_ok=True)
        for old in counters.iterdir():
            old.unlink()
        if table is not None:
            write_state(self._state, ControlMessage(table=table, tokens=dict(tokens or {})))
        limits = self.folder / "limits"
        share(limits, len(self._workers))
        known = read_state(self._state)
        self._epoch = known.table.epoch if known is not None else 0
        for worker in self._workers:
            settings = WorkerSettings(
                worker=worker.number,
                state=str(self._state),
                log=str(self._log),
                control=self._control,
                repository=self._change is not None,
                grpc=grpc,
                metrics=str(counters) if len(self._workers) > 1 else "",
                limits=str(limits),
                **self._options,
            )
            self._settings(worker).write_bytes(msgspec.json.encode(settings))
            worker.keeper = threading.Thread(
                target=self._keep, args=(worker,), name=f"worker-{worker.number}", daemon=True
            )
            worker.keeper.start()
        begun = time.monotonic()
        for worker in self._workers:
            while not worker.ready.wait(0.02):
                if worker.restarts or time.monotonic() > max(begun, worker.heard) + START:
                    said = self._said(worker)
                    self.stop()
                    raise Unavailable(
                        f"Worker {worker.number} does not start: {said}", code="worker-down", hint=f"See {self.folder}."
                    )

    def push(self, table: RouteTable, tokens: Mapping[str, tuple[str, ...]] | None = None) -> int:
        """Puts a table in force on every worker; gives its epoch when all have acknowledged it.

        All prepare it first; where one refuses (a bundle that is missing, broken or fails its golden row), its error is raised
        and the table before stays in force everywhere. Raises `Conflict` for an epoch that is not a new one.
        """
        message = ControlMessage(table=table, tokens=dict(tokens or {}))
        with self._lock:
            if table.epoch <= self._epoch:
                raise Conflict(
                    f"Epoch {table.epoch} is not after {self._epoch}, which is in force.",
                    code="old-epoch",
                    hint="A rollback is a new epoch too.",
                )
            workers = [w for w in self._workers if w.ready.is_set()]
            prepared = self._order(workers, Order(do="prepare", epoch=table.epoch, message=message))
            if not prepared:
                raise Unavailable("No worker runs.", code="worker-down", hint="They are being started again.")
            write_state(self._state, message)
            self._epoch = table.epoch
            self._order(prepared, Order(do="commit", epoch=table.epoch))
            for worker in self._workers:
                if worker.ready.is_set() and worker.epoch != table.epoch:
                    self._replace(worker)
        return table.epoch

    def stop(self) -> None:
        """Ends the workers; each finishes what it has in flight first."""
        with self._starting:
            self._stopping.set()
        for held in (self._socket, self._reserved):
            if held is not None:
                held.close()
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.process.terminate()
        for worker in self._workers:
            if worker.keeper is not None:
                worker.keeper.join()

    # ------------------------------------------------------------------ orders

    def _order(self, workers: list[_Worker], order: Order) -> list[_Worker]:
        """Gives workers an order and waits for their replies; gives those that obeyed, without those that died meanwhile.

        Raises what one refused.
        """
        asked = []
        for worker in workers:
            while not worker.replies.empty():
                worker.replies.get_nowait()
            with contextlib.suppress(OSError, AttributeError):
                worker.send(order)
                asked.append(worker)
        done: list[_Worker] = []
        refusal: LooplineError | None = None
        begun = time.monotonic()
        for worker in asked:
            try:
                reply = worker.reply(begun)
            except queue.Empty:
                refusal = refusal or Unavailable(
                    f"Worker {worker.number} said nothing for {START:.0f} s.", code="worker-slow"
                )
                self._replace(worker)
                continue
            if reply is None:
                continue
            if reply.error is not None:
                refusal = from_dict(reply.error)
                continue
            worker.epoch = reply.epoch if order.do == "commit" else worker.epoch
            done.append(worker)
        if refusal is not None and order.do == "prepare":
            raise refusal
        return done

    def _replace(self, worker: _Worker) -> None:
        """Ends a worker that does not follow; its successor reads the table from the file."""
        worker.ready.clear()
        if worker.process is not None:
            worker.process.terminate()

    def _asked(self, worker: _Worker, change: Change | None) -> None:
        """Has the models changed as a worker's caller asks, and tells how it went."""
        assert change is not None
        error = None
        try:
            if self._change is None:
                raise Conflict("What is served is not changed here.", code="deployment-rules")
            self._change(change.action, change.model)
        except LooplineError as e:
            error = e.to_dict()
        except Exception as e:
            logger.exception("A change of what is served failed")
            error = Unavailable(f"It could not be done: {type(e).__name__}.", code="worker-down").to_dict()
        with contextlib.suppress(OSError, AttributeError):  # who asked is gone
            worker.send(Order(do="answer", number=change.number, error=error))

    # ------------------------------------------------------------------ processes

    @property
    def _state(self) -> Path:
        return self.folder / "routes.json"

    def _settings(self, worker: _Worker) -> Path:
        return self.folder / f"worker-{worker.number}.json"

    def _said(self, worker: _Worker) -> str:
        """The last line that the worker wrote."""
        try:
            lines = (self.folder / f"worker-{worker.number}.err").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it says nothing"

    def _keep(self, worker: _Worker) -> None:
        """Runs the worker, again and again, until the supervisor stops."""
        delay = BACK_OFF[0]
        while not self._stopping.is_set():
            started = time.monotonic()
            with self._starting:
                if self._stopping.is_set():
                    return
                self._spawn(worker)
            self._listen_to(worker)
            assert worker.process is not None
            worker.process.wait()
            worker.ready.clear()
            worker.replies.put(None)
            if worker.door is not None:
                worker.door.close()
            if self._stopping.is_set():
                return
            worker.restarts += 1
            delay = BACK_OFF[0] if time.monotonic() - started > STEADY else min(delay * 2, BACK_OFF[1])
            self._stopping.wait(0 if worker.process.returncode == 0 else delay)

    def _spawn(self, worker: _Worker) -> None:
        assert self._socket is not None
        ours, theirs = socket.socketpair()
        listening = self._socket.fileno()
        with theirs, (self.folder / f"worker-{worker.number}.err").open("wb") as said:
            worker.door = ours
            worker.process = subprocess.Popen(
                [
                    sys.executable, "-m", "loopline.serving.worker", str(self._settings(worker)),
                    "--fd", str(listening), "--door", str(theirs.fileno()),
                ],
                pass_fds=(listening, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, **_MEMORY, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # an interrupt at the terminal is the supervisor's to handle
            )  # fmt: skip

    def _listen_to(self, worker: _Worker) -> None:
        """Takes what the worker says until it hangs up."""
        assert worker.door is not None
        while (data := receive(worker.door)) is not None:
            reply = msgspec.json.decode(data, type=Reply)
            if reply.did == "loads":
                worker.heard = time.monotonic()
            elif reply.did == "asks":
                threading.Thread(target=self._asked, args=(worker, reply.change), daemon=True).start()
            elif reply.did != "hello":
                worker.replies.put(reply)
            elif reply.epoch < self._epoch:
                self._replace(worker)  # it read the file just before a new table came
            else:
                if reply.error is not None:
                    logger.error("Worker %d does not serve all endpoints: %s", worker.number, from_dict(reply.error))
                worker.epoch = reply.epoch
                worker.ready.set()
