"""A date in parts that a model can learn from: its day in all, month, day of the month, weekday and hour.

The ONNX form (packaging/preprocessing.py) does the same in the same integers, so that both agree to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PARTS = ("days", "month", "day", "weekday", "hour")
EARLIEST, LATEST = -719_468.0, 2_932_896.0  # 0000-03-01 and 9999-12-31, in days since 1970
# A float32 of days steps by about three minutes nowadays; without this much added, 10:00 could fall back to hour 9.
HOUR_SLACK = 0.05


def parts(days: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 [n, 5] in the order of PARTS, weekday 0 = Monday; NaN in all parts where the days are NaN.

    The calendar is Howard Hinnant's civil_from_days.
    """
    missing = np.isnan(days)
    filled = np.clip(np.where(missing, np.float32(0), days), np.float32(EARLIEST), np.float32(LATEST))
    floor = np.floor(filled)
    whole = floor.astype(np.int64)
    shifted = whole + 719_468
    era_day = shifted - shifted // 146_097 * 146_097
    era_year = (era_day - era_day // 1_460 + era_day // 36_524 - era_day // 146_096) // 365
    year_day = era_day - (365 * era_year + era_year // 4 - era_year // 100)
    shifted_month = (5 * year_day + 2) // 153
    day = year_day - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 - shifted_month // 10 * 12
    weekday = (whole + 719_468 + 2) % 7  # 0000-03-01 was a Wednesday
    hour = np.floor((filled - floor) * np.float32(24) + np.float32(HOUR_SLACK))
    out = np.stack([filled, month, day, weekday, hour], axis=1).astype(np.float32)
    out[missing] = np.nan
    return out
