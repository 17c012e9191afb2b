"""Policies of endpoints: what may be said, that it reaches the workers' table, and that it stays when a version changes."""

from __future__ import annotations

from typing import Any

import pytest

from loopline.catalog import Session
from loopline.errors import Invalid, NotFound
from loopline.serving.records import Policy

FULL = Policy(
    unknown_category="refuse", out_of_range="refuse", rate=5, burst=9, probes=100, rows_kept=0.5, hidden=("x",),
    hashed=("patient",), days=30,
)  # fmt: skip


def test_a_policy_reaches_the_table_and_outlives_its_model(session: Session) -> None:
    session.endpoints.create("risk", "risk@1", passthrough=["patient"])
    before = session.endpoints.show("risk")
    assert before.policy == Policy()
    found = session.endpoints.set_policy("risk", FULL)
    assert found.policy == FULL
    assert found.epoch == before.epoch + 1
    session.endpoints.create("risk", "risk@2", passthrough=["patient"])
    table = session.endpoints.routes()
    assert table.endpoints["risk"].policy == session.endpoints.list()[0].policy == FULL
    (entry,) = session.ledger.entries(operation="endpoints.set_policy")
    assert entry.digests.keys() == {"policy"}
    session.endpoints.set_policy("risk", Policy())
    assert session.endpoints.routes().endpoints["risk"].policy == Policy()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rate": -1.0}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"burst": 3}, "burst without a rate"),
        ({"rate": 1.0, "burst": -3}, "burst"),
        ({"probes": -1}, "probes"),
        ({"rows_kept": 1.5}, "share"),
        ({"rows_kept": float("nan")}, "share"),
        ({"days": -1.0}, "days"),
        ({"hidden": ("x",), "hashed": ("x",)}, "both"),
        ({"hidden": ("patiant",)}, "Did you mean 'patient'"),
        ({"hashed": ("ssn",)}, "--passthrough"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(session: Session, given: dict[str, Any], words: str) -> None:
    session.endpoints.create("risk", "risk@1", passthrough=["patient"])
    with pytest.raises(Invalid) as found:
        session.endpoints.set_policy("risk", Policy(**given))
    assert words in f"{found.value} {found.value.hint}"
    assert session.endpoints.show("risk").policy == Policy()


def test_an_endpoint_that_is_not_there_has_none(session: Session) -> None:
    with pytest.raises(NotFound):
        session.endpoints.set_policy("risk", Policy())
