"""Files of runs and the sweep: no row ever names bytes that are not there, whoever puts and sweeps at once; and nobody is told
that another project has the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.errors import LooplineError, NotFound, Refused
from loopline.hashing import digest_bytes
from loopline.ports.blobs import Blob
from loopline.store.service import GRACE_MILLISECONDS, Store


def age(platform: Platform, digest: str) -> None:
    """Makes a blob as old as if it had been put two days ago."""
    long_ago = (platform.clock.now() - 2 * GRACE_MILLISECONDS) / 1000
    os.utime(platform.blobs.path(digest), (long_ago, long_ago))


def at_once(*work: Callable[[], object]) -> list[BaseException]:
    """Does it all in threads that begin together; gives what was raised."""
    start = threading.Barrier(len(work))
    raised: list[BaseException] = []

    def do(one: Callable[[], object]) -> None:
        start.wait()
        try:
            one()
        except BaseException as e:
            raised.append(e)

    threads = [threading.Thread(target=do, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def whole(platform: Platform) -> bool:
    with platform.database.begin(lazy=True) as tx:
        return Store(tx, platform.blobs).damages() == []


def test_an_upload_of_the_bytes_that_two_sweeps_collect_is_kept(either: Platform) -> None:
    session = either.session()
    run = session.runs.create("a").id
    for turn in range(12):
        data = b"same" * 1000 + bytes([turn])
        digest = either.blobs.put([data]).digest
        age(either, digest)
        assert (
            at_once(
                session.store.sweep,
                session.store.sweep,
                lambda data=data, turn=turn: session.runs.put_artifact(run, f"{turn}/a", data),
                lambda data=data, turn=turn: session.runs.put_artifact(run, f"{turn}/b", data),
            )
            == []
        )
        assert session.runs.artifact(run, f"{turn}/a").read() == data
        assert whole(either)


def test_a_file_that_is_replaced_while_it_is_kept_elsewhere_stays(either: Platform) -> None:
    """One call takes the last path of some bytes away while another gives them a new one."""
    session = either.session()
    run = session.runs.create("a").id
    for turn in range(12):
        data = b"moving" + bytes([turn])
        old = session.runs.put_artifact(run, f"{turn}/old", data)
        age(either, old.digest)
        raised = at_once(
            lambda turn=turn: session.runs.put_artifact(run, f"{turn}/old", b"else"),
            lambda data=data, turn=turn: session.runs.put_artifact(run, f"{turn}/new", data),
        )
        assert raised == []
        age(either, old.digest)
        session.store.sweep()
        assert session.runs.artifact(run, f"{turn}/new").read() == data
        assert whole(either)


def test_a_purge_and_a_sweep_leave_what_other_runs_and_projects_keep(either: Platform) -> None:
    session = either.session()
    session.projects.create("clinic")
    there = either.session(project="clinic")
    gone, kept = session.runs.create("gone").id, there.runs.create("kept").id
    shared = session.runs.put_artifact(gone, "shared", b"shared")
    own = session.runs.put_artifact(gone, "own", b"own")
    there.runs.put_artifact(kept, "shared", b"shared")
    for digest in (shared.digest, own.digest):
        age(either, digest)
    session.runs.delete(gone)
    assert session.store.sweep().removed == 0, "a deleted run keeps its files"
    assert (
        at_once(
            lambda: session.runs.purge(older_than=0),
            session.store.sweep,
            lambda: there.runs.put_artifact(kept, "b", b"shared"),
        )
        == []
    )
    looked = session.store.sweep(dry_run=True)
    swept = session.store.sweep()
    assert (looked.removed, looked.bytes) == (swept.removed, swept.bytes)
    assert not either.blobs.exists(own.digest)
    assert there.runs.artifact(kept, "shared").read() == b"shared"
    assert whole(either)


SWEEPER = """
import sys
from loopline.app import Platform
platform = Platform.open(workspace=sys.argv[1], checkpoints=sys.argv[2], database=sys.argv[3] or None)
session = platform.session()
print("ready", flush=True)
while sys.stdin.readline() == "sweep\\n":
    session.store.sweep()
    print("swept", flush=True)
