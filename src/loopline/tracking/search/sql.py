"""From the tree of a filter to SQL. Every value is a bound parameter; keys are looked up in the dictionary first.

A condition is never NULL: what a run does not have makes its leaf false, so that AND, OR and NOT are those of two values on
SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Invalid
from loopline.refs import parse as parse_ref
from loopline.tracking.search.columns import (
    Bool,
    Columns,
    among,
    attribute,
    beside,
    elsewhere,
    escaped,
    is_text,
    metric,
    of_metric,
    param_text,
    printed,
    same_param,
    same_text,
    within,
)
from loopline.tracking.search.texts import Budget, literal, matching
from loopline.tracking.search.tree import (
    And,
    Field,
    In,
    Like,
    Match,
    Missing,
    Not,
    Or,
    Order,
    OrderBy,
    Span,
    Tree,
)
from loopline.tracking.tables import (
    external_datasets,
    run_external,
    run_params,
    run_refs,
    run_series,
    run_tags,
    runs,
    words,
)

KEYED: dict[str, sa.Table] = {"params": run_params, "metrics": run_series, "tags": run_tags}
_SIDES = {"inputs": 0, "outputs": 1}
_FEW = 1_000
AT_ONCE = 4_000
"""So many runs' texts are in memory at most for a pattern."""


def fields_of(tree: Tree) -> Iterator[Field]:
    """Every field that a filter asks for."""
    if isinstance(tree, And | Or):
        for part in tree.parts:
            yield from fields_of(part)
    elif isinstance(tree, Not):
        yield from fields_of(tree.part)
    else:
        yield tree.field


