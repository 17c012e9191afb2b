"""Synthetic patients for the demo where the real file is not at hand: the same columns, types, drift and breaches.

Each patient has a hidden frailty. It decides how often they come and pulls on their counts, drugs and discharges (a
Gaussian copula over the marginals of `synthetic_tables`, which drift linearly along time); a visit's label follows from
whether a later visit exists, and else from frailty and first diagnosis. Deterministic for a seed.
"""

from __future__ import annotations

from math import erf
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data import synthetic_tables as tables
from loopline.data.readers import ReadTable, TableFacts
from loopline.errors import Invalid
from loopline.hashing import digest_table
from loopline.quality.blocks import Blocks

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_GRID = np.linspace(-6.0, 6.0, 4001)
_NORMAL = np.array([0.5 * (1.0 + erf(x / 2.0**0.5)) for x in _GRID])
_VISIT_PULL = 0.62
_GAP = 0.12  # mean time to the next visit, as a share of the whole period
_SLOPE = 0.75  # log-odds of coming back per standard deviation of frailty
_CHANGED = 0.28
_GRAVER = 0.6
_TOGETHER = 0.4


def synthetic_readmission(rows: int = 96_921, seed: int = 7) -> pl.DataFrame:
    """Synthetic visits in the form of `readmission.parquet`: 47 columns, sorted by `encounter_id`, label `readmitted`.

    Raises Invalid for fewer than 100 rows or more than 2,000,000 (visits would share an id).
    """
    if not 100 <= rows <= 2_000_000:
        raise Invalid(f"{rows} synthetic rows cannot be made.", code="synthetic-rows", hint="Ask for 100 to 2,000,000.")
    random = np.random.default_rng(seed)
    patient, frailty, later = _visits(rows, random)
    time = (np.arange(rows) + 0.5) / rows
    late = np.clip((time - 0.1) / 0.8, 0.0, 1.0)  # the tables are of the first and the last fifth
    first = np.unique(patient, return_index=True)[1]  # what does not change is drawn at a patient's first visit

    def drawn(table: tables.Marginal) -> Whole:
        return _drawn(table, late, frailty, random)

    columns: dict[str, pl.Series] = {
        "encounter_id": pl.Series(
            _spread(tables.ENCOUNTER_BY_TENTH, (np.arange(rows) + 0.9 * random.random(rows)) / rows)
        ),
        "patient_nbr": pl.Series(_patient_numbers(patient, random)),
    }
    for name, table in (("race", tables.RACE), ("age", tables.AGE)):
        columns[name] = _named(table.values, drawn(table)[first][patient])
    gender = (random.random(len(first)) > tables.FEMALE).astype(np.int64)[patient]
    gender[random.choice(rows, max(1, rows // 30_000), replace=False)] = 2
    columns["gender"] = _named(("Female", "Male", "Unknown/Invalid"), gender)
    for name, table in tables.COUNTS.items():
        columns[name] = pl.Series(np.array(table.values)[drawn(table)])
    for name, amount in tables.AMOUNTS.items():
        columns[name] = pl.Series(_amounts(amount, late, frailty, random))
    effect = _codes(columns, later, random)
    for name, table in tables.TESTS.items():
        columns[name] = _named(table.values, drawn(table))
    _drugs(columns, late, frailty, random)
    died = ~later & (random.random(rows) < tables.DIED_IF_LAST)
    columns["discharge_disposition_id"] = columns["discharge_disposition_id"].set(pl.Series(died), 11)
    effect += _together(columns)
    back = _labels(_SLOPE * frailty + effect, later, died, random)
    columns["readmitted"] = _named(("NO", "YES"), back.astype(np.int64))
    frame = pl.DataFrame({name: columns[name] for name in COLUMNS})
    return frame.with_columns(pl.col(pl.Int64).cast(pl.Int32))


def synthetic_table(rows: int = 96_921, seed: int = 7) -> ReadTable:
    """The same as a table that was read: its facts say "synthetic", and which seed."""
    frame = synthetic_readmission(rows, seed)
    facts = TableFacts(
        format="synthetic",
        source=f"synthetic patients (seed {seed})",
        rows=frame.height,
        columns=frame.width,
        digest=digest_table(frame.to_arrow()),
        warnings=("these rows are synthetic: they imitate published marginals, no patient is behind them",),
        synthetic=True,
    )
    return ReadTable(rows=Blocks.of(frame), facts=facts)


COLUMNS = (
    "encounter_id", "patient_nbr", "race", "gender", "age", "admission_type_id", "discharge_disposition_id",
    "admission_source_id", "time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications",
    "number_outpatient", "number_emergency", "number_inpatient", "diag_1", "diag_2", "diag_3", "number_diagnoses",
    "max_glu_serum", "a1cresult", *tables.DRUGS, "change", "diabetes_med", "readmitted",
)  # fmt: skip


def _visits(rows: int, random: np.random.Generator) -> tuple[Whole, Floats, npt.NDArray[np.bool_]]:
    """For each visit in order of time: its patient (numbered by first visit), their frailty, and whether they come again."""
    mean = float(np.dot(np.arange(1, len(tables.VISITS) + 1), tables.VISITS))
    people = int(rows / mean * 1.35) + 100  # visits that would fall after the end of the period are lost
    frailty = random.standard_normal(people)
    chance = _chance(_VISIT_PULL * frailty + (1 - _VISIT_PULL**2) ** 0.5 * random.standard_normal(people))
    visits = 1 + np.searchsorted(np.cumsum(tables.VISITS) / sum(tables.VISITS), chance).clip(max=len(tables.VISITS) - 1)
    person = np.repeat(np.arange(people), visits)
    gaps = random.exponential(_GAP, len(person))
    starts = np.cumsum(visits) - visits
    gaps[starts] = random.random(people)
    total = np.cumsum(gaps)
    moment = total - np.repeat(total[starts] - gaps[starts], visits)
    person, moment = person[moment < 1.0][:rows], moment[moment < 1.0][:rows]
    order = np.argsort(moment, kind="stable")
    person = person[order]
    last = np.full(people, -1)
    last[person] = np.arange(rows)  # the last write stays
    first_seen, numbered = np.unique(person, return_index=True)
    rank = np.empty(people, np.int64)
    rank[first_seen[np.argsort(numbered)]] = np.arange(len(first_seen))
    of_visit = frailty[person]  # the frail come more often: standardised over visits, the marginals are the tables'
    return rank[person], (of_visit - of_visit.mean()) / of_visit.std(), last[person] > np.arange(rows)


def _chance(normal: Floats) -> Floats:
    """Normal scores as probabilities."""
    chance: Floats = np.interp(normal, _GRID, _NORMAL)
    return chance


def _scores(pull: float, frailty: Floats, random: np.random.Generator) -> Floats:
    return _chance(pull * frailty + (1 - pull**2) ** 0.5 * random.standard_normal(len(frailty)))


def _drawn(table: tables.Marginal, late: Floats, frailty: Floats, random: np.random.Generator) -> Whole:
    """The index of a value for each row: from the late table with probability `late`, else from the early one."""
    score = _scores(table.pull, frailty, random)
    top = len(table.values) - 1
    early_at = np.searchsorted(np.cumsum(table.early) / sum(table.early), score, side="right").clip(max=top)
    late_at = np.searchsorted(np.cumsum(table.late) / sum(table.late), score, side="right").clip(max=top)
    return np.where(random.random(len(late)) < late, late_at, early_at)


def _amounts(table: tables.Quantiles, late: Floats, frailty: Floats, random: np.random.Generator) -> Whole:
    score = _scores(table.pull, frailty, random)
    early, after = np.interp(score, tables.AT, table.early), np.interp(score, tables.AT, table.late)
    return np.rint(early + late * (after - early)).astype(np.int64)


def _named(values: tuple[Any, ...], index: Whole) -> pl.Series:
    return pl.Series(values, dtype=pl.String).gather(index)


def _spread(knots: tuple[int, ...], share: Floats) -> Whole:
    return np.interp(share, np.linspace(0, 1, len(knots)), knots).astype(np.int64)


def _patient_numbers(patient: Whole, random: np.random.Generator) -> Whole:
    count = int(patient.max()) + 1
    numbers = _spread(tables.PATIENT_BY_QUARTER, (np.arange(count) + 0.9 * random.random(count)) / count)
    return random.permutation(numbers)[patient]


def _codes(columns: dict[str, pl.Series], later: npt.NDArray[np.bool_], random: np.random.Generator) -> Floats:
    """Adds the three diagnoses; gives what the first adds to the log-odds of coming back.

    Who does come back has drawn the first diagnosis twice, and often keeps the graver.
    """
    rare = [f"{n}" for n in range(1, 1000) if n % 5 != 0] + [f"V{n:02}" for n in range(1, 90, 7)]
    rare = [c for c in rare if c not in tables.CODES]
    names = (*tables.CODES, *rare)
    tail = 1.0 / np.arange(3, len(rare) + 3)
    effects = np.concatenate([[c[3] for c in tables.CODES.values()], np.zeros(len(rare))])
    number = columns["number_diagnoses"].to_numpy()
    effect = np.zeros(len(number))
    for position in range(3):
        common = np.array([c[position] for c in tables.CODES.values()])
        shares = np.concatenate([common, tail / tail.sum() * (1 - common.sum())])
        index = np.searchsorted(np.cumsum(shares), random.random(len(number))).clip(max=len(names) - 1)
        if position == 0:
            again = np.searchsorted(np.cumsum(shares), random.random(len(number))).clip(max=len(names) - 1)
            graver = later & (effects[again] > effects[index]) & (random.random(len(number)) < _GRAVER)
            index = np.where(graver, again, index)
        missing = (number <= position) | (random.random(len(number)) < tables.NO_CODE[position])
        codes = _named(names, index)
        columns[f"diag_{position + 1}"] = codes.set(pl.Series(missing), None)
        if position == 0:
            effect = np.where(missing, 0.0, effects[index])
    return effect


def _drugs(columns: dict[str, pl.Series], late: Floats, frailty: Floats, random: np.random.Generator) -> None:
    """Adds the drugs, whether any is given, and whether the treatment changed (always, when a dose went up or down)."""
    given = np.zeros(len(late), bool)
    moved = np.zeros(len(late), bool)
    for name, (early, after, pull) in tables.DRUGS.items():
        table = tables.Marginal(tables.DOSES, (1 - sum(early), *early), (1 - sum(after), *after), pull)
        dose = _drawn(table, late, frailty, random)
        columns[name] = _named(tables.DOSES, dose)
        given |= dose > 0
        moved |= dose > 1
    changed = moved | (given & (random.random(len(late)) < _CHANGED))
    columns["change"] = _named(("No", "Ch"), changed.astype(np.int64))
    columns["diabetes_med"] = _named(("No", "Yes"), given.astype(np.int64))


def _together(columns: dict[str, pl.Series]) -> Floats:
    """What only a model with interactions sees: a moved insulin dose weighs in visits without a procedure, and only there."""
    moved = columns["insulin"].is_in(["Up", "Down"]).to_numpy()
    quiet = (columns["num_procedures"] == 0).to_numpy()
    return np.where(quiet, np.where(moved, 1.0, -0.5), np.where(moved, -0.5, 0.5)) * _TOGETHER


def _labels(
    score: Floats, later: npt.NDArray[np.bool_], died: npt.NDArray[np.bool_], random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Who comes back: nearly all with a later visit; of the others so many, by score, that each tenth has its rate."""
    rows = len(score)
    chance = np.where(later, tables.BACK_IF_LATER, 0.0)
    tenths = np.arange(rows) * 10 // rows
    for tenth, rate in enumerate(tables.LABEL_BY_TENTH):
        others = (tenths == tenth) & ~later & ~died
        wanted = rate * (tenths == tenth).sum() - chance[tenths == tenth].sum()
        share = min(max(wanted / max(others.sum(), 1), 0.02), 0.98)
        low, high = -20.0, 20.0
        for _ in range(50):  # the intercept that gives this share
            middle = (low + high) / 2
            low, high = (middle, high) if (1 / (1 + np.exp(-middle - score[others]))).mean() < share else (low, middle)
        chance[others] = 1 / (1 + np.exp(-low - score[others]))
    came: npt.NDArray[np.bool_] = random.random(rows) < chance
    return came
