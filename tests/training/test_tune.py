from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from loopline.errors import Conflict, Invalid
from loopline.training.records import BoostedParams, Choices, Fit, Range, Trial, Tune, tune
from loopline.training.tune import best, search, with_params

SPACE: dict[str, Any] = {"learning_rate": (0.01, 0.3, "log"), "leaves": (8, 64), "rounds": [50, 100, 200]}


def bowl(params: dict[str, Any]) -> Fit:
    if params["leaves"] == 13:
        return Fit(metric="roc_auc", value=math.nan)
    far = (math.log(params["learning_rate"]) + 3) ** 2 + (params["leaves"] - 30) ** 2 / 100
    return Fit(metric="roc_auc", value=-far - (params["rounds"] != 100), rounds=5)


class Killed(BaseException):
    """What a kill is to the tuning: it ends at once, and only what was recorded stays."""


def timeless(trials: tuple[Trial, ...]) -> list[Trial]:
    return [msgspec.structs.replace(trial, seconds=0.0) for trial in trials]


def test_a_declaration_is_read_and_round_trips() -> None:
    declared = tune(**SPACE, trials=7, seconds=30, seed=3)
    assert declared.space["learning_rate"] == Range(low=0.01, high=0.3, log=True)
    assert declared.space["leaves"] == Range(low=8, high=64)
    assert declared.space["rounds"] == Choices(values=(50, 100, 200))
    assert msgspec.json.decode(msgspec.json.encode(declared), type=Tune) == declared


@pytest.mark.parametrize(
    "space",
    [
        {"leaves": (64, 8)},
        {"l2": (0.0, 1.0, "log")},
        {"leaves": 8},
        {"leaves": []},
        {"leaves": ("a", "b")},
        {"leafs": (1, 2)},
    ],
)
def test_what_is_no_space_is_refused(space: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tune(**space)
    with pytest.raises(Invalid):
        tune(leaves=(8, 64), trials=0)


@pytest.mark.parametrize("kept", [1, 3, 9])
def test_a_killed_tuning_goes_on_with_the_same_suggestions(kept: int) -> None:
    declared = tune(**SPACE, trials=15, seed=5)
    whole = search(declared, bowl)
    journal: list[bytes] = []

    def record(trial: Trial) -> None:
        journal.append(msgspec.json.encode(trial))
        if len(journal) == kept:
            raise Killed

    with pytest.raises(Killed):
        search(declared, bowl, on_trial=record)
    done = [msgspec.json.decode(line, type=Trial) for line in journal]
    assert len(done) == kept
    resumed = search(declared, bowl, trials_done=done)
    assert timeless(resumed) == timeless(whole)
    assert best(resumed) is not None


def test_tuning_learns_from_its_trials_and_seeds_differ() -> None:
    trials = search(tune(**SPACE, trials=40, seed=1), bowl)
    late = [t.value for t in trials[25:] if t.value is not None]
    early = [t.value for t in trials[:10] if t.value is not None]
    assert sum(late) / len(late) > sum(early) / len(early)
    assert len({json.dumps(t.params, sort_keys=True) for t in trials}) > 30
    assert [t.params for t in search(tune(**SPACE, trials=3, seed=2), bowl)] != [t.params for t in trials[:3]]
    assert all(8 <= t.params["leaves"] <= 64 and 0.01 <= t.params["learning_rate"] <= 0.3 for t in trials)


def test_the_first_trial_is_the_known_good_one_moved_into_the_space() -> None:
    start = msgspec.to_builtins(BoostedParams(leaves=4, learning_rate=0.05, rounds=7))
    trials = search(tune(**SPACE, trials=2), bowl, first=start)
    assert trials[0].params == {"leaves": 8, "learning_rate": 0.05, "rounds": 50}


def test_a_trial_without_a_value_is_recorded_and_never_the_best() -> None:
    trials = search(tune(leaves=[13], trials=3), lambda _: Fit(metric="roc_auc", value=math.nan))
    assert [t.value for t in trials] == [None] * 3
    assert best(trials) is None


def test_the_budget_of_seconds_counts_recorded_trials() -> None:
    ticks = iter(range(0, 1_000, 4))
    declared = tune(**SPACE, trials=50, seconds=10.0)
    trials = search(declared, bowl, clock=lambda: float(next(ticks)))
    assert [t.seconds for t in trials] == [4.0, 4.0, 4.0]
    again = search(declared, bowl, trials_done=trials, clock=lambda: float(next(ticks)))
    assert again == trials


def test_trials_of_another_space_are_refused() -> None:
    done = [Trial(number=0, params={"leaves": 500}, value=0.5, seconds=1.0)]
    with pytest.raises(Conflict, match="Trial 0"):
        search(tune(leaves=(8, 64), trials=3), bowl, trials_done=done)


def test_parameters_are_replaced_by_name() -> None:
    assert with_params(BoostedParams(), {"leaves": 12}) == BoostedParams(leaves=12)
