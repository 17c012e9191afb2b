"""Intervals in closed form: proportions, differences of proportions, paired means, and looks at one test set."""

from __future__ import annotations

import math

from scipy import special

from loopline.errors import Invalid
from loopline.statistics.records import MOST_LOOKS, Interval


def quantile(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95. Raises Invalid (`bad-confidence`) outside (0, 1)."""
    if not 0 < confidence < 1:
        raise Invalid(f"A confidence of {confidence} is not between 0 and 1.", code="bad-confidence", hint="Say 0.95.")
    return float(special.ndtri((1 + confidence) / 2))


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> Interval:
    """The interval of a proportion by the score test (Wilson 1927); right at 0 and at n successes too.

    `successes` may be a fraction of a row (an effective count). Raises Invalid (`bad-counts`) unless
    0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise Invalid(
            f"{successes} of {n} is no proportion.", code="bad-counts", hint="Give 0 <= successes <= n, n > 0."
        )
    z = quantile(confidence)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding must not move the ends off the point itself.
    low, high = min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half))
    return Interval(value=p, low=low, high=high, confidence=confidence, method="wilson")


def newcombe(successes_a: float, n: float, successes_b: float, m: float, *, confidence: float = 0.95) -> Interval:
    """The interval of the difference of two independent proportions, a minus b (Newcombe 1998, method 10)."""
    a, b = wilson(successes_a, n, confidence=confidence), wilson(successes_b, m, confidence=confidence)
    difference = a.value - b.value
    return Interval(
        value=difference,
        low=difference - math.hypot(a.value - a.low, b.high - b.value),
        high=difference + math.hypot(a.high - a.value, b.value - b.low),
        confidence=confidence,
        method="newcombe",
    )


def confidence_at(look: int, *, confidence: float = 0.95) -> float:
    """The confidence an interval needs at the given look (1 is the first) at one sealed test window.

    The first look is what the window was sealed for and keeps 95 %. Later looks may be at models that were chosen by what
    earlier ones showed. An interval at look k is Scheffe's for k directions (Scheffe 1953, "A method for judging all contrasts
    in the analysis of variance"): its half-width is the root of the chi-squared quantile of k degrees of freedom, in standard
    errors. It holds for any model chosen by k - 1 earlier estimates, since what these have not shown of the rows' chance is
    fresh at each look, and k fresh parts in all are no longer than that root. Worst cases reach it in the order of magnitude: k
    looks can overfit by the root of k (Dwork et al. 2015, "The reusable holdout"; Blum and Hardt 2015, "The Ladder").

    All later looks share one more 5 %: look k spends alpha / (k (k - 1)), and these sum to alpha however many follow (alpha
    spending: Lan and DeMets 1983). So the chance that any interval of a later look misses its truth stays at or below 5 %, as far
    as estimates are nearly normal and the choice follows one of them a look. Whoever uses more of what a look shows (slices,
    curves, several metrics at odds) can do worse: a new sealed window is the only full answer.

    Raises Invalid (`bad-look`) for no look, and for those beyond `MOST_LOOKS`.
    """
    if not 1 <= look <= MOST_LOOKS:
        raise Invalid(
            f"There is no interval for look number {look}.",
            code="bad-look",
            hint=f"Count looks from 1; after {MOST_LOOKS} a window is used up, and a new one has to be sealed.",
        )
    quantile(confidence)
    alpha = 1 - confidence
    if look == 1:
        return confidence
    reach = math.sqrt(2 * float(special.gammainccinv(look / 2, alpha / (look * (look - 1)))))
    return 1 - 2 * float(special.ndtr(-reach))


def widening(look: int) -> float:
    """How many times as wide the interval of a look is as that of the first one, where estimates are normal."""
    return quantile(confidence_at(look)) / quantile(confidence_at(1))


def on_scale(
    value: float, error: float, *, scale: str, n: float, confidence: float = 0.95, method: str = "bootstrap"
) -> Interval:
    """The interval from a standard error, symmetric on the scale where the estimate is nearly normal.

    `scale`: "unit" (0 to 1: logit), "positive" (log), "below_one" (log of 1 - value: R2), "real" (as it is). The
    error carries over by the delta method, the quantile is Student's with n - 1 degrees. At the very end of the unit
    scale no spread is seen, which is no proof of certainty: there Wilson's interval of n rows is given.
    """
    if scale == "unit" and not 0 < value < 1:
        end = wilson(min(max(value, 0.0), 1.0) * n, n, confidence=confidence)
        return Interval(value=value, low=end.low, high=end.high, confidence=confidence, method="wilson")
    quantile(confidence)
    reach = float(special.stdtrit(max(n - 1, 1), (1 + confidence) / 2)) * error
    if scale == "unit":
        centre, width = float(special.logit(value)), reach / (value * (1 - value))
        low, high = float(special.expit(centre - width)), float(special.expit(centre + width))
    elif scale == "positive" and value > 0:
        # Beyond e^50 the interval says no more than "unknown".
        factor = math.exp(min(reach / value, 50.0))
        low, high = value / factor, value * factor
    elif scale == "below_one" and value < 1:
        factor = math.exp(min(reach / (1 - value), 50.0))
        low, high = 1 - (1 - value) * factor, 1 - (1 - value) / factor
    else:
        low, high = value - reach, value + reach
    return Interval(value=value, low=low, high=high, confidence=confidence, method=method)
