"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loopline.testing import objects, postgres

if TYPE_CHECKING:
    from loopline.packaging.records import Opening
    from loopline.packaging.signing import ModelSigner

pytest_plugins = ["matrix_guard"]

_numbers = itertools.count()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a case after its argument where bytes are the value.

    Compressed bytes hold the second they were made in; two workers that collected a test under two names would both refuse to run.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL, started once a session."""
    if not postgres.available():
        pytest.skip("PostgreSQL's programs are not on PATH")
    with postgres.server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgres.database(postgres_server, f"test{next(_numbers)}") as url:
        yield url


@pytest.fixture(scope="session")
def object_store() -> Iterator[objects.Objects]:
    """A real store that speaks the protocol of S3, started once a session."""
    with objects.server() as running:
        yield running


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ModelSigner:
    """A signer of models with keys of its own."""
    from loopline.packaging.signing import ModelSigner

    return ModelSigner(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def opening(signer: ModelSigner) -> Opening:
    """How bundles are opened where that signer's key alone is trusted."""
    from loopline.packaging.records import Opening, Trust

    return Opening(trust=Trust(keys=(signer.public_key(signer.sign({})["signatures"][0]["keyid"]),)))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once SQLite and once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'loopline.db'}"
    return str(request.getfixturevalue("postgres_url"))
