"""A profile and 20 rules by Loopline on a table of numbers: python scale_loopline.py TABLE."""

import sys

import polars as pl
from works import serve

from loopline.quality.contract import column, contract
from loopline.quality.contract_check import check
from loopline.quality.profile import profile

frame = pl.read_parquet(sys.argv[1])
names = [frame.columns[i % frame.width] for i in range(20)]
rules = contract(*(column(name).between(-4 - i / 20, 4) for i, name in enumerate(names)))
serve({"profile": lambda: profile(frame), "check": lambda: check(frame, rules)})
