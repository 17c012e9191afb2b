"""What is asked of training (parameters, a tuning) and what it noted (trials, a fit)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.errors import Invalid, did_you_mean


class BoostedParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How trees are grown. `columns` and `rows` are the shares looked at by each tree; `min_rows` the least in a leaf."""

    learning_rate: float = 0.05
    leaves: int = 31
    min_rows: int = 50
    columns: float = 0.7
    rows: float = 1.0
    l1: float = 0.0
    l2: float = 1.0
    rounds: int = 400
    patience: int = 20


class LinearParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a linear model is held back: `strength` multiplies the squared coefficients, per training row."""

    strength: float = 1e-4


class Range(msgspec.Struct, frozen=True, kw_only=True, tag="range"):
    """Numbers between two ends, both included; whole ones where both ends are whole."""

    low: float | int
    high: float | int
    log: bool = False


class Choices(msgspec.Struct, frozen=True, kw_only=True, tag="choices"):
    """One of a few values."""

    values: tuple[str | int | float | bool, ...]


class Tune(msgspec.Struct, frozen=True, kw_only=True):
    """A tuning as declared: the space by parameter, and the budget in trials and, where given, seconds of trials."""

    space: dict[str, Range | Choices]
    trials: int = 20
    seconds: float | None = None
    seed: int = 0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One set of parameters tried. `value` is greater for better; None for a trial that gave no finite one."""

    number: int
    params: dict[str, Any]
    value: float | None
    seconds: float
    rounds: int = 0


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit came to on validation rows: `value` of `metric`, greater is better (losses are negated)."""

    metric: Literal["roc_auc", "neg_log_loss", "neg_rmse"]
    value: float
    rounds: int = 0


def tune(*, trials: int = 20, seconds: float | None = None, seed: int = 0, **space: Any) -> Tune:
    """A tuning's declaration: `tune(learning_rate=(0.01, 0.3, "log"), leaves=(8, 64), trials=20)`.

    A pair is a range (whole numbers where both ends are), "log" as third part spreads it evenly over magnitudes, a list is a
    choice. Raises `Invalid` for what is no range, and for an unknown parameter.
    """
    if trials < 1 or (seconds is not None and seconds <= 0):
        raise Invalid("A tuning needs at least one trial and more than no time.", code="bad-tuning")
    known = BoostedParams.__struct_fields__
    for name in space:
        if name not in known:
            raise Invalid(
                f"{name!r} is no parameter to tune.", code="unknown-parameter", hint=did_you_mean(name, known)
            )
    read = {name: _part(name, given) for name, given in sorted(space.items())}
    return Tune(space=read, trials=trials, seconds=seconds, seed=seed)


def _part(name: str, given: Any) -> Range | Choices:
    if isinstance(given, list) and given:
        return Choices(values=tuple(given))
    if isinstance(given, tuple) and len(given) in (2, 3) and all(type(end) in (int, float) for end in given[:2]):
        log = given[2:] == ("log",)
        if given[0] < given[1] and (len(given) == 2 or log) and not (log and given[0] <= 0):
            return Range(low=given[0], high=given[1], log=log)
    raise Invalid(
        f"{given!r} is no space for {name!r}.",
        code="bad-tuning",
        hint='Give (low, high), (low, high, "log") with low above 0, or a list of choices.',
    )
