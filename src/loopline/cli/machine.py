"""What `loopline doctor` looks at on the machine: Python, packages, cores, memory, limits, clock, address."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from loopline.cli.checks import Check, ok, problem, warning
from loopline.cli.show import size
from loopline.settings import Settings

_OLDEST = (3, 11)
_FEWEST_FILES = 1024
_LEAST_MEMORY = 1_000_000_000
_RELEASED = 1_767_225_600
"""The beginning of 2026, in seconds: no honest clock is before it."""


def python() -> Iterator[Check]:
    """The Python that runs this."""
    version = sys.version.split()[0]
    if sys.version_info < _OLDEST:
        yield problem("Python", f"{version} is too old.", "Loopline needs Python 3.11 or newer.")
    else:
        yield ok("Python", f"{version} at {sys.executable}")


def packages() -> Iterator[Check]:
    """The installed packages, held against the bounds that Loopline declares."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires("loopline") or []]
    except metadata.PackageNotFoundError:
        yield warning("packages", "Loopline itself is not installed: its bounds are not known.", "pip install loopline")
        return
    fine = 0
    for needed in declared:
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{needed.name}{needed.specifier}"
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield problem("packages", f"{needed.name} is not installed.", f"pip install '{wanted}'")
            continue
        if needed.specifier.contains(found, prereleases=True):
            fine += 1
        else:
            yield problem(
                "packages", f"{needed.name} is {found}, and {needed.specifier} is needed.", f"pip install '{wanted}'"
            )
    yield ok("packages", f"loopline {metadata.version('loopline')}; {fine} packages within their bounds")


def cores() -> Iterator[Check]:
    """How many cores this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    if load > 4 * count:
        yield warning("cores", f"{count}, and {load:.0f} processes wait for them.", "Expect everything to take longer.")
    else:
        yield ok("cores", f"{count} (load {load:.1f})")


def memory() -> Iterator[Check]:
    """How much memory is free."""
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    total, free = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    if min(free, total) < _LEAST_MEMORY:
        yield warning("memory", f"{size(free)} free of {size(total)}.", "Large tables need more: end other programs.")
    else:
        yield ok("memory", f"{size(free)} free of {size(total)}")


def open_files() -> Iterator[Check]:
    """How many files and connections one process may hold open."""
    import resource

    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _FEWEST_FILES:
        raised = _FEWEST_FILES * 4 if most == resource.RLIM_INFINITY else min(most, _FEWEST_FILES * 4)
        yield warning("open files", f"at most {limit} a process: too few for many clients.", f"ulimit -n {raised}")
    else:
        yield ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit:,} a process")


def clock() -> Iterator[Check]:
    """Whether the clock can be right."""
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _RELEASED:
        yield problem("clock", f"It is {shown} here, which cannot be.", "Set the clock; the ledger records times.")
    else:
        yield ok("clock", shown)


def address(settings: Settings) -> Iterator[Check]:
    """Whether the port is free, or who holds it."""
    from loopline.api.up import address_of

    running = address_of(settings.workspace)
    if running is not None:
        yield ok("address", f"this workspace is served at {running.url} by process {running.pid}")
        return
    where = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                yield problem(
                    "address", f"{where} cannot be listened on: {e.strerror}.", "loopline up --host ... --port ..."
                )
                return
            holder = _holder(settings.port)
            held = f"process {holder}" if holder else "another program"
            yield warning("address", f"{where} is held by {held}.", "loopline up --port 0 takes any free one.")
            return
    yield ok("address", f"{where} is free")


def server(url: str, token: str | None) -> Iterator[Check]:
    """Whether the server that was named answers, and as whom it knows us."""
    from loopline.client import connect

    with connect(url, token=token, timeout=10.0) as session:
        yield ok("server", f"{url} answers and knows us as {session.access.whoami().name}")


def _holder(port: int) -> str:
    """The process that listens on a port, as "123 (name)"; empty where it is hidden from us."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                parts = line.split()
                if parts[3] == "0A" and int(parts[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{parts[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(descriptor) in sockets for descriptor in (process / "fd").iterdir()):
                return f"{process.name} ({(process / 'comm').read_text().strip()})"
    return ""
