"""Many tests at once: how many of the findings are false?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import Invalid


def benjamini_hochberg(p_values: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """The q-value of each p-value, in the order given: flag `q <= 0.05` and at most 5 % of the flags are false.

    The step-up procedure of Benjamini and Hochberg (1995); it holds for independent and for positively dependent
    tests (Benjamini and Yekutieli 2001). An empty input gives an empty output. Raises Invalid (`bad-p-value`) on a
    value outside [0, 1] or NaN.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if p.size and not (np.all(p >= 0) and np.all(p <= 1)):
        raise Invalid("A p-value lies outside 0 to 1.", code="bad-p-value", hint="Leave out tests without a p-value.")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    q = np.empty_like(p)
    # A later (larger) p-value that passes carries all smaller ones with it.
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q
