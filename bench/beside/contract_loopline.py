"""20 rules by Loopline, and in raw polars. python contract_loopline.py TABLE."""

import sys

import polars as pl
from works import serve

from loopline.quality.contract import column, contract, rule, unique
from loopline.quality.contract_check import check, partition

LEVELS = [f"level {j}" for j in range(20)]
RULES = contract(
    unique("id"),
    column("days").between(1, 14),
    *(column(f"n{i}").between(-20, 120) for i in range(8)),
    *(column(f"n{i}").not_null() for i in range(8, 12)),
    column("c0").one_of(*LEVELS[:2]),
    column("c1").one_of(*LEVELS[:5]),
    column("c2").one_of(*LEVELS),
    column("c3").matches(r"level \d+"),
    column("age").of_type("integer"),
    rule("days below age", "days < age + 20"),
)
RAW = [
    ~pl.col("id").is_first_distinct(),
    ~pl.col("days").is_between(1, 14),
    *(~pl.col(f"n{i}").is_between(-20, 120) for i in range(8)),
    *(pl.col(f"n{i}").is_null() for i in range(8, 12)),
    ~pl.col("c0").is_in(LEVELS[:2]),
    ~pl.col("c1").is_in(LEVELS[:5]),
    ~pl.col("c2").is_in(LEVELS),
    ~pl.col("c3").str.contains(r"\Alevel \d+\z"),
    pl.col("age").is_null(),
    ~(pl.col("days") < pl.col("age") + 20),
]


def raw(frame: pl.DataFrame) -> int:
    """The limit: one select of the conditions, their counts and their row mask."""
    masks = frame.lazy().select(e.alias(f"{i}") for i, e in enumerate(RAW)).collect()
    masks.sum()
    return int(masks.select(pl.any_horizontal(pl.all())).to_series().sum())


frame = pl.read_parquet(sys.argv[1])
assert len(RULES.rules) == len(RAW) == 20
assert check(frame, RULES).quarantined == raw(frame)
serve({"raw": lambda: raw(frame), "check": lambda: check(frame, RULES), "partition": lambda: partition(frame, RULES)})
