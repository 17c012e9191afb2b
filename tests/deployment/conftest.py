"""A platform with registered versions of a small real model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.loop.table import Table, linear
from loopline.operations import Body
from loopline.packaging.bundle import write_bundle
from loopline.registry.bundle_tar import pack
from loopline.testing.clock import FakeClock


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four bundles of the model "risk", as tars: the same model, written at four times."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    frame = pl.DataFrame({"x": x, "y": np.where(x + rng.normal(size=400) > 0, "yes", "no")})
    model = linear(Table(frame[:300], frame[300:], label="y"))
    made = []
    folder = tmp_path_factory.mktemp("bundles")
    for version in range(1, 5):
        place = folder / str(version)
        write_bundle(
            model,
            place,
            name="risk",
            version=version,
            example={"x": 0.5},
            validation_frame=frame[300:],
            created=version,
        )
        made.append(pack(place))
    return made


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, bundles: list[bytes]) -> Path:
    """A workspace with versions 1 to 3 registered and 4 a draft, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"), clock=FakeClock())
    session = platform.session()
    for bundle in bundles:
        session.models.draft("risk", Body(bundle, name="bundle.tar"))
    for version in (1, 2, 3):
        session.models.register("risk", version)
    platform.close()
    return folder


@pytest.fixture
def clock() -> FakeClock:
    """Stands still until it is turned."""
    return FakeClock(1_800_000_000_000)


@pytest.fixture
def platform(tmp_path: Path, prepared: Path, clock: FakeClock) -> Iterator[Platform]:
    """A platform where `risk` has versions 1 to 3 registered, and a draft 4."""
    shutil.copytree(prepared, tmp_path / "place")
    platform = Platform.open(
        workspace=tmp_path / "place" / "w", checkpoints=str(tmp_path / "place" / "copies"), clock=clock
    )
    yield platform
    platform.close()


@pytest.fixture
def session(platform: Platform) -> Session:
    """The verbs, as the workspace's owner."""
    return platform.session()