class Compiler:
    """Makes the conditions of one search, within one transaction."""

    def __init__(self, tx: Tx, tree: Tree, order: Sequence[OrderBy]) -> None:
        self.tx = tx
        self.sqlite = tx.database.sqlite
        self.budget = Budget()
        self.fitting: dict[Match, set[int]] = {}
        self._numbers = sa.select(runs.c.number).where(runs.c.project == tx.project).order_by(runs.c.number)
        fields = [*fields_of(tree), *(by.field for by in order)]
        wanted = {field.key for field in fields if field.group in KEYED}
        found = tx.rows(sa.select(words.c.word, words.c.id).where(words.c.word.in_(sorted(wanted)))) if wanted else ()
        self.words = {row.word: row.id for row in found}

    def condition(self, tree: Tree) -> Bool:
        """Which rows of `runs` a filter holds for."""
        match tree:
            case And(parts):
                return sa.and_(sa.true(), *map(self.condition, parts))
            case Or(parts):
                return sa.or_(sa.false(), *map(self.condition, parts))
            case Not(part):
                return sa.not_(self.condition(part))
            case Missing(field):
                return sa.not_(self._there(field))
        if isinstance(tree, Match):
            return self.among(runs.c.number, self._fitting(tree))
        field = tree.field
        if field.group in KEYED:
            return self._exists(field, lambda c: self.test(tree, c))
        if field.group in _SIDES:
            return self._of_refs(tree)
        if field.group == "external":
            return self._elsewhere(lambda: self._of_external(tree, elsewhere(field.key)))
        column = attribute(field.key)
        return sa.and_(column.is_not(None), self._of_attribute(tree, column))

    def few(self, tree: Tree) -> set[int] | None:
        """The numbers of the runs (some too many, perhaps) that a filter can hold for, where an index tells that they are few."""
        match tree:
            case And(parts):
                known = [found for found in map(self.few, parts) if found is not None]
                return set.intersection(*known) if known else None
            case Or(parts):
                every = [self.few(part) for part in parts]
                return None if None in every else set().union(*(found for found in every if found is not None))
        if isinstance(tree, Match):
            found = self._fitting(tree)
            return found if len(found) <= _FEW else None
        query = self._indexed(tree)
        if query is None:
            return None
        rows = self.tx.rows(query.limit(_FEW + 1))
        return {row[0] for row in rows} if len(rows) <= _FEW else None

    def fit(self, leaf: Match, numbers: Sequence[int]) -> set[int]:
        """Which of some runs a pattern holds for, by their numbers."""
        # By place, since these are the columns of up to all runs: by name each takes several times as long.
        rows: Sequence[Any] = self.tx.rows(self._texts(leaf, numbers))
        texts = [printed(row[1], row[2]) for row in rows] if leaf.field.group == "params" else [row[1] for row in rows]
        hit = matching(texts, leaf.pattern, self.budget)
        found = {row[0] for row, good in zip(rows, hit, strict=True) if good}
        return {row[0] for row in rows} - found if leaf.negated else found

    def key(self, field: Field) -> int:
        """The number of a field's key; 0, which is that of none, where no run has it."""
        return int(self.words.get(field.key, 0))

    def test(self, leaf: In | Order | Like, c: Columns) -> Bool:
        """Whether a leaf holds for a row of its field's table."""
        if leaf.field.group == "metrics":
            return of_metric(leaf, metric(leaf.field, c))
        if leaf.field.group == "params":
            return self._of_param(leaf, c)
        if isinstance(leaf, In):
            same = same_text(c.value, [str(value) for value in leaf.values])
            return sa.not_(same) if leaf.negated else same
        return self._of_text(leaf, c.value)

    def binary(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
        """A text as it is ordered everywhere: by code points."""
        return column if self.sqlite else sa.collate(column, "C")

    def among(self, column: sa.ColumnElement[int], numbers: Iterable[int]) -> Bool:
        """Whether a number is one of any number of numbers: they travel as one parameter."""
        return among(column, numbers, self.sqlite)

    def _there(self, field: Field) -> Bool:
        if field.group in KEYED:
            return self._exists(field, lambda _: sa.true())
        if field.group in _SIDES:
            return self._any_ref(field, lambda _: sa.true())
        if field.group == "external":
            return self._elsewhere(lambda: sa.func.length(elsewhere(field.key)) > 0)
        return attribute(field.key).is_not(None)

    def _exists(self, field: Field, test: Callable[[Columns], Bool]) -> Bool:
        c = KEYED[field.group].alias().c
        return sa.exists().where(c.run == runs.c.number, c.key == self.key(field), test(c))

    def _elsewhere(self, test: Callable[[], Bool]) -> Bool:
        """Whether one of the datasets held elsewhere that a run read is such."""
        read = run_external.join(external_datasets, run_external.c.dataset == external_datasets.c.id)
        return sa.exists().select_from(read).where(run_external.c.run == runs.c.number, test())

    def _of_external(self, leaf: In | Order | Like, column: sa.ColumnElement[str]) -> Bool:
        if isinstance(leaf, In):
            same = column.in_([str(value) for value in leaf.values])
            return sa.not_(same) if leaf.negated else same
        return self._of_text(leaf, column)

    def _indexed(self, tree: Tree) -> sa.Select[Any] | None:
        """The query for the runs of a leaf that an index answers."""
        if not isinstance(tree, In | Order) or (isinstance(tree, In) and tree.negated):
            return None
        field = tree.field
        if field.group in KEYED:
            if field.part != "last" or (isinstance(tree, Order) and isinstance(tree.value, str)):
                return None
            c = KEYED[field.group].c
            return sa.select(c.run).where(c.key == self.key(field), self.test(tree, c))
        if field.group in _SIDES and isinstance(tree, In):
            return sa.select(run_refs.c.run).where(
                run_refs.c.ref.in_(self._refs(tree)), run_refs.c.side == _SIDES[field.group]
            )
        if field.group == "attributes" and field.key in ("id", "name", "parent") and isinstance(tree, In):
            column = attribute(field.key)
            return sa.select(runs.c.number).where(runs.c.project == self.tx.project, self._of_attribute(tree, column))
        return None

    def _of_attribute(self, leaf: In | Order | Like, column: sa.ColumnElement[Any]) -> Bool:
        if isinstance(leaf, In):
            same = sa.or_(sa.false(), *self._equal(leaf, column))
            return sa.not_(same) if leaf.negated else same
        if isinstance(leaf, Order) and not isinstance(leaf.value, str):
            if isinstance(leaf.value, Span):
                return beside(leaf.op, column, leaf.value)
            return column.bool_op(leaf.op)(leaf.value)
        return self._of_text(leaf, column)

    def _equal(self, leaf: In, column: sa.ColumnElement[Any]) -> Iterator[Bool]:
        spans = [value for value in leaf.values if isinstance(value, Span)]
        yield from (within(column, value) for value in spans)
        values = [value for value in leaf.values if not isinstance(value, Span)]
        if leaf.field.key in ("id", "parent"):
            ids = [str(value).removeprefix("run:").rsplit("/", 1)[-1] for value in values]
            if leaf.field.key == "parent":
                above = sa.select(runs.c.number).where(runs.c.project == self.tx.project, runs.c.id.in_(ids))
                yield column.in_([row.number for row in self.tx.rows(above)])
            else:
                yield column.in_(ids)
        elif values:
            yield column.in_(values)

    def _of_param(self, leaf: In | Order | Like, c: Columns) -> Bool:
        if isinstance(leaf, In):
            same = sa.or_(sa.false(), *(p for value in leaf.values for p in same_param(value, c)))
            # What is NULL in it (a column that this param does not use) is not the same.
            return sa.case((same, sa.false()), else_=sa.true()) if leaf.negated else same
        assert isinstance(leaf, Order), "texts of params are for the engine of patterns"
        if not isinstance(leaf.value, str):
            return sa.and_(c.number.is_not(None), c.number.bool_op(leaf.op)(leaf.value))
        return sa.and_(is_text(c), self.binary(param_text(c)).bool_op(leaf.op)(escaped(leaf.value)))

    def _of_text(self, leaf: Order | Like, column: sa.ColumnElement[str]) -> Bool:
        if isinstance(leaf, Order):
            return self.binary(column).bool_op(leaf.op)(leaf.value)
        same = self._like(column, leaf.pattern)
        return sa.not_(same) if leaf.negated else same

    def _fitting(self, leaf: Match) -> set[int]:
        """The numbers of the runs whose text a pattern is found in, or those that have one and it is not."""
        if leaf in self.fitting:
            return self.fitting[leaf]
        numbers = [row[0] for row in self.tx.rows(self._numbers)]
        found: set[int] = set()
        for start in range(0, len(numbers), AT_ONCE):
            found |= self.fit(leaf, numbers[start : start + AT_ONCE])
        self.fitting[leaf] = found
        return found

    def _texts(self, leaf: Match, numbers: Sequence[int]) -> sa.Select[Any]:
        """The texts that some runs have in a field, but for those that the pattern cannot be found in."""
        field = leaf.field
        if field.group == "attributes":
            text = attribute(field.key)
            query = sa.select(runs.c.number.label("run"), text.label("text")).where(text.is_not(None))
            number: sa.ColumnElement[int] = runs.c.number
        elif field.group in _SIDES:
            c, text = run_refs.c, run_refs.c.ref
            query = sa.select(c.run, text.label("text")).where(c.side == _SIDES[field.group], self._of_kind(field, c))
            number = c.run
        elif field.group == "external":
            text = elsewhere(field.key)
            read = run_external.join(external_datasets, run_external.c.dataset == external_datasets.c.id)
            query = sa.select(run_external.c.run, text.label("text")).select_from(read)
            number = run_external.c.run
        else:
            c = KEYED[field.group].c
            number, text = c.run, c.value
            query = sa.select(c.run, text.label("text")).where(c.key == self.key(field))
            if field.group == "params":
                query = query.add_columns(c.number.label("spelled"))
        query = query.where(self.among(number, numbers))
        needed = "" if leaf.negated else literal(leaf.pattern)
        if needed:
            has = (sa.func.instr if self.sqlite else sa.func.strpos)(text, needed) > 0
            query = query.where(sa.or_(text.is_(None), has))  # a param that is a number has no text
        return query

    def _like(self, column: sa.ColumnElement[str], pattern: str) -> Bool:
        if self.sqlite:  # its LIKE takes A for a; GLOB is the same with other signs
            return column.bool_op("GLOB")(
                "".join({"%": "*", "_": "?"}.get(c) or (f"[{c}]" if c in "*?[" else c) for c in pattern)
            )
        return self.binary(column).like(pattern.replace("\\", "\\\\"))

    def _of_refs(self, leaf: In | Order | Like) -> Bool:
        if isinstance(leaf, In):
            names = self._refs(leaf)
            found = self._any_ref(leaf.field, lambda c: c.ref.in_(names))
        else:
            plain = leaf if isinstance(leaf, Order) else msgspec.structs.replace(leaf, negated=False)
            found = self._any_ref(leaf.field, lambda c: self._of_text(plain, c.ref))
        if isinstance(leaf, Order) or not leaf.negated:
            return found
        return sa.and_(self._there(leaf.field), sa.not_(found))

    def _any_ref(self, field: Field, test: Callable[[Columns], Bool]) -> Bool:
        c = run_refs.alias().c
        here = sa.and_(c.run == runs.c.number, c.side == _SIDES[field.group], self._of_kind(field, c))
        return sa.exists().where(here, test(c))

    def _of_kind(self, field: Field, c: Columns) -> Bool:
        return self._like(c.ref, f"{field.key}:%") if field.key else sa.true()

    def _refs(self, leaf: In) -> list[str]:
        """The refs of a leaf as runs keep them: with the project where it is not the default one."""
        return [_ref(str(value), leaf.field.key or None, self.tx.project) for value in leaf.values]


def _ref(text: str, kind: str | None, project: str) -> str:
    try:
        return str(parse_ref(text, kind, project))
    except Invalid:
        return text  # no run has it
