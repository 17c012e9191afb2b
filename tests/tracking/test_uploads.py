"""Files in parts: joined as they were sent, kept by nobody else's id, and gone when they are given up or forgotten."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from loopline.app import Platform
from loopline.errors import Conflict, Invalid, LooplineError, NotFound
from loopline.operations import Body
from loopline.tracking.uploads import KEPT_MILLISECONDS, expire

PIECES = [b"a" * 1000, b"b" * 3_000_000, b""]


@pytest.fixture
def runs(either: Platform) -> Any:
    return either.session().runs


def folders(platform: Platform) -> list[Path]:
    return sorted((platform.settings.workspace / "uploads").glob("*"))


def begun(runs: Any, pieces: list[bytes] = PIECES, path: str = "large/f.bin") -> tuple[str, str, list[str]]:
    """A run, an upload with its parts, brought from the last to the first, and their digests."""
    run = runs.create("fit").id
    upload = runs.start_upload(run, path, len(pieces)).id
    numbered = list(enumerate(pieces, 1))
    digests = {number: runs.put_part(run, upload, number, Body(piece)).digest for number, piece in numbered[::-1]}
    return run, upload, [digests[number] for number, _ in numbered]


@pytest.mark.parametrize("pieces", [PIECES, [b"one"], []])
def test_the_file_is_its_parts_in_their_order(either: Platform, runs: Any, pieces: list[bytes]) -> None:
    run, upload, digests = begun(runs, pieces)
    assert runs.artifacts(run) == ()
    kept = runs.complete_upload(run, upload, digests)
    assert runs.artifact(run, "large/f.bin").read() == b"".join(pieces)
    assert runs.complete_upload(run, upload, digests) == kept  # a client that got no answer asks again
    assert [len(list(folder.iterdir())) for folder in folders(either)] == [1]
    entries = [e.operation for e in either.session().ledger.entries(limit=100) if "upload" in e.operation]
    assert entries == ["runs.complete_upload"]


def test_a_part_that_comes_twice_is_the_one_that_is_named(runs: Any) -> None:
    run, upload, digests = begun(runs, [b"a", b"b"])
    again = runs.put_part(run, upload, 1, Body(b"A")).digest
    runs.complete_upload(run, upload, [again, digests[1]])
    assert runs.artifact(run, "large/f.bin").read() == b"Ab"
    with pytest.raises(Conflict, match="complete"):
        runs.put_part(run, upload, 1, Body(b"x"))


def test_what_does_not_fit_is_refused_and_nothing_is_kept(either: Platform, runs: Any) -> None:
    run, upload, digests = begun(runs)
    wrong = {
        "a part is missing": digests[:2],
        "a part too many": [*digests, digests[0]],
        "another order": digests[::-1],
        "a part that was not sent": [digests[0], "blake3:" + "0" * 64, digests[2]],
        "a way up": ["../../x", *digests[1:]],
    }
    for what, parts in wrong.items():
        with pytest.raises(Invalid):
            runs.complete_upload(run, upload, parts)
        assert runs.artifacts(run) == (), what
    for number in (0, 4, -1, 2**70):
        with pytest.raises(Invalid):
            runs.put_part(run, upload, number, Body(b"x"))
    for path, count in (("../x", 1), ("/etc/x", 1), ("x", -1), ("x", 10_001)):
        with pytest.raises(Invalid):
            runs.start_upload(run, path, count)
    (folder,) = folders(either)
    next(folder.glob("00002-*")).write_bytes(b"damaged")
    with pytest.raises(Invalid, match="Part 2"):
        runs.complete_upload(run, upload, digests)
    assert runs.artifacts(run) == ()


def test_an_upload_is_of_one_run_of_one_project(either: Platform, runs: Any) -> None:
    run, upload, digests = begun(runs)
    either.session().projects.create("clinic")
    elsewhere = either.session(project="clinic").runs
    other, theirs = runs.create("other").id, elsewhere.create("theirs").id
    for verbs, of in ((runs, other), (elsewhere, theirs), (elsewhere, run)):
        with pytest.raises(NotFound):
            verbs.put_part(of, upload, 1, Body(b"x"))
        with pytest.raises(NotFound):
            verbs.complete_upload(of, upload, digests)
        with pytest.raises(NotFound):
            verbs.abort_upload(of, upload)
    for name in ("../uploads", "", "x" * 32, "0" * 32, f"{upload}/."):
        with pytest.raises(NotFound):
            runs.abort_upload(run, name)
    assert runs.complete_upload(run, upload, digests).size == sum(map(len, PIECES))


def test_bytes_of_another_project_are_not_had_by_their_digest(either: Platform, runs: Any) -> None:
    either.session().projects.create("clinic")
    elsewhere = either.session(project="clinic").runs
    secret = elsewhere.put_artifact(elsewhere.create("theirs").id, "f", Body(b"secret")).digest
    run, upload, _ = begun(runs, [b"mine"])
    with pytest.raises(Invalid, match="not here as it is named"):
        runs.complete_upload(run, upload, [secret])


def test_what_is_given_up_or_forgotten_is_gone(either: Platform, runs: Any) -> None:
    run, upload, digests = begun(runs)
    runs.abort_upload(run, upload)
    assert folders(either) == []
    with pytest.raises(NotFound, match="no upload"):
        runs.complete_upload(run, upload, digests)
    _, old, _ = begun(runs)
    _, young, _ = begun(runs)
    now = either.clock.now()
    folder = either.settings.workspace / "uploads"
    os.utime(folder / old, ns=(0, (now - KEPT_MILLISECONDS - 1) * 1_000_000))
    either.upkeep()
    assert [found.name for found in folders(either)] == [young]
    expire(folder, now + KEPT_MILLISECONDS + 60_000)
    assert folders(either) == []


def test_two_that_complete_at_once_have_one_file(runs: Any) -> None:
    run, upload, digests = begun(runs, [os.urandom(1 << 20) for _ in range(8)])
    found: list[Any] = []

    def complete() -> None:
        try:
            found.append(runs.complete_upload(run, upload, digests))
        except LooplineError as e:  # the other one has joined them, and asked again it says so
            found.append(e.code)

    threads = [threading.Thread(target=complete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = runs.complete_upload(run, upload, digests)
    assert set(found) <= {kept, "missing-part"}
    assert kept in found
    assert runs.artifacts(run) == (kept,)
