"""Files of runs: kept once, copied by digest, removed; and what is told of the bytes of others: nothing."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopline import failpoints
from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid, NotFound, Unavailable
from loopline.hashing import digest_bytes
from loopline.operations import Body
from loopline.store.service import Store, verify

DATA = bytes(range(256)) * 5000


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], int]:
    """How many pieces were written to the store since it was asked last."""
    trace = tmp_path / "trace"
    failpoints.arm(f"store.put.write=trace:{trace}")

    def pieces() -> int:
        found = trace.read_text().split() if trace.exists() else []
        trace.unlink(missing_ok=True)
        return len(found)

    return pieces


def owners(platform: Platform, digest: str) -> list[str]:
    with platform.database.begin(lazy=True) as tx:
        return Store(tx, platform.blobs).owners(digest)


def here_and_there(platform: Platform) -> tuple[Session, Session]:
    """The default project, and another one with a name that begins alike but for its case."""
    owner = platform.session()
    for project in ("clinic", "Clinic"):
        owner.projects.create(project)
    return platform.session(project="clinic"), platform.session(project="Clinic")


def test_artifacts_are_stored_once_and_given_back_when_replaced(platform: Platform, tmp_path: Path) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    data = bytes(range(256)) * 5000
    (tmp_path / "big.bin").write_bytes(data)
    one = runs.put_artifact(run, "plots/roc.bin", tmp_path / "big.bin")
    two = runs.put_artifact(run, "copy.bin", data)
    assert one.digest == two.digest
    assert len(list(platform.blobs.list())) == 1
    assert runs.put_artifact(run, "copy.bin", data) == two
    assert runs.artifact(run, "plots/roc.bin").read() == data
    assert [a.path for a in runs.artifacts(run)] == ["copy.bin", "plots/roc.bin"]
    assert runs.artifact(run, "plots/roc.bin").name == "roc.bin"

    new = runs.put_artifact(run, "copy.bin", b"new")
    assert owners(platform, one.digest) == [f"run:{run}"], "still needed under the other path"
    runs.put_artifact(run, "plots/roc.bin", b"new")
    assert owners(platform, one.digest) == []
    assert owners(platform, new.digest) == [f"run:{run}"]
    with pytest.raises(NotFound):
        runs.artifact(run, "none.txt")


def test_bytes_that_the_project_has_are_not_written_again(
    either: Platform, written: Callable[[], int], tmp_path: Path
) -> None:
    runs = either.session().runs
    one, two = runs.create("a").id, runs.create("b").id
    (tmp_path / "file").write_bytes(DATA)
    first = runs.put_artifact(one, "a", tmp_path / "file")
    assert written() > 0
    again = runs.put_artifact(two, "b", tmp_path / "file")
    copied = runs.copy_artifact(two, "c", first.digest)
    runs.put_artifact(two, "d", Body(DATA))
    assert written() == 0
    assert first.digest == again.digest == copied.digest == digest_bytes(DATA)
    assert copied.size == len(DATA)
    assert runs.artifact(two, "c").read() == DATA
    assert owners(either, first.digest) == sorted([f"run:{one}", f"run:{two}"])


def test_what_another_project_has_is_taken_in_as_if_nobody_had_it(either: Platform, written: Callable[[], int]) -> None:
    here, there = here_and_there(either)
    default = either.session()
    digest = there.runs.put_artifact(there.runs.create("a").id, "a", Body(DATA)).digest
    there.datasets.add("t", Body(b"a,b\n1,2\n", name="t.csv"))
    written()
    for session in (here, default):
        run = session.runs.create("b").id
        told = []
        for asked in (digest, digest_bytes(b"nobody has it")):
            with pytest.raises(NotFound) as caught:
                session.runs.copy_artifact(run, "b", asked)
            told.append((caught.value.code, caught.value.message.replace(asked, "?"), caught.value.hint))
        assert told[0] == told[1]
        session.runs.put_artifact(run, "b", Body(DATA))
        assert written() > 0, "written as for the first time"
    assert here.runs.copy_artifact(here.runs.create("c").id, "c", digest).digest == digest


def test_bytes_of_a_dataset_are_no_files_of_a_run(platform: Platform) -> None:
    session = platform.session()
    session.datasets.add("t", Body(b"a,b\n1,2\n", name="t.csv"))
    run = session.runs.create("a").id
    for blob in platform.blobs.list():
        with pytest.raises(NotFound, match="No run of project"):
            session.runs.copy_artifact(run, "stolen", blob.digest)


def test_a_damaged_blob_is_mended_by_the_same_bytes(platform: Platform) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    digest = runs.put_artifact(run, "a", Body(DATA)).digest
    path = platform.blobs.path(digest)
    path.chmod(0o600)
    path.write_bytes(DATA[:-1] + b"?")
    runs.put_artifact(run, "b", Body(DATA))
    verify(platform.blobs, digest)


def test_a_stream_is_read_once(platform: Platform) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    for path in ("a", "b"):
        assert runs.put_artifact(run, path, Body(io.BytesIO(DATA))).digest == digest_bytes(DATA)


def test_a_file_or_a_folder_is_removed_and_the_ledger_keeps_that_it_was(either: Platform) -> None:
    session = either.session()
    runs = session.runs
    run, other = runs.create("a").id, runs.create("b").id
    digests = {
        path: runs.put_artifact(run, path, Body(path.encode() * 9)).digest
        for path in ("plots/a.png", "plots/deep/b.png", "plots.txt", "Plots/c.png", "plots%")
    }
    runs.copy_artifact(other, "kept", digests["plots/a.png"])
    assert [file.path for file in runs.remove_artifact(run, "plots.txt")] == ["plots.txt"]
    gone = runs.remove_artifact(run, "plots")
    assert [file.path for file in gone] == ["plots/a.png", "plots/deep/b.png"]
    assert {file.path for file in runs.artifacts(run)} == {"Plots/c.png", "plots%"}
    assert owners(either, digests["plots/deep/b.png"]) == []
    assert owners(either, digests["plots/a.png"]) == [f"run:{other}"]
    assert runs.artifact(other, "kept").read() == b"plots/a.png" * 9
    with pytest.raises(NotFound, match="no artifact 'plots'"):
        runs.remove_artifact(run, "plots")
    with pytest.raises(Invalid):
        runs.remove_artifact(run, "../" + run)
    found = next(entry for entry in session.ledger.entries() if entry.operation == "runs.remove_artifact")
    assert (found.operation, list(found.outputs)) == ("runs.remove_artifact", [f"run:{run}"])
    assert list(found.digests) == ["removed"]


def test_a_full_disk_is_told_and_leaves_nothing(platform: Platform) -> None:
    runs = platform.session().runs
    run = runs.create("a").id
    failpoints.arm("store.put.write=ENOSPC")
    with pytest.raises(Unavailable) as caught:
        runs.put_artifact(run, "a", Body(DATA))
    assert caught.value.code == "disk-full"
    assert runs.artifacts(run) == ()
    assert list(platform.blobs.folder.iterdir()) == []
