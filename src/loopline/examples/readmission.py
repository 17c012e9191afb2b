"""Hospital readmission: will a diabetic patient come back? One file declares the whole loop."""

import loopline as ll

encounters = ll.source(
    "readmission.parquet",
    label="readmitted",
    time="encounter_id",
    group="patient_nbr",
    protected=["race", "gender", "age"],
)

contract = ll.contract(
    ll.unique("encounter_id"),
    ll.column("time_in_hospital").between(1, 14),
    ll.column("gender").one_of("Female", "Male"),
    ll.rule("third diagnosis coded", "number_diagnoses < 3 OR diag_3 IS NOT NULL"),
    ll.rule("newborn is a child", "admission_type_id <> 4 OR age = '[0-10)'"),
    ll.column("readmitted").one_of("YES", "NO"),
)


@ll.step(cpu=2)
def baseline(train: ll.Table) -> ll.Model:
    return ll.linear(train)


@ll.step(cpu=2)
def fit(train: ll.Table, *, learning_rate: float = 0.1, leaves: int = 31, min_rows: int = 50) -> ll.Model:
    return ll.boosted(train, learning_rate=learning_rate, leaves=leaves, min_rows=min_rows)


loop = ll.Loop(
    "readmission",
    purpose="Find patients who are likely to be readmitted, so that follow-up care can be offered before they leave.",
    data=encounters,
    contract=contract,
    clean=[
        ll.clean.placeholders(),
        ll.clean.repair(),
        ll.clean.clip("num_lab_procedures", "num_medications"),
    ],
    baseline=baseline,
    train=fit,
    tune=ll.tune(learning_rate=(0.03, 0.3, "log"), leaves=(8, 64), min_rows=(20, 200), trials=6, seed=7),
    gates=[
        ll.gate.at_least("roc_auc", 0.62),
        ll.gate.beats("baseline", "roc_auc"),
        ll.gate.not_worse_than("@champion", "roc_auc", margin=0.01),
        ll.gate.fair("race", "equal_opportunity_difference", at_most=0.10, too_few="pass"),
        ll.gate.latency(p99="5ms"),
    ],
    rollout=ll.rollout.shadow(rows=1000).canary(5, 25, 50, rows=200),
    monitor=ll.monitor(false_alarms="1/quarter", look="1s", rows=1000),
    retrain=ll.retrain(on=["quality", "drift"], cool_down="1d", at_least=5000),
)
