"""The first file of a loop on a table of one's own: what `loopline init` writes for its owner to edit.

Everything in it is a default that a person can read: types and task as inferred from the rows, a contract that the rows keep,
and gates whose thresholds are conventions. None of them comes from the result of a training.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from loopline.data.learning import check_learning
from loopline.data.readers import LabelFacts, read_table
from loopline.data.readers_label import LARGEST, beyond, missing_in
from loopline.data.records import Learning
from loopline.data.split import split
from loopline.errors import Conflict, Invalid, did_you_mean
from loopline.evaluation.metrics import LEAST_ROWS
from loopline.failpoints import failpoint
from loopline.features.infer import infer
from loopline.loop.starter_text import TESTED, Facts, source_text
from loopline.quality.contract import Contract, column, contract
from loopline.quality.contract_rules import AnyRule, Matches, NotNull, Schema, Unique
from loopline.quality.contract_suggest import suggest
from loopline.refs import check_name
from loopline.training.leakage import telling
from loopline.training.problem import Problem

_SHOWN = 6
_RARE = 0.02
_LOOKED_AT = 20_000  # rows of a side in which columns that tell the label are looked for


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A loop's file that was written; `notes` are sentences on what was seen in the table."""

    path: Path
    task: str
    rows: int
    columns: int
    notes: tuple[str, ...] = ()


def write(
    folder: Path,
    name: str,
    data_path: Path,
    *,
    label: str,
    time: str | None = None,
    group: str | None = None,
    protected: Sequence[str] = (),
    overwrite: bool = False,
) -> Written:
    """Writes `NAME.py` into the folder: a loop on the table in `data_path`, ready to be run and to be edited.

    Everything that would keep the loop from running on these rows is said now, and then nothing is written. Raises Invalid (a file
    that is no table, a label that cannot be learned, a column that is not there, a time that orders nothing, too few rows to
    split, a name that hides a Python module), NotFound (no such file) and Conflict (`NAME.py` is there; see `overwrite`).
    """
    stem = check_name(name.removesuffix(".py"), "name of a loop")
    path = folder / f"{stem}.py"
    _free(path, stem, overwrite=overwrite)
    read = read_table(data_path)
    frame = read.frame
    protected = tuple(dict.fromkeys(protected))
    _columns(frame, label, time, group, protected)
    notes = list(read.facts.warnings)
    kept = _usable(frame, label, time, notes)
    learned = check_learning(kept, Learning(label=label, time=time, group=group))
    task = learned.task
    found = infer(kept, label=label, ignore=[c for c in (time, group) if c], typed=True)
    dropped = [d for d in found.dropped if d.name not in (time, group)]
    if dropped:
        more = f", and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
        notes.append("no features: " + "; ".join(f"{d.name!r} ({d.reason})" for d in dropped[:_SHOWN]) + more)
    notes += _about_label(learned, kept, f"{stem}.py")
    notes += _about_rows(kept, learned, group)
    notes += _leaks(kept, learned, time, group)
    if protected and task != "binary":
        notes.append(
            f"fairness is judged for two classes only; slices by {', '.join(protected)} are measured all the same"
        )
    facts = Facts(
        name=stem,
        data=_shown(data_path, folder),
        label=label,
        task=task,
        time=time,
        group=group,
        protected=protected,
        contract=_contract(frame, label, time, group, [field.name for field in found.fields]),
        rows=frame.height,
        features=len(found.fields),
        classes=len(learned.classes),
        rarest=min(learned.counts, default=frame.height),
    )
    _write(path, source_text(facts))
    return Written(path=path, task=task, rows=frame.height, columns=frame.width, notes=tuple(notes))


def _free(path: Path, stem: str, *, overwrite: bool) -> None:
    """Refuses a name whose file would be in the way: of itself, or of a module that Python would look for and find here."""
    if stem.isidentifier() and (stem in sys.stdlib_module_names or _installed(stem, path.parent)):
        raise Invalid(
            f"A file {path.name} would hide the Python module {stem!r} from every program started in this folder.",
            code="module-name",
            hint=f"Take another name, for example {stem + '-loop'!r}.",
        )
    if path.exists() and not overwrite:
        raise Conflict(
            f"There is a file {path.name} already.",
            code="file-there",
            hint="Take another name, or write over it with --force.",
        )


def _installed(stem: str, folder: Path) -> bool:
    """Whether a module of that name is installed; what lies in the folder itself does not count."""
    try:
        spec = importlib.util.find_spec(stem)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(not Path(place).absolute().is_relative_to(folder.absolute()) for place in places)


def _columns(frame: pl.DataFrame, label: str, time: str | None, group: str | None, protected: Sequence[str]) -> None:
    if label not in frame.columns:
        return  # said by check_learning, in its own words
    for what, name in (("time", time), ("group", group), *(("protected", one) for one in protected)):
        if name is None:
            continue
        if name not in frame.columns:
            raise Invalid(
                f"The table has no column {name!r} (--{what}).",
                code="no-column",
                hint=did_you_mean(name, frame.columns),
            )
        if name == label:
            raise Invalid(
                f"The column {name!r} is the label; it cannot be --{what} too.",
                code="bad-column",
                hint="Name another column, or leave the option out.",
            )


