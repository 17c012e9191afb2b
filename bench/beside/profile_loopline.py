"""Profiles by Loopline: python profile_loopline.py TABLE [LARGE TABLE]."""

import sys

import polars as pl
from works import serve

from loopline.quality.profile import ProfileBuilder, profile

small = pl.read_parquet(sys.argv[1])
large = [pl.read_parquet(file) for file in sys.argv[2:]]
labelled = small.with_columns(label=pl.col("n0") > 1)
reference = profile(small).freeze()
rows = small.head(32_768).to_dicts()


def served() -> None:
    builder = ProfileBuilder(reference)
    for start in range(0, len(rows), 64):
        builder.add(rows[start : start + 64])
    builder.take()


serve(
    {
        "profile": lambda: profile(small),
        "against a reference": lambda: profile(small, reference=reference),
        "full": lambda: profile(labelled, label="label", full=True),
        "large": lambda: profile(large[0]),
        "large full": lambda: profile(large[0], full=True),
        "32,768 served rows": served,
    }
)
