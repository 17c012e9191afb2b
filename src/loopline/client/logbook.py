"""The journal of this process for one target, and who sends it: shared by all runs that go there, and open while one is."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loopline.client import connect
from loopline.refs import check_name
from loopline.settings import load, make_workspace
from loopline.tracking.journal import Journal, Target

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.client.sender import Sender

_FLUSH_SECONDS = 30.0
_SILENCE_SECONDS = 30.0


class Place(NamedTuple):
    """Where runs go: to a project of the server at a URL ("": none, it is the workspace itself), by way of a workspace here.

    `quota`: the bytes that the journals of the workspace may have.
    """

    workspace: Path
    project: str
    url: str
    quota: int


def place(url: str | None = None, project: str | None = None, workspace: str | Path | None = None) -> Place:
    """The place for a call: what it gives, else what the environment says, else the workspace here and the server that serves it.

    Raises `Invalid` on settings that cannot be.
    """
    settings = load(workspace=workspace, project=project)
    server = url or os.environ.get("LOOPLINE_URL") or _served(settings.workspace)
    return Place(
        settings.workspace, check_name(settings.project, "project"), server.rstrip("/"), settings.journal_quota
    )


class Logbook:
    """One journal with its sender. `enter` gives the one that is open for a place, or opens it; `leave` ends one use."""

    def __init__(self, where: Place) -> None:
        self.place = where
        make_workspace(where.workspace)
        folder = where.workspace / "journals"
        # The workspace's own server may come again at another address, and takes what is for the workspace.
        target = "" if where.url == _served(where.workspace) else where.url
        self.journal = Journal.open(folder, quota=where.quota, target=Target(where.project, target))
        self._process = os.getpid()
        self._users = 0
        self.unended = False
        """Whether a run ended that could not write so: who sends the journal has to end it."""
        self._sender = self._new_sender().start() if where.url else None
        if not where.url:
            # What a platform needs may be imported as the program ends, and of this Python then says that it comes too late.
            import_module("concurrent.futures.thread")

    @classmethod
    def enter(cls, where: Place) -> Logbook:
        """The logbook of a place, for one more run."""
        with _opening:
            found = _open.get(where)
            if found is None:
                found = _open[where] = cls(where)
            found._users += 1
            return found

    def leave(self) -> None:
        """Ends one use. With the last, what was logged is sent, or taken into the workspace, before this returns.

        Where that is not possible the journal stays, and a hint says so; nothing is raised. In a forked process nothing is sent:
        what it logged is in a journal of its own, for `loopline sync`.
        """
        with _opening:
            self._users -= 1
            if self._users or self._process != os.getpid():
                return
            _open.pop(self.place, None)
        try:
            sender = self._sender or self._new_sender()
            sent = sender.flush(_FLUSH_SECONDS)
            sender.stop(close=self.unended)
        except Exception as e:  # what happens at the end of a training is no failure of it
            self._hint(f" ({e})")
        else:
            if not sent:
                self._hint()

    def _new_sender(self) -> Sender:
        # It knows every verb, which a run without a server needs only at its end.
        from loopline.client.sender import Sender

        return Sender(self.journal, self._session)

    def _session(self) -> Session:
        where = self.place
        if where.url:
            return connect(where.url, project=where.project, timeout=_SILENCE_SECONDS)
        from loopline.app import Platform  # the engine of the platform, only once a training is over

        return Platform.open(workspace=where.workspace, project=where.project).session()

    def _hint(self, why: str = "") -> None:
        with contextlib.suppress(Exception):
            where = self.place.url or self.place.workspace
            print(
                f"loopline: not all that was logged is at {where} yet{why}; it is safe in {self.journal.folder}, and "
                "`loopline sync` brings it in.",
                file=sys.stderr,
            )


_open: dict[Place, Logbook] = {}
_opening = threading.RLock()


def _forked() -> None:
    global _opening
    _opening = threading.RLock()  # the old one may be held by a thread that is not here


os.register_at_fork(after_in_child=_forked)


def _served(workspace: Path) -> str:
    """The address of the server that serves this workspace; empty where none runs."""
    try:
        told = json.loads((workspace / "server.json").read_bytes())
        os.kill(int(told["pid"]), 0)
        return str(told["url"])
    except PermissionError:  # it runs, as another user
        return str(told["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
