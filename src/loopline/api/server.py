"""The API on a socket of its own: the control process's Unix socket, or a TCP port."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import uvicorn

from loopline.access.peer import can_tell, write_local_token
from loopline.api.app import build
from loopline.api.caller import Trust
from loopline.app import Platform
from loopline.errors import Conflict, Unavailable

_START_SECONDS = 30
_STOP_SECONDS = 10


class ApiServer:
    """Serves a platform's API from a thread, from `start` (or `with`) until `stop`.

    `control`: the path of the Unix socket on which the workspace's serving workers forward requests, with the headers that say
    who the peer is; only the own user can reach it. Otherwise `host` and `port` (0: any free one). Raises `Conflict` where the
    address is taken.
    """

    def __init__(
        self, platform: Platform, *, control: Path | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._control = control
        self._socket = _unix(control) if control else _tcp(host, port)
        local_token = "" if can_tell() else write_local_token(platform.settings.workspace)
        config = uvicorn.Config(
            build(platform, Trust(forwarded=control is not None, local_token=local_token)),
            http="httptools",
            ws="none",
            lifespan="off",
            proxy_headers=False,  # what a relayed request says of its origin is believed by nobody here
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="loopline-api", daemon=True
        )
        shown = f"[{host}]" if ":" in host else host
        self.url = "" if control else f"http://{shown}:{self._socket.getsockname()[1]}"

    def start(self) -> ApiServer:
        """Begins to answer. Raises `Unavailable` where it does not within 30 s."""
        self._thread.start()
        end = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if time.monotonic() > end or not self._thread.is_alive():
                raise Unavailable("The API did not start.", code="api-start", hint="The log says why.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Ends after the calls under way."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        if self._control is not None:
            self._control.unlink(missing_ok=True)

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as e:
        raise Conflict(
            f"{host}:{port} cannot be had: {e.strerror}.", code="port-taken", hint="Choose another with --port."
        ) from e


def _unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        made.close()
        raise Conflict(
            f"Another server answers at {path}.",
            code="server-running",
            hint="`loopline status` shows it; stop it first.",
        )
    except (FileNotFoundError, ConnectionRefusedError):
        path.unlink(missing_ok=True)  # left by a server that was killed
    mask = os.umask(0o177)
    try:
        made.bind(str(path))
    except OSError as e:
        raise Conflict(
            f"The control socket {path} cannot be made: {e.strerror or e}.",
            code="bad-socket",
            hint="Is the path too long?",
        ) from e
    finally:
        os.umask(mask)
    made.listen(1024)
    return made
