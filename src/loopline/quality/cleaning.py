"""Cleaning: declared steps, fitted on training rows alone, done to every later row, at training and at serving alike.

    fitted = Cleaning.fit(train, [clean.placeholders(), clean.median("age")], keep=("visit",), hidden=("label",))
    rows = fitted.apply(train, training=True).kept
    later = fitted.apply(validation).kept

Missing values stay missing unless a step fills them: the models handle them. Nothing is pickled; `to_dict` is JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Self, cast

import msgspec
import numpy as np
import polars as pl

from loopline.errors import Invalid, did_you_mean
from loopline.quality import cleaning_steps as declared
from loopline.quality.cleaning_aside import AnyAsideStep, AsideStep, Distinct, Outside, Similar
from loopline.quality.cleaning_columns import Places, changed, missing
from loopline.quality.cleaning_fit import bounds, fit, read_nothing
from loopline.quality.cleaning_frame import FrameRows, kind
from loopline.quality.cleaning_records import Change, CleaningReport
from loopline.quality.cleaning_rows import AnyRowStep, RowCleaning
from loopline.quality.cleaning_step import Kind, RowStep
from loopline.quality.cleaning_work import Work, unsuited
from loopline.quality.contract_check import REASON, RULE


class Applied(NamedTuple):
    """What became of rows: those that are kept, those set aside (as they came, with `_rule` and `_reason`), what was done, and the
    places of the kept ones among those that came."""

    kept: pl.DataFrame
    aside: pl.DataFrame
    report: CleaningReport
    places: Places


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted steps in their order. `inputs` are the columns that they read and their kinds, `fitted_on` how many rows taught."""

    inputs: dict[str, Kind] = {}
    steps: tuple[AnyRowStep | AnyAsideStep, ...] = ()
    fitted_on: int = 0

    @classmethod
    def fit(
        cls,
        frame: pl.DataFrame,
        steps: Sequence[declared.Step],
        *,
        keep: Collection[str] = (),
        hidden: Collection[str] = (),
    ) -> Cleaning:
        """The steps fitted on training rows, each on what the ones before it leave. Columns of `keep` are never changed, those of
        `hidden` (the label) not even read.

        Raises `Invalid` for a column that is not there, of the wrong kind or without anything to learn from, and for two steps
        that want the same column.
        """
        if not frame.height:
            raise Invalid("There are no rows to fit a cleaning on.", code="cleaning-empty", hint="Give training rows.")
        kinds = _kinds(frame)
        for name in (*keep, *hidden):
            if name not in frame.columns:
                raise Invalid(
                    f"The table has no column {name!r}.", code="cleaning-column", hint=did_you_mean(name, frame.columns)
                )
        rows = FrameRows(frame, dict(kinds))
        work = Work(rows, kinds, steps, keep={*keep, *hidden}, hidden=hidden)
        fitted: list[RowStep | AsideStep] = []
        for step in steps:
            columns = work.about(step)
            work.one_order(step)
            aside = _aside(work, columns, step)
            fitted += aside
            for rule in aside:
                reasons = rule.reasons(rows, rows.to_frame, (rows.places + 1).tolist())
                rows.without(np.array(sorted(reasons), dtype=np.int64))
            for column in () if aside else columns:
                made = fit(work, column, step)
                before = rows[column]
                work.take(step, made)
                read_nothing(work, made, before)
                fitted.append(made)
        raw = dict(_kinds(frame))
        made_before: set[str] = set()
        inputs: dict[str, Kind] = {}
        for one in fitted:
            inputs |= {name: raw[name] for name in one.reads if name not in made_before}
            if isinstance(one, RowStep):
                made_before |= one.makes.keys() - raw.keys()
        return cls(inputs=inputs, steps=cast(Any, tuple(fitted)), fitted_on=frame.height)

    @property
    def rows(self) -> RowCleaning:
        """The part of it that is done to a row wherever it comes from; the rest is about training's rows alone."""
        return RowCleaning(inputs=self.inputs, steps=cast(Any, tuple(s for s in self.steps if isinstance(s, RowStep))))

    def apply(self, frame: pl.DataFrame, *, training: bool = False) -> Applied:
        """The rows cleaned. Only `training` sets rows aside; every row of the frame is kept or set aside.

        Raises `Invalid` where a column that a step reads is not there or of another kind.
        """
        kinds = self._checked(frame)
        rows = FrameRows(frame, kinds)
        touched = np.zeros(frame.height, dtype=bool)
        changes: list[Change] = []
        places: list[int] = []
        rules: list[tuple[str, str]] = []
        for step in self.steps:
            if isinstance(step, RowStep):
                change, mask = _done(rows, step)
                touched[rows.places[mask]] = True
                if change.cells or change.missing != change.left:
                    changes.append(change)
            elif training:
                reasons = step.reasons(rows, rows.to_frame, (rows.places + 1).tolist())
                gone = np.array(sorted(reasons), dtype=np.int64)
                places += rows.places[gone].tolist()
                rules += [(step.rule, reasons[place]) for place in gone.tolist()]
                rows.without(gone)
        aside = frame[places].with_columns(
            pl.Series(RULE, [rule for rule, _ in rules], dtype=pl.String),
            pl.Series(REASON, [reason for _, reason in rules], dtype=pl.String),
        )
        counts: dict[str, int] = {}
        for rule, _ in rules:
            counts[rule] = counts.get(rule, 0) + 1
        report = CleaningReport(
            rows=frame.height,
            kept=rows.n,
            aside=counts,
            changed=int(touched[rows.places].sum()),
            changes=tuple(changes),
        )
        return Applied(rows.to_frame(), aside, report, rows.places)

    def to_dict(self) -> dict[str, Any]:
        """The fitted cleaning as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def from_dict(cls, shape: dict[str, Any]) -> Self:
        """The cleaning again. Raises `Invalid` on anything that `to_dict` does not give."""
        try:
            return msgspec.convert(shape, cls)
        except msgspec.ValidationError as error:
            raise Invalid(f"This is not a fitted cleaning: {error}.", code="cleaning-json") from error

    def _checked(self, frame: pl.DataFrame) -> dict[str, Kind]:
        """The kinds of the frame's columns, those that are read as they were in training."""
        if taken := [c for c in (RULE, REASON) if c in frame.columns]:
            raise Invalid(
                f"The table has a column {taken[0]!r}, which is a quarantine's own.",
                code="contract-columns",
                hint="Leave _rule and _reason out before these rows are taken again.",
            )
        kinds = _kinds(frame)
        for name, wanted in self.inputs.items():
            if name not in frame.columns:
                raise Invalid(
                    f"The cleaning speaks of a column {name!r} that the table does not have.",
                    code="cleaning-column",
                    hint=did_you_mean(name, frame.columns),
                )
            found = wanted if frame.schema[name] == pl.Null else kinds.get(name)
            if found != wanted and (found, wanted) not in (("integer", "number"), ("date", "moment")):
                word = next(step.word for step in self.steps if name in step.reads)
                raise unsuited(name, found or str(frame.schema[name]), word)
            kinds[name] = wanted
        return kinds


