"""Models and their versions by conditions, in an order, a page at a time by key-set: the database filters and orders.

Patterns are judged by the engine that the search of runs has, over the different texts that there are, so that letters have their
case on every database and no pattern takes long.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from loopline.database import Tx
from loopline.errors import Invalid, did_you_mean
from loopline.registry import terms
from loopline.registry.records import RUN_FACT, SOURCE_FACT, Condition
from loopline.registry.tables import model_versions, models
from loopline.tracking.search.columns import Bool
from loopline.tracking.search.pages import Column, Token, behind, checked, printed, read
from loopline.tracking.search.texts import LONGEST_PATTERN, Budget, matching, of_like

_MOST = 200
_MODEL, _TAGS, _FACTS = "model.", "tags.", "facts."
_NUMBERS = ("version", "created", "changed")


class Search:
    """One search for models, or (`versions`) for the live versions of live models, within one transaction."""

    def __init__(self, tx: Tx, *, versions: bool) -> None:
        self.tx = tx
        self.sqlite = tx.database.sqlite
        self.versions = versions
        self.table = model_versions if versions else models
        self._budget = Budget()
        c = models.c
        self._model = (c.project == tx.project) & c.deleted.is_(None)
        self._within = (self.table.c.project == tx.project) & self.table.c.deleted.is_(None)

    def page(
        self, where: Sequence[Condition], order: Sequence[str], limit: int, after: str | None
    ) -> tuple[list[Any], str | None]:
        """The rows of a page, and the token of the next one (None: there is none). Raises `Invalid`."""
        if len(where) > _MOST:
            raise Invalid(f"{len(where)} conditions are too many.", code="bad-filter", hint=f"At most {_MOST}.")
        asked = msgspec.json.encode([self.tx.project, self.versions, where, order])
        search = hashlib.sha256(asked).digest()[:8]
        columns = self._columns(order)
        query = sa.select(self.table, *(column.value.label(f"by{i}") for i, column in enumerate(columns)))
        if self.versions:
            query = query.add_columns(self._value("title").label("title"))
        query = query.where(self._within, *map(self._condition, where))
        if self.versions:
            query = query.where(*self._of_models([one for one in where if one.field.startswith(("title", _MODEL))]))
        if after is not None:
            query = query.where(behind(columns, checked(read(after, search).values, columns)))
        if self.versions:
            few = terms.narrow(self.tx, where)
            if few is not None:
                query = query.where(sa.tuple_(model_versions.c.name, model_versions.c.version).in_(few))
        query = query.order_by(*(c.value.desc() if c.descending else c.value.asc() for c in columns))
        rows: list[Any] = list(self.tx.rows(query.limit(limit + 1)))
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        values = [getattr(last, f"by{i}") for i in range(len(columns))]
        return rows[:limit], printed(Token(search, 0, 0, values))

    def newest(self, names: Sequence[str] | None, key: str) -> set[tuple[str, int]]:
        """The name and number of the newest version of each model (of these, if given) under each value of a tag."""
        c = model_versions.c
        value = sa.func.coalesce(self._text(c.tags, _TAGS + key), "").label("value")
        each = sa.select(c.name, c.version, value).where(self._within).subquery().c
        query = sa.select(each.name, sa.func.max(each.version)).group_by(each.name, each.value)
        rows: Any = self.tx.rows(query) if names is None else self.tx.rows_among(query, each.name, names)
        return {(name, number) for name, number in rows}

    def _columns(self, order: Sequence[str]) -> list[Column]:
        """What is ordered by; behind what is asked for stand the title, and of versions the newest first."""
        found: dict[str, Column] = {}
        for text in (*order, "title", *(["version DESC"] if self.versions else [])):
            field, _, way = text.partition(" ")
            if way.upper() not in ("", "ASC", "DESC") or field.partition(".")[0] not in self._orders():
                raise Invalid(
                    f"{text[:100]!r} is nothing to order by.",
                    code="bad-filter",
                    hint=f"One of {', '.join(self._orders())}, alone or with ASC or DESC behind it.",
                )
            number = field in _NUMBERS
            value = self._value(field) if number else self._binary(self._value(field))
            found.setdefault(field, Column(value, way.upper() == "DESC", int if number else str))
        return list(found.values())

    def _orders(self) -> tuple[str, ...]:
        return ("title", "name", *(("version",) if self.versions else ()), "created", "changed")

    def _condition(self, one: Condition) -> Bool:
        """Whether a condition holds for a row; those of the model of a version are `_of_models`'."""
        if self.versions and one.field.startswith(("title", _MODEL)):
            return sa.true()
        return self._holds(one, self._value(one.field), lambda: sa.select(self._value(one.field)).where(self._within))

    def _of_models(self, where: Sequence[Condition]) -> list[Bool]:
        """Whether the model of a version is live, and what is asked of it.

        Models of a title are few and found first; else a model is looked at as its version comes up in the order.
        """
        asked = []
        for one in where:
            field = one.field.removeprefix(_MODEL)
            if field.startswith(_TAGS):
                value: Any = self._text(models.c.tags, field)
            elif one.field == "title":
                value = models.c.title
            else:
                raise self._unknown(one.field)
            asked.append(self._holds(one, value, lambda value=value: sa.select(value).where(self._model)))  # type: ignore[misc]
        if any(one.field == "title" for one in where):
            rows = self.tx.rows(sa.select(models.c.name).where(self._model, *asked))
            return [self._among(model_versions.c.name, [row.name for row in rows])]
        own = (models.c.name == model_versions.c.name) & self._model
        return [sa.exists().where(own, *asked)]

    def _holds(self, one: Condition, value: Any, every: Callable[[], sa.Select[Any]]) -> Bool:
        found = self._compared(one, value, every)
        return sa.or_(value.is_(None), found) if one.missing else sa.and_(value.is_not(None), found)

    def _compared(self, one: Condition, value: Any, every: Callable[[], sa.Select[Any]]) -> Bool:
        given = one.value
        if one.op in ("in", "not in"):
            if not isinstance(given, tuple):
                raise _bad(one, "several texts")
            among = self._among(value, given)
            return sa.not_(among) if one.op == "not in" else among
        number = one.field in _NUMBERS
        if isinstance(given, tuple) or isinstance(given, str) == number:
            raise _bad(one, "a whole number" if number else "a text")
        if number and not -(2**63) <= int(given) < 2**63:
            raise _bad(one, "a whole number of 64 bits")
        if one.op in ("=", "!="):
            return value == given if one.op == "=" else value != given  # type: ignore[no-any-return]
        if number:
            if one.op not in ("<", "<=", ">", ">="):
                raise _bad(one, "one of = != < <= > >=")
            return value.bool_op(one.op)(given)  # type: ignore[no-any-return]
        if one.op not in ("like", "ilike", "not like", "not ilike") or len(str(given)) > LONGEST_PATTERN:
            raise _bad(
                one, f"one of = != in, not in, like and ilike, with a pattern of up to {LONGEST_PATTERN} characters"
            )
        texts = [row[0] for row in self.tx.rows(every().distinct()) if row[0] is not None]
        pattern = of_like(str(given), fold="ilike" in one.op)
        fitting = [text for text, hit in zip(texts, matching(texts, pattern, self._budget), strict=True) if hit]
        among = self._among(value, fitting)
        return sa.not_(among) if one.op.startswith("not") else among

    def _value(self, field: str) -> Any:
        """The column of a field; NULL where a row has none. Raises `Invalid`."""
        c: Any = self.table.c
        for start, column in ((_TAGS, "tags"), (_FACTS, "facts")):
            if field.startswith(start) and column in c:
                return self._text(c[column], field)
        if field in ("name", "created", "changed", "description"):
            return c[field]
        if field == "title":
            of = (models.c.project == model_versions.c.project) & (models.c.name == model_versions.c.name)
            return sa.select(models.c.title).where(of).scalar_subquery() if self.versions else c.title
        if self.versions and field in ("version", "status"):
            return c[field]
        if self.versions and field == "run":
            prefix = self.tx.ref("run", "")
            told = sa.func.nullif(self._text(c.facts, _FACTS + RUN_FACT), "")
            return sa.func.coalesce(told, sa.func.substr(c.run, len(prefix) + 1), "")
        if self.versions and field == "source":
            ref = sa.literal("loopline:/" + self.tx.ref("model", "")) + c.name + "@" + sa.cast(c.version, sa.Text)
            return sa.func.coalesce(sa.func.nullif(self._text(c.facts, _FACTS + SOURCE_FACT), ""), ref)
        raise self._unknown(field)

    def _unknown(self, field: str) -> Invalid:
        known = ["title", "name", "created", "changed", "description", "tags.KEY"]
        known += ["version", "status", "run", "source", "facts.KEY", "model.tags.KEY"] if self.versions else []
        return Invalid(
            f"{field[:100]!r} is no field.", code="bad-filter", hint=did_you_mean(field, known) or ", ".join(known)
        )

    def _text(self, column: Any, field: str) -> Any:
        """The text under a key of a JSON column; the key is a parameter, whatever signs it is of."""
        key = field.partition(".")[2]
        each: Any = (sa.func.json_each if self.sqlite else sa.func.json_each_text)(column).table_valued("key", "value")
        return sa.select(each.c.value).where(each.c.key == key).scalar_subquery()

    def _among(self, column: Any, texts: Sequence[str]) -> Bool:
        """Whether a text is one of any number of texts: they travel as one parameter."""
        if self.sqlite:
            each = sa.func.json_each(json.dumps(list(texts))).table_valued("value")
            return column.in_(sa.select(each.c.value))  # type: ignore[no-any-return]
        return column == sa.any_(sa.literal(list(texts), postgresql.ARRAY(sa.Text)))  # type: ignore[no-any-return]

    def _binary(self, column: Any) -> Any:
        """A text as it is ordered everywhere: by code points."""
        return column if self.sqlite else sa.collate(column, "C")


def _bad(one: Condition, wanted: str) -> Invalid:
    return Invalid(
        f"The condition {one.field[:60]} {one.op} {str(one.value)[:60]!r} cannot be.",
        code="bad-filter",
        hint=f"It takes {wanted}.",
    )
