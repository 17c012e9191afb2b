"""Finding runs through a platform's session: pages, attacks, saved searches, and what another project has."""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from loopline.app import Platform
from loopline.errors import Invalid, NotFound
from loopline.tracking.records import Point, RunPage
from loopline.tracking.search import pages, sql, texts
from loopline.tracking.search.grammar import parse
from loopline.tracking.search.pages import find
from loopline.tracking.search.sql import Compiler
from loopline.tracking.tables import run_params, run_tags, words
from loopline.tracking.tables import runs as runs_table


def names(page: RunPage) -> list[str]:
    return [run.name for run in page.runs]


def test_runs_are_found_by_what_they_are(either: Platform) -> None:
    runs = either.session().runs
    first = runs.create("a", params={"lr": 0.1, "model": "gbm", "deep": True, "big": 2**53}, tags={"team": "Red"})
    runs.log(first.id, [Point(key="loss", value=v, step=s) for s, v in enumerate([0.5, math.nan, 0.25])])
    runs.finish(first.id, outputs=("model:readmission@1",), message="fine")
    second = runs.create("b", params={"lr": "0.10", "model": "linear"}, parent=first.id, inputs=("data:visits@7",))
    runs.log(second.id, [Point(key="loss", value=math.nan)])
    for filter, found in {
        "": ["b", "a"],
        "params.lr = 0.1": ["b", "a"],
        "params.lr = '0.1'": ["a"],
        "params.lr = '0.10'": ["b", "a"],
        "params.deep = 'true'": ["a"],
        "params.big = '9007199254740992'": ["a"],
        "params.model LIKE 'G%'": [],
        "params.model ILIKE 'G%'": ["a"],
        "tags.team ~ '^[A-Z]ed$'": ["a"],
        "tags.team != 'blue'": ["a"],
        "NOT tags.team = 'blue'": ["b", "a"],
        "metrics.loss = NaN": ["b"],
        "metrics.loss.max = 0.5 AND min(metrics.loss) = 0.25": ["a"],
        "datasets = 'visits@7'": ["b"],
        "models LIKE 'model:readmission@%' AND message = 'fine'": ["a"],
        f"parent = '{first.ref}'": ["b"],
        f"id IN ('{second.id}', 'nothing')": ["b"],
        "status = 'running' OR ended <= 'today'": ["b", "a"],
        "created = 'last 3 minutes' AND duration < '1h'": ["a"],
    }.items():
        assert names(runs.search(filter)) == found, filter
    assert names(runs.search(order=("metrics.loss",))) == ["a", "b"], "NaN stands behind all numbers"
    assert names(runs.search(order=("metrics.loss DESC",))) == ["a", "b"]


def test_pages_hold_each_run_once_while_runs_come(either: Platform) -> None:
    runs = either.session().runs
    for place in range(25):
        runs.create(f"old {place}", params={"lr": place % 3})
    expected = [f"old {place}" for place in sorted(range(25), key=lambda p: (-(p % 3), -p))]
    for order, wanted in (((), [f"old {place}" for place in reversed(range(25))]), (("params.lr DESC",), expected)):
        stop = threading.Event()

        def come(stop: threading.Event = stop) -> None:
            while not stop.is_set():
                either.session().runs.create("new", params={"lr": 1})

        writer = threading.Thread(target=come)
        writer.start()
        try:
            found: list[str] = []
            after = None
            while True:
                page = runs.search("params.lr IS NOT NULL", order, 2, after)
                found += [run.id for run in page.runs]
                after = page.after
                if after is None:
                    break
        finally:
            stop.set()
            writer.join()
        assert len(found) == len(set(found)), "no run twice"
        by_id = {row.id: row.name for row in _rows(either)}
        assert [by_id[run] for run in found if by_id[run] != "new"] == wanted, "none left out"


def _rows(platform: Platform) -> list[sa.Row[tuple[str, str]]]:
    with platform.database.snapshot() as connection:
        return list(connection.execute(sa.select(runs_table.c.id, runs_table.c.name)))


