"""Whether rows can be learned from, said before any of them is written."""

from __future__ import annotations

import polars as pl

from loopline.data.readers_label import LabelFacts, check_label
from loopline.data.records import Learning
from loopline.data.split import split
from loopline.data.split_records import SIDES
from loopline.errors import Invalid, did_you_mean


def check_learning(frame: pl.DataFrame, learning: Learning) -> LabelFacts:
    """The facts of the label, where these rows can be learned from.

    Raises Invalid where the label cannot (see `check_label`), where a named column is absent, where a group or all that is left to
    learn from has no value, where the time orders nothing, and where the rows are too few for a split: that is tried, on the few
    columns that decide it.
    """
    facts = check_label(frame, learning.label, learning.task)
    for name in (learning.time, learning.group, *learning.columns):
        if name is not None and name not in frame.columns:
            raise Invalid(
                f"The table has no column {name!r}.", code="no-column", hint=did_you_mean(name, frame.columns)
            )
    group = learning.group
    if group is not None and frame[group].null_count() == frame.height:
        raise Invalid(
            f"The group column {group!r} has no value in any of {frame.height} rows.",
            code="no-group",
            hint="Name another column, or leave the group out: then each row is one of its own.",
        )
    found = frame[group].drop_nulls().n_unique() + frame[group].null_count() if group is not None else 0
    if group is not None and learning.time is None and found < len(SIDES):
        raise Invalid(
            f"The group column {group!r} has {found} group{'s' if found > 1 else ''} in all {frame.height} rows; a split by group "
            f"needs one for each of its {len(SIDES)} sides.",
            code="split-groups",
            hint="Name another column, or leave the group out: then each row is one of its own.",
        )
    others = [c for c in frame.columns if c not in (learning.label, learning.time, group)]
    if all(frame[c].null_count() == frame.height for c in others):
        raise Invalid(
            f"Beside the label {learning.label!r} no column has a value to learn from"
            f" ({', '.join(map(repr, others[:5])) or 'there is none'}).",
            code="no-features",
            hint="Give a table with more columns, or fill them.",
        )
    deciding = [c for c in dict.fromkeys((learning.label, learning.time, group)) if c is not None]
    sides = split(
        pl.DataFrame([frame[name] for name in deciding]),
        label=learning.label,
        time=learning.time,
        group=group,
        task=facts.task,
        seed=0,
    )
    if sides.train[learning.label].n_unique() < 2:
        raise Invalid(
            f"The train side of the split by {sides.facts.by} has one value of {learning.label!r} in its {sides.train.height} "
            f"rows ({frame.height} in all).",
            code="split-classes",
            hint="Give more rows.",
        )
    return facts
