"""What people declare in Python is handed to verbs as it is: in process and over HTTP alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import loopline as ll
from loopline.api.server import ApiServer
from loopline.catalog import Session

from .conftest import Place

_CSV = b"id,ward,days,at\n" + b"".join(
    f"{n},{'north' if n % 3 else 'south'},{99 if n < 3 else n % 14},2026-01-{1 + n % 28:02}\n".encode()
    for n in range(60)
)


@pytest.fixture(params=["in process", "over HTTP"])
def somewhere(request: pytest.FixtureRequest, place: Place) -> Iterator[Session]:
    if request.param == "in process":
        yield place.session
        return
    with ApiServer(place.platform) as server, ll.connect(server.url) as session:
        yield session


def test_contracts_steps_views_and_gates_are_taken_as_they_are_declared(somewhere: Session, tmp_path: Path) -> None:
    file = tmp_path / "visits.csv"
    file.write_bytes(_CSV)
    rules = ll.contract(
        ll.column("days").between(0, 14), ll.schema({"days": "integer"}, others=True), personal=["ward"]
    )
    made = somewhere.datasets.add("visits", file, contract=rules)  # type: ignore[arg-type]
    assert (made.rows, made.quarantined, made.contract) == (57, 3, rules.digest)
    steps = [ll.clean.scale("days"), ll.clean.one_hot("ward")]
    assert somewhere.datasets.clean("visits", steps, label="id").ref == "data:visits.clean@1"  # type: ignore[arg-type]
    view = ll.feature_view("stays", source="visits", entity="ward", time="at", features=[ll.feature("last", "days")])
    assert somewhere.features.define("stays", view).ref == "features:stays@1"  # type: ignore[arg-type]
    gates = [ll.gate.at_least("roc_auc", 0.6), ll.gate.latency(p99="5ms")]
    assert len(somewhere.evaluations.declare(gates).gates) == 2  # type: ignore[arg-type]