def test_dates_in_words_stand_still_from_page_to_page(either: Platform) -> None:
    runs = either.session().runs
    for _ in range(3):
        runs.create("a")
    with either.database.begin(lazy=True) as tx:
        now = tx.now
        _, after = find(tx, "created = 'last 1 hour'", (), 2, None, now)
        late, _ = find(tx, "created = 'last 1 hour'", (), 2, after, now + 7_200_000)
        fresh, _ = find(tx, "created = 'last 1 hour'", (), 2, None, now + 7_200_000)
    assert (len(late), len(fresh)) == (1, 0)


def test_a_token_that_is_damaged_or_of_another_search_is_refused(either: Platform) -> None:
    runs = either.session().runs
    for place in range(3):
        runs.create("a", params={"lr": place, "x": "text"})
    token = runs.search("name = 'a'", ("params.lr",), 1).after
    assert token is not None
    assert len(runs.search("name = 'a'", ("params.lr",), 5, token).runs) == 2
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    search, now, stretch, values = msgspec.msgpack.decode(raw)

    def forged(*token: object) -> str:
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode()

    damaged = [
        "", "x", "é", "\x00", token[:-3], token + "A" * 20_000, "A" * 40,
        forged(search, now, 9, values), forged(search, now, -1, values), forged(search, -1, stretch, values),
        forged(search, 2**62, stretch, values), forged(search, now, stretch, []), forged(search, now, stretch, ["x", 1]),
        forged(search, now, stretch, [1.0, 2**63]), forged(search, now, 1, ["a\x00", 1]), forged(search, now, stretch, [1, 1]),
        forged(search, now, stretch, [True, None]), forged(b"", now, stretch, values),
    ]  # fmt: skip
    for bad in damaged:
        with pytest.raises(Invalid) as e:
            runs.search("name = 'a'", ("params.lr",), 1, bad)
        assert e.value.code == "bad-page", bad
    for filter, order in (("name = 'b'", ("params.lr",)), ("name = 'a'", ("params.lr DESC",)), ("name = 'a'", ())):
        with pytest.raises(Invalid) as e:
            runs.search(filter, order, 1, token)
        assert e.value.code == "bad-page"


def test_another_projects_runs_never_appear(either: Platform) -> None:
    for project in ("mine", "other"):
        either.session().projects.create(project)
    mine, other = either.session(project="mine").runs, either.session(project="other").runs
    theirs = other.create("secret", params={"lr": 1}, tags={"team": "a"}, inputs=("data:visits@7",))
    other.log(theirs.id, [Point(key="loss", value=1)])
    above = mine.create("mine")
    for filter in (
        "", "params.lr = 1", "tags.team = 'a'", "tags.team ~ 'a'", "metrics.loss = 1", "name = 'secret'", "name ~ 'secret'",
        "inputs LIKE '%visits%'", "inputs ~ 'visits'", f"id = '{theirs.id}'", f"parent = '{theirs.id}'",
        "name = 'x' OR NOT name = 'x'", "params.lr IS NULL OR params.lr IS NOT NULL",
    ):  # fmt: skip
        for order in ((), ("metrics.loss",), ("params.lr DESC",), ("name",)):
            assert [run.id for run in mine.search(filter, order).runs] in ([], [above.id]), filter
    with pytest.raises(NotFound):
        mine.search(saved=other.save_search("theirs", "name = 'secret'").name)


INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE runs; --", "' UNION SELECT 1 --", "\\'; --", '" OR ""="', "x') OR (1=1", "%s %(a)s :a ? $1",
    "${x}", "/* */", "\u2028", "'||(SELECT 1)||'", "a\\", "[a-z]*?", "%", "_", "\\%",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_value_is_never_a_part_of_the_statement(either: Platform, text: str) -> None:
    runs = either.session().runs
    runs.create("other", params={"x": "a"}, tags={"k": "a"})
    runs.create("it", params={"x": text}, tags={"k": text})
    quoted = "'" + text.replace("'", "''") + "'"
    key = '"' + text.replace('"', '""') + '"'
    for filter in (f"params.x = {quoted}", f"tags.k = {quoted}", f"tags.k IN ('b', {quoted})"):
        assert names(runs.search(filter, ("tags.k", "params.x DESC"))) == ["it"]
    assert "it" in names(runs.search(f"tags.k LIKE {quoted}")) or "\\%" in text
    for group in ("params", "tags", "metrics"):
        assert names(runs.search(f"{group}.{key} IS NOT NULL", (f"{group}.{key} DESC",))) == []
    assert len(runs.search().runs) == 2


def test_patterns_cannot_explode(either: Platform) -> None:
    runs = either.session().runs
    runs.create("it", params={"x": "a" * 60_000 + "b"}, tags={"x": "a" * 5_000 + "b"})
    for pattern in ("(a+)+$", "(a|a)*c", "(a*)*c", "(.*a){20}c", "^(([a-z])+.)+[A-Z]$"):
        assert names(runs.search(f"params.x ~ '{pattern}'")) == []
        assert names(runs.search(f"tags.x ~ '{pattern}'")) == []
    many = "%a" * 40 + "%c"
    for filter in (f"tags.x LIKE '{many}'", f"tags.x ILIKE '{many}'", f"params.x LIKE '{many}'"):
        assert names(runs.search(filter)) == []