def _contract(
    frame: pl.DataFrame, label: str, time: str | None, group: str | None, features: Sequence[str]
) -> Contract:
    """The suggested rules, after those for rows without a label to learn or a time to be placed by, which are set aside.

    A column that is distinct in every row by chance is no rule: two houses may have one price, two events one moment.
    """
    rules: list[AnyRule] = [
        column(name).not_null() for name in (label, time) if name is not None and missing_in(frame[name]).any()
    ]
    if beyond(frame[label]).any():
        rules.append(column(label).between(-LARGEST, LARGEST))
    drafted = suggest(frame, label=label, time=time, group=group, at_most=400).rules
    # Which columns there are and what is never missing, the model's own signature asks of its rows.
    rules += [
        rule for rule in drafted if not (isinstance(rule, Schema | NotNull | Matches) and rule.severity == "warn")
    ]
    chance = {*features, time}
    return contract(*(rule for rule in rules if not (isinstance(rule, Unique) and chance & set(rule.columns))))


def _usable(frame: pl.DataFrame, label: str, time: str | None, notes: list[str]) -> pl.DataFrame:
    """The rows that have a label to learn and a time, and a note on how many the contract will set aside."""
    for name, unusable, what in (
        (label, missing_in, "without a {name!r}"),
        (label, beyond, "whose {name!r} is infinite"),
        (time, missing_in, "without a {name!r}"),
    ):
        if name is None or name not in frame.columns:
            continue
        rows = unusable(frame[name])
        if (count := int(rows.sum())) and count < frame.height:
            notes.append(f"{count:,} rows {what.format(name=name)} will be quarantined")
            frame = frame.filter(~rows)
    return frame


def _about_label(learned: LabelFacts, kept: pl.DataFrame, file: str) -> list[str]:
    notes = []
    if learned.task == "multiclass" and kept[learned.label].dtype.is_numeric():
        notes.append(
            f"the {len(learned.classes)} whole numbers of {learned.label!r} are taken as classes; if they are amounts, write "
            f'task="regression" in {file}, and "r2" for "roc_auc_ovr_weighted" in its gates'
        )
    least = min(learned.counts, default=learned.rows)
    if least < _RARE * learned.rows:
        which = learned.classes[learned.counts.index(least)]
        notes.append(
            f"{learned.label} = {which!r} is rare: {least:,} of {learned.rows:,} rows; probabilities are learnt as they are"
        )
    return notes


def _about_rows(kept: pl.DataFrame, learned: LabelFacts, group: str | None) -> list[str]:
    """What the split will make of the rows, where that is not what one would expect."""
    notes = []
    if learned.task == "regression" and kept.height * TESTED < LEAST_ROWS:
        notes.append(
            f"{kept.height:,} rows cannot pass its gates: the test window would have about {round(kept.height * TESTED)}, and a "
            f"regression is measured on {LEAST_ROWS} or more; give {math.ceil(LEAST_ROWS / TESTED)} rows"
        )
    if group is not None:
        largest = int(kept[group].drop_nulls().unique_counts().max() or 0)  # type: ignore[arg-type]
        if largest > kept.height / 2:
            notes.append(
                f"one {group!r} has {largest / kept.height:.0%} of the rows; a group is never parted, so the sides will be far "
                "from 70, 15 and 15 %"
            )
    return notes


def _leaks(kept: pl.DataFrame, learned: LabelFacts, time: str | None, group: str | None) -> list[str]:
    """Columns that alone tell the label, by the rows that will be trained on."""
    sides = split(kept, label=learned.label, time=time, group=group, task=learned.task, seed=0)
    train, validation = (side.sample(min(side.height, _LOOKED_AT), seed=0) for side in (sides.train, sides.validation))
    if train[learned.label].n_unique() < 2:
        return []  # a rare class that the sample missed
    ignore = [c for c in (time, group) if c]
    problem = Problem.of(train, validation, label=learned.label, ignore=ignore, typed=True)
    return [one.said() for one in telling(problem)]


def _shown(data: Path, folder: Path) -> str:
    """The table's path as the file names it: relative to the file, unless it was given whole and lies elsewhere."""
    whole, home = data.absolute(), folder.absolute()
    if data.is_absolute() and not whole.is_relative_to(home):
        return whole.as_posix()
    return Path(os.path.relpath(whole, home)).as_posix()


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        failpoint("loop.starter.before_rename")
        aside.replace(path)
    except OSError as e:
        aside.unlink(missing_ok=True)
        raise Invalid(
            f"{path} cannot be written: {e.strerror}.", code="cannot-write", hint="Look at the folder's permissions."
        ) from e
