"""Approvals: never of one's own, decided once, bound to what was asked about."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Conflict, NotFound, Refused
from loopline.registry.tables import model_versions

Person = Callable[..., Session]
Bundle = Callable[..., bytes]


def registered(session: Session, bundle: Bundle) -> None:
    session.models.draft("readmission", bundle())
    session.models.register("readmission", 1)


def test_somebody_else_approves(platform: Platform, person: Person, bundle: Bundle) -> None:
    asker = platform.session()
    registered(asker, bundle)
    request = asker.models.request_approval("readmission", 1)
    assert (request.decision, request.ref, request.requester) == ("open", "model:readmission@1", platform.owner.name)
    with pytest.raises(Conflict):
        asker.models.request_approval("readmission", 1)
    approver = person("ann", "approver")
    done = approver.models.approve(request.id, "well done")
    assert (done.decision, done.decider, done.comment) == ("approved", "ann", "well done")
    for again in (approver.models.approve, approver.models.reject):
        with pytest.raises(Conflict):
            again(request.id)
    assert asker.models.approvals(decision="approved") == (done,)
    assert asker.models.approvals(decision="open") == ()


def test_nobody_approves_what_they_asked_for(platform: Platform, person: Person, bundle: Bundle) -> None:
    registered(platform.session(), bundle)
    both = person("bob", "approver", "data_scientist")
    request = both.models.request_approval("readmission", 1)
    for attempt in (both.models.approve, both.models.reject):
        with pytest.raises(Refused):
            attempt(request.id)
    assert both.models.approvals()[0].decision == "open"


def test_without_the_role_nobody_decides(platform: Platform, person: Person, bundle: Bundle) -> None:
    owner = platform.session()
    registered(owner, bundle)
    request = owner.models.request_approval("readmission", 1)
    for role in ("viewer", "data_scientist", "operator"):
        with pytest.raises(Refused):
            person(f"p-{role}", role).models.approve(request.id)
    owner.projects.create("clinic")
    with pytest.raises(NotFound):
        person("cy", "approver").models.approve("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_approval_is_of_what_was_asked_about(platform: Platform, person: Person, bundle: Bundle) -> None:
    owner = platform.session()
    registered(owner, bundle)
    request = owner.models.request_approval("readmission", 1)
    with platform.database.begin() as tx:
        tx.execute(model_versions.update().values(bundle="sha256:" + "1" * 64))
    approver = person("ann", "approver")
    with pytest.raises(Conflict):
        approver.models.approve(request.id)
    assert approver.models.reject(request.id).decision == "rejected"


def test_a_draft_is_not_approved(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("readmission", bundle())
    with pytest.raises(Conflict):
        session.models.request_approval("readmission", 1)


def test_two_decisions_at_once_are_one(platform: Platform, person: Person, bundle: Bundle) -> None:
    owner = platform.session()
    registered(owner, bundle)
    request = owner.models.request_approval("readmission", 1)
    people = [person(name, "approver") for name in ("ann", "ben", "cy")]
    outcomes: list[str] = []

    def decide(session: Session, approve: bool) -> None:
        try:
            verb = session.models.approve if approve else session.models.reject
            outcomes.append(verb(request.id).decision)
        except Conflict:
            outcomes.append("late")

    threads = [threading.Thread(target=decide, args=(p, i != 1)) for i, p in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("late") == 2


def test_comments_and_reasons_stay_off_the_ledger(platform: Platform, person: Person, bundle: Bundle) -> None:
    owner = platform.session()
    registered(owner, bundle)
    owner.models.set_alias("readmission", "champion", 1, reason="SECRET-REASON")
    request = owner.models.request_approval("readmission", 1)
    person("ann", "approver").models.approve(request.id, "SECRET-COMMENT")
    run = owner.runs.create("SECRET-NAME", params={"a": "SECRET-PARAM"})
    owner.runs.finish(run.id, message="SECRET-MESSAGE")
    with platform.database.snapshot() as connection:
        ledger = [row.body for row in connection.execute(sa.text("SELECT body FROM ledger_entries"))]
    assert any("models.approve" in body for body in ledger)
    assert not any("SECRET" in body for body in ledger)