def test_patterns_have_a_time_together(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = platform.session().runs
    runs.create("it", tags={"x": "a"})
    monkeypatch.setattr(texts, "BUDGET", -1.0)
    with pytest.raises(Invalid) as e:
        runs.search("tags.x ~ 'a'")
    assert e.value.code == "costly-filter"
    assert names(runs.search("tags.x LIKE 'a'")) == ["it"], "the database judges this one"


def test_a_pattern_reads_few_texts_where_its_first_runs_are_near(
    either: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, read = either.session().runs, []

    def counted(texts_: Sequence[str], pattern: str, budget: texts.Budget) -> list[bool]:
        read.append(len(texts_))
        return texts.matching(texts_, pattern, budget)

    monkeypatch.setattr(sql, "matching", counted)
    monkeypatch.setattr(pages, "_AT_LEAST", 10)
    monkeypatch.setattr(pages, "_LOOK", 1)
    for place in range(100):
        run = runs.create(str(place), tags={"t": f"{place} of 100"}, params={"group": place % 10})
        runs.log(run.id, [Point(key="loss", value=float(place))])
    for filter, order, limit, found, most in (
        ("tags.t ~ '^9'", (), 2, ["99", "98"], 20),
        ("tags.t ~ '5 of'", (), 3, ["95", "85", "75"], 40),
        ("tags.t ~ '5 of' AND tags.t !~ '^8'", ("metrics.loss",), 1, ["5"], 40),
        ("tags.t ~ '5 of' AND params.group = 5 AND metrics.loss > 50", (), 5, ["95", "85", "75", "65", "55"], 10),
        ("tags.t ~ '^7 of'", (), 1, ["7"], 60),  # of all, those with a 7 in their text alone
    ):
        read.clear()
        assert names(runs.search(filter, order, limit=limit)) == found
        assert sum(read) <= most, filter


def test_the_largest_filters_are_answered(either: Platform) -> None:
    runs = either.session().runs
    runs.create("it", params={"p1": 1})
    terms = " OR ".join(f"params.p{place} = {place}" for place in range(200))
    assert names(runs.search(terms, tuple(f"params.p{place}" for place in range(8)))) == ["it"]
    deep = "NOT (" * 24 + "name = 'it'" + ")" * 24
    assert names(runs.search(deep)) == ["it"]
    many = ", ".join(f"'{'x' * 3}{place}'" for place in range(990))
    assert names(runs.search(f"name NOT IN ({many})")) == ["it"]


def test_a_selective_term_is_answered_from_its_index(platform: Platform) -> None:
    runs = platform.session().runs
    ids = [runs.create("a", params={"lr": place}, tags={"t": str(place)}).id for place in range(5)]
    numbers = {row.id: place for place, row in enumerate(_rows(platform), 1)}
    with platform.database.begin(lazy=True) as tx:
        for text, found in {
            "params.lr > 2": ids[3:],
            "tags.t = '1' OR params.lr = 2": ids[1:3],
            "tags.t IN ('1', '2') AND params.lr < 2": ids[1:2],
            "tags.nowhere = '1'": [],
        }.items():
            tree = parse(text, tx.now)
            assert Compiler(tx, tree, ()).few(tree) == {numbers[run] for run in found}
        for text in ("NOT tags.t = '1'", "tags.t != '1'", "tags.t = '1' OR status = 'running'", "min(metrics.a) > 1"):
            tree = parse(text, tx.now)
            assert Compiler(tx, tree, ()).few(tree) is None, text


def test_searches_have_names(either: Platform) -> None:
    runs = either.session().runs
    runs.create("bad", params={"lr": 2})
    runs.create("good", params={"lr": 1})
    saved = runs.save_search("low", "params.lr < 5", ("params.lr",))
    assert runs.searches() == (saved,)
    assert names(runs.search(saved="low")) == ["good", "bad"]
    assert names(runs.search(saved="low", order=("params.lr DESC",))) == ["bad", "good"]
    again = runs.save_search("low", "params.lr < 2")
    assert runs.searches() == (again,)
    assert names(runs.search(saved="low")) == ["good"]
    with pytest.raises(Invalid) as wrong:
        runs.save_search("wrong", "params.lr <")
    assert wrong.value.code == "bad-filter"
    with pytest.raises(Invalid):
        runs.save_search("not/a name", "name = 'a'")
    with pytest.raises(Invalid):
        runs.search("name = 'a'", saved="low")
    with pytest.raises(NotFound) as missing:
        runs.search(saved="lwo")
    assert "'low'" in str(missing.value)
    runs.forget_search("low")
    assert runs.searches() == ()
    with pytest.raises(NotFound):
        runs.forget_search("low")


def test_a_page_has_a_size(either: Platform) -> None:
    for limit in (0, -1, 1001):
        with pytest.raises(Invalid) as e:
            either.session().runs.search(limit=limit)
        assert e.value.code == "bad-limit"


@pytest.mark.postgres
def test_the_database_expects_a_value_of_a_key_as_often_as_it_comes(postgres_url: str, tmp_path: Path) -> None:
    platform = Platform.open(workspace=tmp_path, checkpoints=str(tmp_path / "copies"), database=postgres_url)
    with platform.database.begin() as tx:
        row = {"project": "p", "kind": "run", "status": "finished", "created": 1, "creator": "ann", "batches": 0}
        tx.execute(runs_table.insert(), [{**row, "number": n, "id": f"{n:026}", "name": "fit"} for n in range(1, 1001)])
        tx.execute(words.insert(), [{"id": key, "word": f"k{key}"} for key in range(20)])
        cells = [(n, key) for n in range(1, 1001) for key in range(20)]
        said = [{"run": n, "key": key, "value": "common" if key == 7 else f"{key} {n % 50}"} for n, key in cells]
        tx.execute(run_tags.insert(), said)
        tx.execute(run_params.insert(), [{**cell, "number": None, "value": f'"{cell["value"]}"'} for cell in said])
    with platform.database.engine.begin() as connection:
        connection.execute(sa.text("ANALYZE"))
        for table, value in ((run_tags, "common"), (run_params, '"common"')):
            asked = f"SELECT run FROM {table.name} WHERE key = 7 AND substr(value, 1, 64) IN ('{value}')"
            plan = connection.execute(sa.text(f"EXPLAIN (FORMAT JSON) {asked}")).scalar_one()
            assert 500 < plan[0]["Plan"]["Plan Rows"] < 2000
    platform.close()
