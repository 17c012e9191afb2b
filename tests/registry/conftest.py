"""A platform of its own for each test, and small real bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.catalog import Session
from loopline.features.records import Field, Signature
from loopline.hashing import canonical_json, digest_bytes
from loopline.packaging.records import Manifest
from loopline.registry import bundle_tar
from loopline.testing.clock import FakeClock


def files_of(name: str = "readmission", *, seed: int = 0) -> dict[str, bytes]:
    """The files of a bundle that is whole: a native form alone, as packaging would write it."""
    parity = {"runtime": "native", "reason": "nothing was converted", "n": 0, "tolerance": 1e-5, "difference": None}
    files = {
        "native/model.json": canonical_json({"weights": [0.25, seed]}),
        "native/trees.txt": b"tree\nversion=v4\n",
        "transform.json": canonical_json({"fields": []}),
        "parity.json": canonical_json(parity),
    }
    manifest = Manifest(
        name=name,
        version=0,
        task="binary",
        classes=("no", "yes"),
        threshold=0.5,
        signature=Signature(
            inputs=(Field(name="age", kind="number", nullable=True),), task="binary", classes=("no", "yes")
        ),
        runtime="native",
        numbers=("age",),
        strings=(),
        outputs=("probabilities",),
        example={"age": 40.0},
        golden={"probabilities": [0.5, 0.5]},
        digests={file: digest_bytes(data) for file, data in files.items()},
        created=0,
    )
    return {**files, "manifest.json": canonical_json(manifest)}


@pytest.fixture
def bundle_files() -> Callable[..., dict[str, bytes]]:
    """Makes the files of a small bundle: `bundle_files(name, seed=...)`."""
    return files_of


@pytest.fixture
def bundle() -> Callable[..., bytes]:
    """Makes the tar of such a bundle: `bundle(name, seed=...)`."""
    return lambda name="readmission", *, seed=0: bundle_tar.pack_files(files_of(name, seed=seed).items())


@pytest.fixture
def clock() -> FakeClock:
    """Stands still until it is turned."""
    return FakeClock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Platform]:
    """A platform once on SQLite, once on PostgreSQL."""
    database = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    platform = Platform.open(
        workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), database=database or None, clock=clock
    )
    yield platform
    platform.close()


@pytest.fixture
def platform(tmp_path: Path, clock: FakeClock) -> Iterator[Platform]:
    """A platform on SQLite."""
    platform = Platform.open(workspace=tmp_path / "workspace", checkpoints=str(tmp_path / "copies"), clock=clock)
    yield platform
    platform.close()


@pytest.fixture
def person(platform: Platform) -> Callable[..., Session]:
    """Makes somebody with roles in the default project; gives their session."""

    def make(name: str, *roles: str) -> Session:
        owner = platform.session()
        owner.access.add_principal(name)
        for role in roles:
            owner.access.grant(name, role)  # type: ignore[arg-type]
        return platform.session(Principal(name=name))

    return make
