"""The verbs that find runs, and searches that were given a name."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.hashing import digest_json
from loopline.operations import check_limit
from loopline.refs import check_name
from loopline.tracking import reading
from loopline.tracking.records import Lifecycle, RunPage, Search
from loopline.tracking.search.grammar import parse, parse_order
from loopline.tracking.search.pages import find
from loopline.tracking.tables import run_searches
from loopline.tracking.words import Words

LARGEST_PAGE = 1000


class Searches:
    """The part of the runs' service that finds them."""

    tx: Tx
    words: Words

    def search(
        self,
        filter: str = "",
        order: tuple[str, ...] = (),
        limit: int = 100,
        after: str | None = None,
        saved: str | None = None,
        groups: tuple[int, ...] = (),
        lifecycle: Lifecycle = "live",
    ) -> RunPage:
        check_limit(limit, "runs", LARGEST_PAGE)
        if saved is not None:
            if filter:
                raise Invalid(
                    f"A filter and the saved search {saved!r} were given.",
                    code="bad-filter",
                    hint="Give one of them; `loopline runs searches` shows what the saved one asks for.",
                )
            named = self._search(saved)
            filter, order = named.filter, order or named.order
        numbers, token = find(self.tx, filter, order, limit, after, self.tx.now, groups, lifecycle)
        rows = reading.rows_of(self.tx, numbers)
        return RunPage(runs=tuple(reading.records(self.tx, self.words, rows)), after=token)

    def save_search(self, name: str, filter: str, order: tuple[str, ...] = ()) -> Search:
        check_name(name, "name of a search")
        parse(filter, self.tx.now)
        parse_order(order)
        self.tx.execute(run_searches.delete().where(self._named(name)))
        search = Search(name=name, filter=filter, order=tuple(order), by=self.tx.principal, at=self.tx.now)
        self.tx.execute(
            run_searches.insert().values(
                project=self.tx.project, name=name, filter=filter, order=list(order), by=search.by, at=search.at
            )
        )
        self.tx.note(digests={"search": digest_json([name, filter, list(order)])})
        return search

    def searches(self) -> tuple[Search, ...]:
        query = sa.select(run_searches).where(run_searches.c.project == self.tx.project).order_by(run_searches.c.name)
        return tuple(self._record(row) for row in self.tx.rows(query))

    def forget_search(self, name: str) -> None:
        self.tx.write()
        former = self._search(name)
        self.tx.execute(run_searches.delete().where(self._named(name)))
        self.tx.note(digests={"search": digest_json([name, former.filter, list(former.order)])})

    def _search(self, name: str) -> Search:
        row = self.tx.first(sa.select(run_searches).where(self._named(name)))
        if row is None:
            raise NotFound(
                f"There is no saved search {name!r} in project {self.tx.project!r}.",
                code="no-search",
                hint=did_you_mean(name, (search.name for search in self.searches())),
            )
        return self._record(row)

    def _named(self, name: str) -> sa.ColumnElement[bool]:
        return sa.and_(run_searches.c.project == self.tx.project, run_searches.c.name == name)

    @staticmethod
    def _record(row: sa.Row[Any]) -> Search:
        return Search(name=row.name, filter=row.filter, order=tuple(row.order), by=row.by, at=row.at)
