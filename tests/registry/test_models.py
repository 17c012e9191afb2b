"""Models as things of their own: names and titles, what is said of them, deletion and the way back, versions of plain files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from loopline.access.records import Principal
from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Conflict, Invalid, NotFound, Refused
from loopline.operations import Body
from loopline.registry.models import Models
from loopline.testing.clock import FakeClock

Bundle = Callable[..., bytes]


def test_a_model_is_there_before_its_versions(either: Platform, clock: FakeClock, bundle: Bundle) -> None:
    models = either.session().models
    made = models.create("fraud", title="Fraud in claims", description="Who asks twice", tags={"team": "claims"})
    assert (made.ref, made.title, made.versions, made.latest) == ("model:fraud", "Fraud in claims", 0, 0)
    assert (made.description, made.tags, made.created) == ("Who asks twice", {"team": "claims"}, clock.time)
    assert models.model("fraud") == made
    assert models.versions("fraud") == ()
    with pytest.raises(NotFound, match="has no version"):
        models.show("fraud", "latest")
    with pytest.raises(Conflict):
        models.create("fraud")
    with pytest.raises(Conflict):
        models.create(title="Fraud in claims")
    assert models.draft("fraud", bundle("fraud")).version == 1
    assert models.model("fraud").latest == 1
    assert models.list(title="Fraud in claims")[0].name == "fraud"


def test_a_title_that_no_ref_can_hold_gets_a_name_like_it(either: Platform) -> None:
    models = either.session().models
    assert models.create(title="Betrug & Co. (neu)").name == "Betrug-Co.-neu"
    assert models.create(title="Betrug + Co. neu").name == "Betrug-Co.-neu-2"
    assert models.create(title="不正").name == "model"
    assert models.create(title="x" * 256).name == "x" * 100
    for title in ("", "  ", "x" * 257, "a\nb", "a\0b"):
        with pytest.raises(Invalid):
            models.create(title=title)
    with pytest.raises(Invalid):
        models.create()


def test_renaming_keeps_every_ref(either: Platform, bundle: Bundle) -> None:
    session = either.session()
    session.models.register("fraud", session.models.draft("fraud", bundle("fraud")).version)
    session.models.set_alias("fraud", "champion", 1)
    assert session.models.rename("fraud", "Fraud, second try").title == "Fraud, second try"
    found = session.models.show("fraud", "champion")
    assert (found.ref, found.aliases) == ("model:fraud@1", ("champion",))
    assert session.models.verify("fraud", 1).ok
    assert session.models.create(title="fraud").name == "fraud-2", "the title is free, the name is not"
    with pytest.raises(Conflict):
        session.models.rename("fraud", "fraud")
    assert session.models.model("fraud").title == "Fraud, second try"


def test_what_is_said_can_change_and_comments_stay(either: Platform, clock: FakeClock, bundle: Bundle) -> None:
    models = either.session().models
    models.draft("fraud", bundle("fraud"))
    clock.forward(seconds=1)
    assert models.describe("fraud", "of the model").description == "of the model"
    models.describe("fraud", "of the version", version=1)
    models.tag("fraud", {"a": "1", "b": ""})
    models.tag("fraud", {"a": None, "c": "3"})
    models.tag("fraud", {"v": "1"}, version=1)
    whole, version = models.model("fraud"), models.show("fraud", 1)
    assert (whole.tags, whole.changed) == ({"b": "", "c": "3"}, clock.time)
    assert (version.description, version.tags, version.changed) == ("of the version", {"v": "1"}, clock.time)
    models.comment("fraud", "first")
    models.comment("fraud", "second", version=1)
    models.comment("fraud", "first")
    assert [(c.version, c.text) for c in models.comments("fraud")] == [(None, "first"), (1, "second"), (None, "first")]
    assert [c.text for c in models.comments("fraud", version=1)] == ["second"]
    for wrong in ({"": "x"}, {"k" * 251: "x"}, {"k": "x" * 100_001}, {"a\nb": "x"}, {"k": "a\0b"}):
        with pytest.raises(Invalid):
            models.tag("fraud", wrong)
    for text in ("", " ", "x" * 100_001, "\0"):
        with pytest.raises(Invalid):
            models.comment("fraud", text)
    with pytest.raises(NotFound):
        models.tag("fraud", {"k": "v"}, version=2)


def test_the_ledger_holds_digests_of_what_is_said(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.draft("fraud", bundle("fraud"))
    session.models.comment("fraud", "a secret of the trade", version=1)
    session.models.describe("fraud", "another secret")
    kept = [entry for entry in session.ledger.entries() if entry.operation in ("models.comment", "models.describe")]
    assert [entry.outputs for entry in kept][-2:] == [("model:fraud@1",), ("model:fraud",)] or len(kept) == 2
    assert "secret" not in repr(kept)


def test_a_removed_alias_keeps_its_history(either: Platform, clock: FakeClock, bundle: Bundle) -> None:
    models = either.session().models
    for seed in (0, 1):
        models.register("fraud", models.draft("fraud", bundle("fraud", seed=seed)).version)
    first = models.set_alias("fraud", "champion", 1).since
    clock.forward(seconds=10)
    second = models.set_alias("fraud", "champion", 2).since
    clock.forward(seconds=10)
    gone = models.remove_alias("fraud", "champion", reason="audit")
    assert (gone.version, gone.previous, gone.how, gone.reason) == (None, 2, "remove", "audit")
    assert models.aliases("fraud") == ()
    assert models.show("fraud", 2).aliases == ()
    with pytest.raises(NotFound, match="no alias"):
        models.show("fraud", "champion")
    with pytest.raises(NotFound):
        models.remove_alias("fraud", "champion")
    assert models.as_of("fraud", "champion", first).version == 1
    assert models.as_of("fraud", "champion", second).version == 2
    with pytest.raises(NotFound, match="at that time"):
        models.as_of("fraud", "champion", clock.time)
    assert [move.version for move in models.alias_history("fraud", "champion")] == [1, 2, None]
    assert models.roll_back("fraud", "champion").version == 2
    assert models.roll_back("fraud", "champion").version == 1
    with pytest.raises(Conflict):
        models.roll_back("fraud", "champion")


def test_a_deleted_version_is_hidden_and_comes_back(either: Platform, bundle: Bundle) -> None:
    models = either.session().models
    for seed in range(3):
        models.draft("fraud", bundle("fraud", seed=seed))
    before = models.show("fraud", 3)
    assert models.delete("fraud", version=3).latest == 2
    assert models.show("fraud", "latest").version == 2
    assert [v.version for v in models.versions("fraud")] == [2, 1]
    assert [v.version for v in models.versions("fraud", lifecycle="deleted")] == [3]
    assert [v.version for v in models.versions("fraud", lifecycle="all")] == [3, 2, 1]
    for call in (models.register, models.show, models.withdraw, models.verify):
        with pytest.raises(NotFound, match="deleted"):
            call("fraud", 3, "x") if call == models.withdraw else call("fraud", 3)
    models.delete("fraud", version=3)
    assert models.draft("fraud", bundle("fraud", seed=2)).version == 4, "a number is never given again"
    models.restore("fraud", version=3)
    assert models.show("fraud", 3).forms == before.forms
    models.restore("fraud", version=3)


def test_a_deleted_model_comes_back_with_what_went_with_it(either: Platform, bundle: Bundle) -> None:
    models = either.session().models
    for seed in range(3):
        models.draft("fraud", bundle("fraud", seed=seed))
    models.delete("fraud", version=1)
    gone = models.delete("fraud")
    assert gone.deleted is not None
    assert models.list() == ()
    assert [m.name for m in models.list(lifecycle="deleted")] == ["fraud"]
    for call in (models.model, models.versions, models.aliases, models.comments):
        with pytest.raises(NotFound, match="deleted"):
            call("fraud")
    with pytest.raises(NotFound):
        models.restore("fraud", version=2)
    assert models.restore("fraud").versions == 2
    assert [v.version for v in models.versions("fraud", lifecycle="deleted")] == [1]


def test_a_name_is_free_after_deletion_and_no_ref_is_given_twice(either: Platform, bundle: Bundle) -> None:
    models = either.session().models
    models.create("fraud", title="Fraud", tags={"a": "1"})
    models.draft("fraud", bundle("fraud"))
    models.delete("fraud")
    assert models.create(title="Fraud").name == "Fraud", "the title is free"
    again = models.create("fraud", title="Fraud again")
    assert (again.versions, again.tags) == (0, {})
    assert models.draft("fraud", bundle("fraud")).version == 2
    models.delete("fraud")
    assert models.draft("fraud", bundle("fraud", seed=1)).version == 3
    assert [v.version for v in models.versions("fraud")] == [3]


def test_a_title_taken_meanwhile_stops_a_restore(either: Platform) -> None:
    models = either.session().models
    models.create("fraud", title="Fraud")
    models.delete("fraud")
    models.create("other", title="Fraud")
    with pytest.raises(Conflict):
        models.restore("fraud")
    models.rename("other", "Other")
    assert models.restore("fraud").title == "Fraud"


def test_what_is_named_or_served_is_not_deleted(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    session.models.register("fraud", session.models.draft("fraud", bundle("fraud")).version)
    session.models.set_alias("fraud", "champion", 1)
    for version in (1, None):
        with pytest.raises(Conflict, match="@champion"):
            session.models.delete("fraud", version=version)
    session.models.remove_alias("fraud", "champion")
    from loopline.deployment.tables import endpoints

    row = {"project": "default", "name": "claims", "model": "fraud", "champion": 1, "salt": "s"}
    with platform.database.begin() as tx:
        tx.execute(endpoints.insert().values(**row, passthrough=[], optional=[], policy={}, created=1, updated=1))
    assert session.models.withdraw("fraud", 1, "why").status == "withdrawn", "it serves on, and is not promoted"
    with pytest.raises(Conflict, match="served by the endpoint 'claims'"):
        session.models.delete("fraud", 1)
    session.endpoints.remove("claims")
    assert session.models.delete("fraud").deleted is not None


def test_a_purge_is_for_good_and_an_admins(platform: Platform, bundle: Bundle) -> None:
    session = platform.session()
    kept = session.models.draft("fraud", bundle("fraud"))
    gone = session.models.draft("fraud", bundle("fraud", seed=1))
    session.models.register("fraud", 2)
    session.models.set_alias("fraud", "champion", 2)
    session.models.remove_alias("fraud", "champion")
    session.models.comment("fraud", "bad", version=2)
    with pytest.raises(Conflict, match="not deleted"):
        session.models.purge("fraud", version=2)
    session.models.delete("fraud", version=2)
    session.access.add_principal("ann")
    session.access.grant("ann", "data_scientist")
    with pytest.raises(Refused):
        platform.session(Principal(name="ann")).models.purge("fraud", version=2)
    session.models.purge("fraud", version=2)
    with pytest.raises(NotFound):
        session.models.restore("fraud", version=2)
    assert session.models.comments("fraud") == ()
    assert [move.version for move in session.models.alias_history("fraud", "champion")] == [2, None]
    from loopline.store.service import Store

    with platform.database.begin(lazy=True) as tx:
        store = Store(tx, platform.blobs)
        assert store.of("model:fraud@2") == []
        only = set(gone.forms.values()) - set(kept.forms.values())
        assert only
        assert all(store.owners(digest) == [] for digest in only)
        assert set(store.of("model:fraud@1")) >= set(kept.forms.values())
    session.models.delete("fraud")
    session.models.purge("fraud")
    assert session.models.versions("fraud", lifecycle="all") == ()
    assert session.models.draft("fraud", bundle("fraud")).version == 3
    assert session.ledger.verify().ok


def _logged(session: Session) -> str:
    run = session.runs.create("fit").id
    for path, data in (("model/MLmodel", b"flavors: {}"), ("model/weights.bin", b"\x80\x04."), ("plots/roc.txt", b"x")):
        session.runs.put_artifact(run, path, Body(data))
    return run


def test_a_version_of_a_runs_files_is_registered_and_signed_at_once(either: Platform) -> None:
    session = either.session()
    run = _logged(session)
    made = session.models.add("fraud", files=f"run:{run}", path="model", run=run, facts={"source": "runs:/x/model"})
    assert (made.ref, made.status, made.task, made.servable) == ("model:fraud@1", "registered", "", False)
    assert sorted(made.forms) == ["MLmodel", "weights.bin"]
    assert (made.size, made.run, made.inputs) == (14, f"run:{run}", ())
    found = session.models.verify("fraud", 1)
    assert (found.ok, found.signed, found.forms) == (True, True, 2)
    assert session.models.set_alias("fraud", "champion", 1).version == 1
    again = session.models.add("fraud", files="model:fraud@champion", path="", run=run)
    assert (again.version, again.forms, again.inputs) == (2, made.forms, ("model:fraud@1",))
    nothing = session.models.add("fraud", facts={"source": "s3://bucket/model"}, description="d", tags={"a": "b"})
    assert (nothing.forms, nothing.description, nothing.tags) == ({}, "d", {"a": "b"})
    assert session.models.verify("fraud", 3).ok
    assert "fraud" in session.models.card("fraud", 1).read().decode()
    with pytest.raises(NotFound):
        session.models.add("fraud", files="run:01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(NotFound):
        session.models.add("fraud", files="run:clinic/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(Invalid):
        session.models.add("fraud", files="data:visits@1")


def test_a_version_outlives_the_files_it_was_made_of(platform: Platform) -> None:
    session = platform.session()
    run = _logged(session)
    session.models.add("fraud", files=f"run:{run}", path="model")
    session.runs.put_artifact(run, "model/MLmodel", Body(b"changed"))
    with platform.database.begin(lazy=True) as tx:
        from loopline.store.service import Store

        assert len(Store(tx, platform.blobs).of("model:fraud@1")) == 2
    assert session.models.verify("fraud", 1).ok


def test_files_are_never_served(platform: Platform) -> None:
    session = platform.session()
    run = _logged(session)
    session.models.add("fraud", files=f"run:{run}", path="model")
    session.models.set_alias("fraud", "champion", 1)
    for ref in ("fraud@1", "fraud@champion"):
        with pytest.raises(Conflict, match="holds files, not a bundle"):
            session.endpoints.create("claims", ref)
    assert not session.endpoints.list()
    with pytest.raises(Conflict):
        platform.open_model("model:fraud@1")


def test_models_made_at_once_under_one_title_are_one(either: Platform) -> None:
    models = either.session().models
    made: list[str] = []
    refused: list[Exception] = []

    def work() -> None:
        try:
            made.append(models.create(title="Fraud").name)
        except Exception as e:
            refused.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["Fraud"]
    assert all(isinstance(e, Conflict) for e in refused)


def test_many_begin_one_model_at_once(either: Platform) -> None:
    """Its row stands in the way of the others by its name and by its title, and either is no reason to refuse them."""
    session = either.session()
    session.models.create("taken", title="Another's")
    for n in range(100):
        name, together = f"new-{n}", threading.Barrier(6)

        def begin(_: int, name: str = name, together: threading.Barrier = together) -> int:
            with either.database.begin(lazy=True, project="default") as tx:
                together.wait(timeout=60)
                return Models(tx).next_number(name)

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(begin, range(6))) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(Conflict, match="already"), either.database.begin(project="default") as tx:
        Models(tx).next_number("Another's")