"""


def test_another_process_sweeps_what_is_being_uploaded(either: Platform, tmp_path: Path) -> None:
    session = either.session()
    run = session.runs.create("a").id
    database = "" if either.database.sqlite else either.settings.database_url
    with subprocess.Popen(
        [sys.executable, "-c", SWEEPER, str(either.settings.workspace), str(tmp_path / "copies"), database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sweeper:
        assert sweeper.stdin is not None
        assert sweeper.stdout is not None
        assert sweeper.stdout.readline() == "ready\n"
        for turn in range(12):
            data = b"other process" + bytes([turn])
            digest = either.blobs.put([data]).digest
            age(either, digest)
            sweeper.stdin.write("sweep\n")
            sweeper.stdin.flush()
            session.runs.put_artifact(run, f"{turn}", data)
            assert sweeper.stdout.readline() == "swept\n"
            assert session.runs.artifact(run, f"{turn}").read() == data
        sweeper.stdin.write("end\n")
        sweeper.stdin.flush()
    assert sweeper.returncode == 0
    assert whole(either)


def test_an_upload_is_answered_alike_whether_another_project_has_the_bytes_or_nobody(platform: Platform) -> None:
    owner = platform.session()
    for project in ("clinic", "other"):
        owner.projects.create(project)
    there = platform.session(project="clinic").runs
    secret = b"a secret that can be guessed"
    kept = there.put_artifact(there.create("a").id, "secret.txt", secret)
    owner.access.add_principal("ann")
    platform.session(project="other").access.grant("ann", "data_scientist")
    ann = platform.session(Principal(name="ann"), project="other")
    run = ann.runs.create("guess").id
    taken: list[int] = []
    put = platform.blobs.put

    def counted(chunks: object) -> Blob:
        pieces = list(chunks)  # type: ignore[call-overload]
        taken.append(sum(map(len, pieces)))
        return put(pieces)

    platform.blobs.put = counted  # type: ignore[method-assign]
    answers = [ann.runs.put_artifact(run, "guess.txt", data) for data in (secret, b"b" * len(secret))]
    assert taken == [len(secret)] * 2, "all bytes are asked for, whether they are there or not"
    known, fresh = ({name: getattr(a, name) for name in a.__struct_fields__} for a in answers)
    assert known["digest"] == kept.digest == digest_bytes(secret)
    assert set(known) == set(fresh) == {"run", "path", "digest", "size", "created"}
    assert known["created"] > kept.created, "it is this upload's own time"
    assert [a.path for a in ann.runs.artifacts(run)] == ["guess.txt"]


def test_nothing_can_be_had_by_its_digest_alone(platform: Platform) -> None:
    owner = platform.session()
    owner.projects.create("clinic")
    there = platform.session(project="clinic").runs
    kept = there.put_artifact(there.create("a").id, "secret.txt", b"secret")
    owner.access.add_principal("ann")
    owner.access.grant("ann", "data_scientist")
    ann = platform.session(Principal(name="ann"))
    run = ann.runs.create("guess").id
    said: list[tuple[str, str]] = []
    for digest in (kept.digest, digest_bytes(b"that nobody has")):
        for ask in (lambda d=digest: ann.runs.artifact(run, d), lambda d=digest: ann.lineage.trace(f"blob:{d[7:]}")):
            try:
                found = ask()
            except LooplineError as e:
                said.append((e.code, e.message.replace(digest, "D").replace(digest[7:], "D")))
            else:
                said.append(("found", repr(found).replace(digest[7:], "D")))
    assert said[:2] == said[2:], "what is there and what is not are answered alike"
    for refused in (ann.store.usage, ann.store.sweep):
        with pytest.raises(Refused):
            refused()
    with pytest.raises(NotFound):
        ann.runs.artifact(run, "secret.txt")
