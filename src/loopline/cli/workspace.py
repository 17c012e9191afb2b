"""What `loopline doctor` looks at in a workspace: settings, folder, database, keys, what is left over, records and bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from loopline.cli.checks import Check, ok, problem, warning
from loopline.cli.session import is_there
from loopline.cli.show import size
from loopline.ports.files import TEMPORARY
from loopline.settings import Settings

_LEAST_DISK = 1_000_000_000
_YOUNG_SECONDS = 3600
"""What is younger may belong to a call under way."""


def settings(given: Settings) -> Iterator[Check]:
    """The settings in force, with where each came from."""
    told = [
        f"{name} {_shown(name, getattr(given, name))} (from the {origin})" if origin != "settings.toml"
        else f"{name} {_shown(name, getattr(given, name))} (from settings.toml)"
        for name, origin in sorted(given.origins.items())
        if origin != "default"
    ]  # fmt: skip
    yield ok("settings", "; ".join(told) or "all as by default")


def folder(given: Settings) -> Iterator[Check]:
    """The workspace's folder: whether it can be written, who else can read it, the room on its disk."""
    path = given.workspace
    there = path
    while not there.exists():
        there = there.parent
    if there == path and not path.is_dir():
        yield problem("workspace", f"{path} is a file.", "Name another one: loopline --workspace DIR ...")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield problem(
            "workspace", f"{there} cannot be written by this user.", "Give this user the right, or name another."
        )
        return
    free = shutil.disk_usage(there).free
    if free < _LEAST_DISK:
        yield warning(
            "disk", f"{size(free)} free at {there}.", "Free some space: what is recorded is never thrown away."
        )
    else:
        yield ok("disk", f"{size(free)} free at {there}")
    if not is_there(given):
        yield ok("workspace", f"none at {path} yet (loopline demo, or loopline init NAME --data FILE --label COLUMN)")
        return
    if path.stat().st_mode & 0o077:
        yield warning("workspace", f"{path} is open to other users.", f"chmod 700 {path}")
    else:
        yield ok("workspace", f"{path}, for this user alone")


def database(given: Settings) -> Iterator[Check]:
    """Whether the database can be reached, is whole, and is at the revision of this program."""
    import sqlalchemy as sa

    from loopline.database import REVISION, Database
    from loopline.ports.clock import SystemClock

    if not is_there(given):
        return
    opened = Database(given.database_url, SystemClock())
    where = sa.make_url(given.database_url).render_as_string(hide_password=True)
    try:
        with opened.snapshot() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                yield warning("database", f"{where} has no tables yet.", "The next command makes them.")
                return
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            if opened.sqlite:
                for said in connection.execute(sa.text("PRAGMA quick_check(3)")).scalars():
                    if said != "ok":
                        yield problem("database", f"{where} is damaged: {said}.", "Restore it from a backup.")
                        return
    except sa.exc.DBAPIError as e:
        yield problem(
            "database", f"{where} cannot be read: {e.orig}.", "Is it the right file or address? See --workspace."
        )
        return
    finally:
        opened.close()
    if found == REVISION:
        yield ok("database", f"{where} is whole, at revision {found}")
    elif found is None or found > REVISION:
        yield problem("database", f"{where} is at revision {found}, this program knows {REVISION}.", "Update loopline.")
    else:
        yield warning(
            "database",
            f"{where} is at revision {found}, this program brings it to {REVISION}.",
            "The next command does so; keep a copy of the workspace first.",
        )


def keys(given: Settings) -> Iterator[Check]:
    """Whether only their owner can read the signing keys."""
    found = [path for path in (given.workspace / "keys").glob("*") if path.is_file()]
    open_to_others = [path for path in found if path.suffix == ".pem" and path.stat().st_mode & 0o077]
    for path in open_to_others:
        yield problem(
            "keys",
            f"{path} can be read by others.",
            f"chmod 600 {path}; then sign with a new one: loopline ledger rotate-key",
        )
    if found and not open_to_others:
        yield ok("keys", f"{len(found)} files in {given.workspace / 'keys'}, private ones for their owner alone")


def left_over(given: Settings) -> Iterator[Check]:
    """What killed programs left behind."""
    old = time.time() - _YOUNG_SECONDS
    found: list[Path] = []
    for place, _, files in os.walk(given.workspace):
        aside = Path(place).name == "scratch" or "scratch" in Path(place).relative_to(given.workspace).parts
        for name in files:
            if aside or name.startswith(TEMPORARY):
                path = Path(place, name)
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < old:
                        found.append(path)
    if found:
        taken = sum(path.stat().st_size for path in found if path.exists())
        yield warning(
            "left over",
            f"{len(found)} temporary files of {size(taken)}, for example {found[0]}.",
            "While nothing runs on the workspace they may be removed.",
        )
    elif given.workspace.exists():
        yield ok("left over", "no temporary files")


def records(given: Settings) -> Iterator[Check]:
    """Whether the ledger holds, and whether all bytes that something refers to are there and whole."""
    from loopline.app import Platform
    from loopline.database import REVISION
    from loopline.store.service import Store

    if not is_there(given) or not _at(given, REVISION):
        return
    with contextlib.closing(Platform.open(given)) as platform:
        session = platform.session()
        verified = session.ledger.verify()
        for finding in verified.findings:
            make = problem if finding.severity == "error" else warning
            yield make("ledger", finding.message, finding.hint)
        if verified.ok:
            yield ok(
                "ledger",
                f"{verified.size:,} entries agree with {verified.checkpoints:,} signed checkpoints "
                f"({verified.copies:,} outside the workspace)",
            )
        newest = session.ledger.entries(after=verified.size - 2, limit=1)
        behind = (newest[0].time - platform.clock.now()) / 1000 if newest else 0.0
        if behind > 1:
            yield problem("clock", f"The newest entry is {behind:,.0f} s ahead of this clock.", "Set the clock.")
        with platform.database.begin(lazy=True) as tx:
            damages = Store(tx, platform.blobs).damages()
        for damage in damages:
            yield problem(
                "bytes",
                f"{damage.message} It belongs to {', '.join(damage.owners)}.",
                "Restore that file from a backup; or move it away, and put the same bytes in again (of a version of files: "
                "add a folder that holds them).",
            )
        if not damages:
            yield ok("bytes", "all blobs that something refers to are there and whole")


def _at(given: Settings, revision: str) -> bool:
    """Whether the tables are at a revision, so that opening the workspace changes nothing."""
    import sqlalchemy as sa

    from loopline.database import Database
    from loopline.ports.clock import SystemClock

    opened = Database(given.database_url, SystemClock())
    try:
        with opened.snapshot() as connection:
            known = sa.inspect(connection).has_table("alembic_version")
            return known and connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == revision
    finally:
        opened.close()


def _shown(name: str, value: object) -> str:
    """A setting's value, without the password of a database's address."""
    text = str(value)
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return text or f"no {name}"
