"""The profile of whylogs. python profile_whylogs.py TABLE."""

import sys

import pandas as pd
import whylogs
from works import serve

frame = pd.read_parquet(sys.argv[1])
serve({"profile": lambda: whylogs.log(frame).view().to_pandas()})
