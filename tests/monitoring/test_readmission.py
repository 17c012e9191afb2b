"""On the real encounters: no alarm once time is shuffled away, the real drift soon when it is not."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy import stats

from loopline.monitoring.service import _LABEL_SHARE, _QUALITY_SHARE
from loopline.monitoring.watch import Budget, begin, look
from loopline.quality.drift import compare
from loopline.quality.profile import profile
from loopline.quality.profile_parts import INDEPENDENT

DATA = Path(os.environ.get("LOOPLINE_DATA") or Path(__file__).parents[3] / "shared" / "data") / "readmission.parquet"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="readmission.parquet is not here")


@pytest.fixture(scope="module")
def encounters() -> pl.DataFrame:
    return pl.read_parquet(DATA).drop("encounter_id")


def test_shuffled_by_patient_reports_alarm_at_the_stated_rate(encounters: pl.DataFrame) -> None:
    # The columns that say something, or whose rows are most alike within a patient (bench/drift.py takes all 45).
    names = ["race", "gender", "age", "discharge_disposition_id", "time_in_hospital", "num_medications", "acarbose",
             "number_outpatient", "number_emergency", "number_inpatient", "diag_1", "diag_2", "diag_3", "readmitted",
             "number_diagnoses", "max_glu_serum", "a1cresult", "metformin", "glipizide_metformin", "insulin"]  # fmt: skip
    half, encounters = encounters.height // 2, encounters.select("patient_nbr", *names)
    patient = encounters["patient_nbr"].rank("dense").to_numpy() - 1
    alarms = naive = 0
    for seed in range(40):
        place = np.random.default_rng(seed).permutation(int(patient.max()) + 1)
        shuffled = encounters[np.argsort(place[patient], kind="stable")]
        reference = profile(shuffled[:half], groups="patient_nbr").freeze().only(names)
        current = profile(shuffled[half:], reference=reference)
        alarms += bool(compare(reference, current, minimum_effect=0.0).drifted)
        columns = {n: msgspec.structs.replace(c, design=INDEPENDENT) for n, c in reference.columns.items()}
        plain = msgspec.structs.replace(reference, columns=columns)
        naive += bool(compare(plain, current, minimum_effect=0.0).drifted)
    assert alarms <= stats.binom.isf(0.001, 40, 0.05)
    assert naive > alarms + 4  # that rows of one patient are alike does matter here


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        pytest.param(0.2, 1500, id="a fifth of the patients"),
        # Every row, in looks of the size that a monitor waits for.
        pytest.param(1.0, 500, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_a_watch_over_shuffled_patients_alarms_at_the_stated_rate(
    encounters: pl.DataFrame, part: float, rows: int
) -> None:
    budget = Budget.parse("1/quarter", every=3_600_000)  # as a monitor has it, shared between columns and label
    shares = {"columns": budget.share(1 - _LABEL_SHARE - _QUALITY_SHARE), "label": budget.share(_LABEL_SHARE)}
    names = [name for name in encounters.columns if name != "patient_nbr"]
    features = [name for name in names if name != "readmitted"]
    patient = encounters["patient_nbr"].rank("dense").to_numpy() - 1
    alarms, stated = 0, 0.0
    for seed in range(40):
        place = np.random.default_rng(seed).permutation(int(patient.max()) + 1)
        pooled = encounters[np.argsort(place[patient], kind="stable")].head(int(encounters.height * part))
        half = pooled.height // 2
        whole = profile(pooled[:half], label="readmitted", groups="patient_nbr").only(names).freeze()
        alone = msgspec.structs.replace(whole.only(["readmitted"]), label=None)
        references = {"columns": whole.only(features), "label": alone}
        states = {name: begin(share) for name, share in shares.items()}
        looks = (pooled.height - half) // rows
        for number in range(looks):
            window = pooled[half + number * rows : half + (number + 1) * rows]
            for name, reference in references.items():
                seen = profile(window.select(*reference.columns), reference=reference)
                states[name], found = look(states[name], reference, seen, start=number, end=number + 1)
                alarms += found is not None
        # A run of 2**length looks is taken together each time that it is full.
        stated += sum(share.level(n) * (looks >> n) for share in shares.values() for n in range(share.lengths))
    assert alarms <= stats.poisson.isf(0.001, stated)


@pytest.mark.parametrize("blocks", [None, 500])
def test_the_real_drift_is_found_soon_when_replayed(encounters: pl.DataFrame, blocks: int | None) -> None:
    half = encounters.height // 2
    names = ["number_diagnoses", "insulin", "age", "gender", "num_medications", "diag_1", "race", "readmitted"]
    reference = profile(encounters[:half], label="readmitted", groups="patient_nbr", blocks=blocks).freeze().only(names)
    state, when = begin(Budget.parse("1/quarter", every=3_600_000)), {}
    for i in range(0, 12_000, 250):
        window = profile(encounters[half + i : half + i + 250], reference=reference)
        state, found = look(state, reference, window, start=i, end=i + 250)
        if found is not None:
            when |= dict.fromkeys(found.columns, (found.at, found.since))
    assert when["number_diagnoses"][0] <= (500 if blocks is None else 8000)
    assert when["number_diagnoses"][1] <= 500
    if blocks is None:
        assert when["readmitted"][0] <= 5000
    whole = compare(reference, profile(encounters[half:], reference=reference))
    line = next(c for c in whole.drifted if c.column == "number_diagnoses")
    assert line.text == "number_diagnoses rose from 6.96 to 7.95"
