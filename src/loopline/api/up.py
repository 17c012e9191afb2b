"""A workspace in service: the workers on its port, the API behind them, and the controller, from start to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from loopline.access.authority import digests_for, living_digests
from loopline.api.bodies import INCOMING
from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.catalog import Session
from loopline.client.sender import sync
from loopline.errors import LooplineError
from loopline.failpoints import failpoint
from loopline.loop.collecting import collect_due
from loopline.loop.controller import Controller
from loopline.loop.lease import held
from loopline.loop.records import LoopRequest
from loopline.loop.standing import Standing, standing
from loopline.outcomes.records import SEPARATOR
from loopline.packaging.opening import opening_of
from loopline.refs import DEFAULT_PROJECT
from loopline.serving.log import segments
from loopline.serving.records import KNOWN, RouteTable
from loopline.serving.supervisor import Supervisor
from loopline.serving.tls import check_pair
from loopline.settings import Settings
from loopline.tracking.journal import Target

log = logging.getLogger("loopline.up")

SERVER_FILE = "server.json"
"""In the workspace, while it is in service: who serves it and where."""

_TURN_SECONDS = 0.5
_TURN_ANYWAY_SECONDS = 30.0
_UPKEEP_SECONDS = 300.0


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workspace is served, and by which process."""

    url: str
    pid: int
    started: int


def address_of(workspace: Path) -> Address | None:
    """The address of the server that serves this workspace, where one runs."""
    try:
        found = msgspec.json.decode((workspace / SERVER_FILE).read_bytes(), type=Address)
        os.kill(found.pid, 0)
    except (FileNotFoundError, msgspec.DecodeError, ProcessLookupError):
        return None
    except PermissionError:  # it runs, as another user
        pass
    return found


def note(workspace: Path, address: Address) -> None:
    """Says in the workspace who serves it; the file appears whole or not at all."""
    aside = workspace / f"{SERVER_FILE}.{os.getpid()}"
    aside.write_bytes(msgspec.json.encode(address))
    failpoint("api.up.before_rename")
    aside.replace(workspace / SERVER_FILE)


