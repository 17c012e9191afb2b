"""The minimal report of ydata-profiling, as JSON. python profile_ydata.py TABLE."""

import sys

import pandas as pd
from works import serve
from ydata_profiling import ProfileReport

frame = pd.read_parquet(sys.argv[1])
serve({"profile": lambda: ProfileReport(frame, minimal=True, progress_bar=False).to_json()})