def _kinds(frame: pl.DataFrame) -> dict[str, Kind]:
    return {name: found for name, dtype in frame.schema.items() if (found := kind(dtype)) is not None}


def _aside(work: Work, columns: list[str], step: declared.Step) -> list[AsideStep]:
    """What a step that sets rows aside comes to; nothing for another."""
    if isinstance(step, declared.Deduplicate):
        return [Distinct(columns=step.columns, keep=step.keep, time=step.time)]
    if isinstance(step, declared.NearDuplicates):
        return [Similar(columns=step.columns, similarity=step.similarity)]
    if isinstance(step, declared.Quarantine):
        found = {column: bounds(work, column, step) for column in columns}
        return [Outside(columns=(column,), low=low, high=high) for column, (low, high) in found.items()]
    return []


def _done(rows: FrameRows, step: RowStep) -> tuple[Change, np.ndarray]:
    """Does a step to the rows; what changed, and in which of them."""
    before = rows[step.column]
    gaps = int(missing(before).sum())
    rows.write(step)
    if step.column in step.makes:
        after = rows[step.column]
        mask = changed(before, after)
        change = Change(
            step=step.word, column=step.column, cells=int(mask.sum()), missing=gaps, left=int(missing(after).sum())
        )
        return change, mask
    cells = sum(int((~missing(rows[name])).sum()) for name in step.makes)
    made = Change(step=step.word, column=step.column, made=tuple(step.makes), cells=cells, missing=gaps, left=gaps)
    return made, np.zeros(rows.n, dtype=bool)