class Service:
    """A workspace in service, from `start` until `stop`. One process at a time; raises `Conflict` where another has it.

    The control process is this one; prediction workers are its children. What it does by itself it does as the user who
    started it.
    """

    def __init__(
        self, settings: Settings, *, workers: int = 1, grpc_port: int | None = None, turn: float = _TURN_SECONDS
    ) -> None:
        self.settings = settings
        self._workers = workers
        self._grpc_port = grpc_port
        self._turn = turn
        self._open = contextlib.ExitStack()
        self._stopping = threading.Event()
        self.url = ""

    def start(self) -> Service:
        """Takes the lease, binds the port, starts workers, API and controller; ready when it returns."""
        settings = self.settings
        workspace = settings.workspace
        check_pair(settings.tls_cert, settings.tls_key)
        scheme = "https" if settings.tls_cert else "http"
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        with contextlib.ExitStack() as opening:
            opening.enter_context(held(workspace, "loopline up", f"{scheme}://{shown}:{settings.port}"))
            self.platform = Platform.open(settings)
            opening.callback(self.platform.close)
            control = workspace / "control.sock"
            self.supervisor = Supervisor(
                workspace / "serving",
                log=workspace / "serving" / "log",
                host=settings.host,
                port=settings.port,
                workers=self._workers,
                control=str(control),
                grpc_port=self._grpc_port,
                incoming=str(workspace / INCOMING),
                allowed_hosts=tuple(h for h in (*settings.allowed_hosts.split(","), settings.host) if h),
                forward_limit=settings.body_limit,
                tls_cert=settings.tls_cert and str(Path(settings.tls_cert).absolute()),
                tls_key=settings.tls_key and str(Path(settings.tls_key).absolute()),
                sync=settings.log_sync,
                disk_full=settings.log_full,
                trace_to=settings.trace_to,
                trace_share=settings.trace_share,
                opening=opening_of(settings),
            )
            api = ApiServer(self.platform, control=control)
            opening.callback(api.stop)
            api.start()
            session = self.platform.session()
            table = session.endpoints.routes()
            tokens = self._tokens_of(table)
            self._known = (table, tokens)
            self._in_force = (table, tokens)
            self.supervisor.start(table, tokens)
            opening.callback(self.supervisor.stop)
            self.url = f"{scheme}://{shown}:{self.supervisor.port}"
            note(workspace, Address(url=self.url, pid=os.getpid(), started=self.platform.clock.now()))
            opening.callback((workspace / SERVER_FILE).unlink, missing_ok=True)
            self.controller = Controller(
                session,
                self.platform.clock,
                launch=self._launch,
                route=self._route,
                open_model=self.platform.open_model,
                standing=self._standing,
            )
            for name, turns in (
                ("sources", self._collect),
                ("controller", self._turns),
                ("journals", self._take_journals),
            ):
                thread = threading.Thread(target=turns, name=f"loopline-{name}", daemon=True)
                opening.callback(self._end_turns, thread)
                thread.start()
            self._open = opening.pop_all()
        return self

    def stop(self) -> None:
        """Ends after the requests under way: controller, workers, API, in this order."""
        self._open.close()

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _standing(self) -> Standing:
        """What there is to look after."""
        log = self.settings.workspace / "serving" / "log"
        logged = sum(path.stat().st_size for path in segments(log))
        with self.platform.database.begin(lazy=True) as tx:
            return standing(tx, logged)

    def _turns(self) -> None:
        """Turns of the controller where there may be something to do, and now and then in any case."""
        kept_up = time.monotonic()
        turned = -_TURN_ANYWAY_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            if began - turned >= _TURN_ANYWAY_SECONDS or self.controller.due():
                turned = began
                self.controller.tick()
            if began - kept_up > _UPKEEP_SECONDS:
                kept_up = began
                self._keep_up()
            self._stopping.wait(max(0.05, self._turn - (time.monotonic() - began)))

    def _keep_up(self) -> None:
        """Signs what the ledger has not signed yet, and removes bytes that nothing refers to any more."""
        try:
            self.platform.upkeep()
        except Exception:
            log.exception("The upkeep failed; it is tried again later.")

    def _take_journals(self) -> None:
        """Takes what programs that ended logged for this workspace and could not send; now, and again later."""

        def session(target: Target) -> Session | None:
            ours = target.server in ("", self.url) and not self._stopping.is_set()
            return self.platform.session(project=target.project) if ours else None

        while not self._stopping.is_set():
            try:
                for report in sync(self.settings.workspace / "journals", session):
                    for said in filter(None, (report.note, *report.damages, *report.lost)):
                        log.warning("The journal %s: %s", report.sender, said)
            except Exception:
                log.exception("The journals could not be taken; it is tried again later.")
            self._stopping.wait(_UPKEEP_SECONDS)

    def _collect(self) -> None:
        """Reads what is due of datasets that are collected by themselves: beside the controller, which waits for no source."""
        sources = self.platform.session().sources
        while not self._stopping.is_set():
            try:
                if self._standing().scheduled:
                    collect_due(sources, self.platform.clock.now())
            except Exception:
                log.exception("The sources could not be looked at; it is tried again.")
            self._stopping.wait(self._turn)

    def _end_turns(self, thread: threading.Thread) -> None:
        self._stopping.set()
        thread.join()

    def _route(self) -> None:
        """Puts the routing table in force where it changed, or where who may call did."""
        table = self.platform.session().endpoints.routes()
        tokens = self._tokens_of(table)
        if (table, tokens) == self._known:
            return
        try:
            self._push(table, tokens)
        except LooplineError:
            # Where the new table cannot be served the old one stays; who may call changes all the same, and at once.
            old, given = self._in_force
            left = {address: tokens.get(address, ()) for address in (KNOWN, *old.endpoints)}
            if left != given:
                self._push(old, left)
            raise
        self._known = (table, tokens)

    def _push(self, table: RouteTable, tokens: dict[str, tuple[str, ...]]) -> None:
        # Tokens change without a new epoch of ours, and the workers take nothing but a new one.
        epoch = max(table.epoch, self.supervisor.epoch + 1)
        self.supervisor.push(msgspec.structs.replace(table, epoch=epoch), tokens)
        self._in_force = (table, tokens)

    def _tokens_of(self, table: RouteTable) -> dict[str, tuple[str, ...]]:
        """The tokens that are known, and those that may call each endpoint of the table."""
        with self.platform.database.begin(lazy=True) as tx:
            known = living_digests(tx)
            allowed = digests_for(tx, "predict")
        return {KNOWN: known} | {
            address: allowed.get(address.rpartition(SEPARATOR)[0] or DEFAULT_PROJECT, ()) for address in table.endpoints
        }

    def _launch(self, request: LoopRequest) -> subprocess.Popen[bytes]:
        """Runs an asked run in a process of its own; what it says goes to a file of the workspace."""
        folder = self.settings.workspace / "runs"
        folder.mkdir(exist_ok=True)
        with (folder / f"{request.id}.log").open("ab") as said:
            workspace = str(self.settings.workspace)
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "loopline",
                    "--workspace",
                    workspace,
                    "run",
                    request.loop,
                    "--request",
                    request.id,
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
