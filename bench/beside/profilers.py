"""Other systems that describe tables: the script of each, and what its environment holds."""

PROFILERS = {
    "duckdb SUMMARIZE": ("profile_duckdb.py", ("duckdb==1.5.6",)),
    "ydata-profiling, minimal": ("profile_ydata.py", ("ydata-profiling==4.18.4", "setuptools<81", "pyarrow")),
    "whylogs": ("profile_whylogs.py", ("whylogs==1.6.4", "pandas<3", "pyarrow")),
}
