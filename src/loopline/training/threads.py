"""LightGBM, loaded so that its threads sleep while they wait for each other.

By default OpenMP's threads spin: on a machine whose cores are taken by others, a fit of 3 s took 177 s, and 15 s when they sleep.
The variable is read when the library is loaded, hence here, and a value that somebody set on purpose stays.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import lightgbm

__all__ = ["lightgbm", "threads_for"]

_CELLS = 500_000


def threads_for(cells: int, most: int) -> int:
    """How many threads a fit on so many cells (rows times features) is worth: one for a small table."""
    return most if cells >= _CELLS else 1
