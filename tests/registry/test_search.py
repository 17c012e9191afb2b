"""The search for models and versions: what it finds is what looking at each finds, in order, on every page, whatever is asked."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.database import Database
from loopline.errors import Invalid
from loopline.registry import terms
from loopline.registry.records import Condition
from loopline.registry.tables import model_terms, model_versions
from loopline.registry.tables import models as models_table
from loopline.tracking.search.pages import Token, printed

TITLES = ["Fraud model", "fraud model", "Übung", "übung", "a_b", "a%b", "[x]*?", 'it\'s "quoted"', "zz"]
KEYS = ["team", "a.b", 'q"uote', "it's", "%"]
VALUES = ["red", "Red", "RED_1", "", "%", "a'b", "ÄÖ"]


def make(platform: Platform) -> tuple[list[Any], list[Any], dict[str, str]]:
    """Models with versions and tags, some deleted; those that live, and the titles by name."""
    chance = random.Random(7)
    session = platform.session()
    verbs, run = session.models, session.runs.create("fit").id
    for title in TITLES:
        tags = {key: chance.choice(VALUES) for key in KEYS if chance.random() < 0.5}
        name = verbs.create(title=title, tags=tags).name
        for number in range(1, chance.randint(1, 5)):
            facts = {"source": f"mlflow-artifacts:/{number}/Ü"} if chance.random() < 0.5 else {}
            facts |= {"run_id": "elsewhere"} if chance.random() < 0.3 else {}
            tags = {key: chance.choice(VALUES) for key in KEYS if chance.random() < 0.5}
            verbs.add(name, run=None if "run_id" in facts else run, facts=facts, tags=tags)
            platform.clock.forward(milliseconds=chance.choice((0, 5)))  # type: ignore[attr-defined]
    verbs.delete(verbs.list(title="zz")[0].name)
    one = verbs.list(title="a_b")[0].name
    if verbs.versions(one):
        verbs.delete(one, verbs.versions(one)[0].version)
    live = verbs.list()
    titles = {model.name: model.title for model in live}
    return list(live), [v for v in verbs.list_versions() if v.name in titles], titles


def value_of(thing: Any, field: str, titles: dict[str, str], tags: dict[str, dict[str, str]]) -> Any:
    """What a model or a version has in a field; None: nothing."""
    group, _, key = field.partition(".")
    if group == "model":
        return tags[thing.name].get(key.partition(".")[2])
    if key:
        return getattr(thing, group).get(key)
    if field == "title":
        return titles[thing.name]
    if field == "run":
        return thing.facts.get("run_id") or (thing.run or "").removeprefix("run:")
    if field == "source":
        return thing.facts.get("source") or f"loopline:/{thing.ref}"
    return getattr(thing, field)


def holds(own: Any, one: Condition) -> bool:
    if own is None:
        return one.missing
    given: Any = one.value
    if "like" in one.op:
        parts = "".join({"%": ".*", "_": "."}.get(c) or re.escape(c) for c in given)
        found = re.fullmatch(parts, own, re.DOTALL | (re.IGNORECASE if "ilike" in one.op else 0)) is not None
        return found != one.op.startswith("not")
    if "in" in one.op:
        return (own in given) != (one.op == "not in")
    signs = {"=": own == given, "!=": own != given}
    if one.op in signs:
        return bool(signs[one.op])
    return bool({"<": own < given, "<=": own <= given, ">": own > given, ">=": own >= given}[one.op])


def conditions(
    chance: random.Random, things: list[Any], titles: dict[str, str], *, versions: bool
) -> Iterator[Condition]:
    fields = ["title", "name", "tags.", "changed"] + (["version", "run", "source", "model.tags."] if versions else [])
    for field in chance.sample(fields, chance.randint(0, 3)):
        field += chance.choice(KEYS) if field.endswith(".") else ""
        if field in ("changed", "version"):
            given: Any = getattr(chance.choice(things), field)
            yield Condition(field=field, op=chance.choice(("=", "!=", "<", "<=", ">", ">=")), value=given)
            continue
        text = chance.choice([*TITLES, *VALUES, "elsewhere", "mlflow-artifacts:/1/Ü", "loopline:/model:a_b@1"])
        op: Any = chance.choice(("=", "!=", "in", "not in", "like", "ilike", "not like", "not ilike"))
        value: Any = (text, chance.choice(VALUES)) if "in" in op.split() else text
        if "like" in op:
            value = chance.choice((text, text[:2] + "%", "%" + text[1:], text[:1] + "_" + text[2:], "%"))
        yield Condition(field=field, op=op, value=value, missing=chance.random() < 0.3)


def ordered(things: list[Any], order: tuple[str, ...], titles: dict[str, str], *, versions: bool) -> list[Any]:
    found = list(things)
    for text in reversed((*order, "title", *(("version DESC",) if versions else ()))):
        field, _, way = text.partition(" ")
        found.sort(key=lambda one: value_of(one, field, titles, {}), reverse=way == "DESC")
    return found


@pytest.mark.parametrize("versions", [False, True], ids=["models", "versions"])
def test_what_is_found_is_what_looking_at_each_finds(either: Platform, versions: bool) -> None:
    models, all_versions, titles = make(either)
    tags = {model.name: model.tags for model in models}
    things = all_versions if versions else models
    verbs = either.session().models
    search: Any = verbs.search_versions if versions else verbs.search
    chance = random.Random(11)
    some = 0
    for _ in range(60):
        where = tuple(conditions(chance, things, titles, versions=versions))
        keys = ["title", "name", "created", "changed", *(["version"] if versions else [])]
        order = tuple(
            f"{key}{chance.choice(('', ' DESC', ' ASC'))}".strip() for key in chance.sample(keys, chance.randint(0, 3))
        )
        expected = [one for one in things if all(holds(value_of(one, c.field, titles, tags), c) for c in where)]
        expected = ordered(expected, tuple(text.removesuffix(" ASC") for text in order), titles, versions=versions)
        found: list[Any] = []
        after, limit = None, chance.randint(1, 4)
        while True:
            page = search(where, order, limit, after)
            found += page.versions if versions else page.models
            after = page.after
            if after is None:
                break
        assert [one.ref for one in found] == [one.ref for one in expected], (where, order)
        some += bool(found)
    assert 10 < some < 60


def test_what_cannot_be_asked_is_told(either: Platform) -> None:
    verbs = either.session().models
    verbs.create("fraud")
    verbs.create("risk")
    wrong: list[tuple[str, Any, Any]] = [
        ("nothing", "=", "a"), ("version", "=", "a"), ("title", "=", 1), ("title", "in", "a"), ("created", "like", "a"),
        ("created", "<", 2**63), ("title", "<", "a"), ("title", "like", "%" * 1001), ("facts.a", "=", "x"),
    ]  # fmt: skip
    for field, op, value in wrong:
        with pytest.raises(Invalid):
            verbs.search((Condition(field=field, op=op, value=value),))
    for order in ("nothing", "title up", "title; DROP TABLE models", "version", "tags.a"):
        with pytest.raises(Invalid, match="nothing to order by"):
            verbs.search((), (order,))
    for field in ("titles", "model.", "model.title", "model.description"):
        with pytest.raises(Invalid, match="no field"):
            either.session().models.search_versions((Condition(field=field, op="=", value="a"),))
    with pytest.raises(Invalid, match="too many"):
        verbs.search((Condition(field="title", op="=", value="a"),) * 201)
    after = verbs.search((), (), 1).after
    assert after is not None
    for token in ("", "x", after[:-2], printed(Token(b"12345678", 0, 0, ["a"]))):
        with pytest.raises(Invalid):
            verbs.search((), (), 1, token)
    with pytest.raises(Invalid, match="another search"):
        verbs.search((), ("title DESC",), 1, after)
    injected = "'); DELETE FROM models; --"
    for field in ("title", f"tags.{injected}", f'tags.$."{injected}'):
        assert verbs.search((Condition(field=field, op="=", value=injected),)).models == ()
    assert len(verbs.list()) == 2


def test_the_newest_version_of_each_stage(either: Platform) -> None:
    verbs = either.session().models
    for name in ("a", "b"):
        verbs.create(name)
        for stage in ("Staging", None, "Staging", "Production"):
            verbs.add(name, tags={"stage": stage} if stage else {})
    verbs.delete("a", 3)
    found = [(one.name, one.version) for one in verbs.list_versions(newest_by="stage")]
    assert found == [("a", 1), ("a", 2), ("a", 4), ("b", 2), ("b", 3), ("b", 4)]
    assert [one.version for one in verbs.list_versions(("b",), newest_by="stage")] == [2, 3, 4]


def test_the_newest_are_found_by_an_index(either: Platform) -> None:
    """A page of what changed last reads no more than it shows."""
    plan = planned(either.database, either.session().models)
    assert "ix_model_versions_changed" in plan, plan
    assert models_table.name  # the table of models is looked at by its key


def planned(database: Database, verbs: Any) -> str:
    """How the database goes about the first page of the versions that changed last, among many."""
    verbs.create("many")
    first = verbs.add("many")
    with database.begin() as tx:
        t = model_versions
        row = tx.first(sa.select(t).where(t.c.version == first.version))._asdict()
        tx.execute(t.insert(), [{**row, "version": n, "changed": n} for n in range(2, 3000)])
    if not database.sqlite:
        with database.begin() as tx:
            tx.execute(sa.text("ANALYZE"))
    said: list[str] = []
    with explained(database, said):
        page = verbs.search_versions((), ("changed DESC",), 10)
    assert [one.version for one in page.versions] == [1, *range(2999, 2990, -1)]
    return "\n".join(said)


MANY = 10_000


@contextmanager
def explained(database: Database, said: list[str]) -> Iterator[None]:
    """Writes down how the database goes about each search for versions within."""

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        searched = ("FROM model_versions" in statement and "ORDER BY" in statement) or "FROM model_terms" in statement
        if searched and not statement.startswith("EXPLAIN"):
            how = "EXPLAIN QUERY PLAN " if database.sqlite else "EXPLAIN "
            found = connection.exec_driver_sql(how + statement, parameters)
            said.extend(str(row[-1]) for row in found)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", explain)
    try:
        yield
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", explain)


def test_a_tag_a_run_and_a_source_are_found_by_an_index(either: Platform) -> None:
    """Among ten thousand versions only those that are found are read, of one condition or of several together."""
    database, verbs = either.database, either.session().models
    verbs.create("many")
    first = verbs.add("many", tags={"team": "red"})
    with database.begin() as tx:
        row = tx.first(sa.select(model_versions).where(model_versions.c.version == first.version))._asdict()
        made = [
            {**row, "version": n, "tags": {"nr": str(n), "half": str(n % 2)},
             "facts": {"run_id": f"r{n // 2}", "source": f"s3://bucket/{'x' * 80}/{n}"}}
            for n in range(2, MANY)
        ]  # fmt: skip
        tx.execute(model_versions.insert(), made)
        tx.execute(model_terms.insert(), [term for each in made for term in terms.of(tx, SimpleNamespace(**each))])
    if not database.sqlite:
        with database.begin() as tx:
            tx.execute(sa.text("ANALYZE"))
    nr, run = Condition(field="tags.nr", op="=", value="77"), Condition(field="run", op="=", value="r38")
    for where, found in (
        ([nr], [77]),
        ([run], [77, 76]),
        ([run, nr], [77]),
        ([Condition(field="tags.nr", op="in", value=("5", "9", "none"))], [9, 5]),
        ([Condition(field="source", op="=", value=f"s3://bucket/{'x' * 80}/500")], [500]),
        ([Condition(field="source", op="=", value="loopline:/model:many@1")], [1]),
        ([Condition(field="tags.half", op="=", value="1"), nr], [77]),
        ([Condition(field="tags.team", op="=", value="red")], [1]),
    ):
        plan: list[str] = []
        with explained(database, plan):
            page = verbs.search_versions(tuple(where))
        assert [one.version for one in page.versions] == found
        read = "\n".join(plan)
        assert "SCAN model_versions" not in read, read
        assert "Seq Scan on model_" not in read, read
        assert ("version=?" if database.sqlite else "Index Scan") in read, read
    with database.begin(lazy=True) as tx:
        assert terms.narrow(tx, (Condition(field="tags.half", op="=", value="1"),)) is None, (
            "they are too many to look at each"
        )
    assert len(verbs.search_versions((Condition(field="tags.half", op="=", value="1"),), limit=7).versions) == 7


def test_what_is_said_anew_is_found_and_what_was_said_before_is_not(either: Platform) -> None:
    verbs = either.session().models
    verbs.create("a")
    verbs.add("a", tags={"team": "red", "stage": "x"})

    def found(key: str, value: str) -> int:
        return len(verbs.search_versions((Condition(field=f"tags.{key}", op="=", value=value),)).versions)

    assert (found("team", "red"), found("team", "blue")) == (1, 0)
    verbs.tag("a", {"team": "blue", "stage": None}, 1)
    assert (found("team", "red"), found("team", "blue"), found("stage", "x")) == (0, 1, 0)
    verbs.delete("a", 1)
    assert found("team", "blue") == 0
    verbs.restore("a", 1)
    assert found("team", "blue") == 1
    verbs.delete("a", 1)
    verbs.purge("a", 1)
    with either.database.begin(lazy=True) as tx:
        assert tx.rows(sa.select(model_terms)) == []
