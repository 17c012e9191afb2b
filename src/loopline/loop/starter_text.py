"""The text of a loop's first file, as `ruff format` leaves it, whatever stands in the names of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category, east_asian_width

import msgspec

from loopline.quality.contract import Contract
from loopline.quality.contract_rules import AnyRule, NotNull, OneOf, Unique, quoted

_WIDTH = 120
_MOST_LINES = 79
_MOST_RULES = 12
TESTED = 0.15
"""The share of the rows that the test window gets."""
_MEASURES = {
    "binary": ("roc_auc", 0.55, "0.5 is chance"),
    "multiclass": ("roc_auc_ovr_weighted", 0.55, "0.5 is chance"),
    "regression": ("r2", 0.05, "the share of the variance that is explained"),
}
_MARGINS = ((1_000, 0.01), (100, 0.02), (0, 0.05))  # by the test rows of the rarest class


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the file is about: the table's path as seen from the file, its columns' parts, what was inferred.

    `rarest` counts the rows of the rarest class (of a regression: all rows).
    """

    name: str
    data: str
    label: str
    task: str
    time: str | None
    group: str | None
    protected: tuple[str, ...]
    contract: Contract
    rows: int
    features: int
    classes: int
    rarest: int


def source_text(facts: Facts) -> str:
    """The file's text: under 80 lines, the contract cut to as many of its first rules as there is room for."""
    head = [*_opening(facts), *_source(facts)]
    tail = [*_steps(facts), *_loop(facts)]
    room = _MOST_LINES - len(head) - len(tail)
    return "\n".join([*head, *_rules(facts, room), *tail]) + "\n"


def _opening(facts: Facts) -> list[str]:
    title = f"The loop {facts.name}. Look through it, change what you know better, then: loopline run {facts.name}"
    return [f'"""{title}"""', "", "import loopline as ll", ""]


def _source(facts: Facts) -> list[str]:
    given = [quoted(facts.data), f"label={quoted(facts.label)}", f"task={quoted(facts.task)}"]
    given += [f"{what}={quoted(name)}" for what, name in (("time", facts.time), ("group", facts.group)) if name]
    listed = _call("    protected=", [quoted(name) for name in facts.protected], ",", "[]") if facts.protected else []
    return ["rows = ll.source(", *(f"    {one}," for one in given), *listed, ")", ""]


def _rules(facts: Facts, room: int) -> list[str]:
    """The contract: first what the loop cannot do without, then ranges and sets of values as far as lines last."""
    about = [
        '# What must hold: rows that break a rule are quarantined; severity="warn" counts them and lets them pass.',
        "# Ranges and values are guesses from this table: put what you know in their place.",
    ]
    lines: list[str] = []
    taken = 0
    for rule in facts.contract.rules:
        spelled = _rule(rule)
        needed = isinstance(rule, Unique | NotNull) or (isinstance(rule, OneOf) and rule.column == facts.label)
        if not spelled or (len(spelled) > 1 and not needed) or taken == _MOST_RULES:
            continue
        if len(about) + len(lines) + len(spelled) + 3 <= room:
            lines += spelled
            taken += 1
    if not lines:
        return ["contract = ll.contract()  # what must hold, for example ll.column(...).between(0, 120)", ""]
    return [*about, "contract = ll.contract(", *lines, ")", ""]


def _rule(rule: AnyRule) -> list[str]:
    function, arguments = rule.spelled()
    # A column's name can be longer than a line: such a rule is left to the owner.
    return _call(f"    ll.{function}", arguments, ",") if _columns(function) < _WIDTH - 12 else []


def _call(function: str, arguments: Sequence[str], end: str, brackets: str = "()") -> list[str]:
    """A call (or a list) as ruff formats it: on one line, else its arguments on one of their own, else a line each."""
    outer = function[: len(function) - len(function.lstrip())]
    indent, inside = f"{outer}    ", ", ".join(arguments)
    opening, closing = f"{function}{brackets[0]}", f"{brackets[1]}{end}"
    if _columns(opening + inside + closing) <= _WIDTH:
        return [f"{opening}{inside}{closing}"]
    if _columns(indent + inside) <= _WIDTH:
        return [opening, f"{indent}{inside}", f"{outer}{closing}"]
    return [opening, *(f"{indent}{one}," for one in arguments), f"{outer}{closing}"]


def _columns(line: str) -> int:
    """How wide a line is on a screen: Chinese signs take two places, combining marks none."""
    wide = sum(east_asian_width(sign) in "WF" for sign in line)
    return len(line) + wide - sum(category(sign) in ("Mn", "Me") for sign in line)


def _steps(facts: Facts) -> list[str]:
    least = max(5, min(50, facts.rows // 200))
    return [
        "",
        "@ll.step(cpu=2)",
        "def baseline(train: ll.Table) -> ll.Model:",
        "    return ll.constant(train)  # knows the label alone; ll.linear(train) is a higher bar",
        "",
        "",
        "@ll.step(cpu=2)",
        f"def fit(train: ll.Table, *, learning_rate: float = 0.1, leaves: int = 31, min_rows: int = {least}) -> ll.Model:",
        "    trees = ll.boosted(train, learning_rate=learning_rate, leaves=leaves, min_rows=min_rows)",
        "    return train.better(trees, ll.linear(train))  # by the validation rows; the test rows stay sealed",
        "",
        "",
    ]


def _loop(facts: Facts) -> list[str]:
    least = max(5, min(50, facts.rows // 200))
    return [
        "loop = ll.Loop(",
        f"    {quoted(facts.name)},",
        "    data=rows,",
        "    contract=contract,",
        "    baseline=baseline,",
        "    train=fit,",
        '    tune=ll.tune(learning_rate=(0.03, 0.3, "log"), leaves=(4, 64),'
        f" min_rows=({max(2, least // 2)}, {4 * least}), trials={_trials(facts)}, seed=7),",
        "    # Bounds are conventions, not results: each holds for the end of the interval that speaks against the model.",
        "    gates=[",
        *(f"        {line}" for line in _gates(facts)),
        "    ],",
        '    rollout=ll.rollout.shadow("1h").canary(5, 25, 50),',
        '    monitor=ll.monitor(false_alarms="1/quarter", look="1h", rows=500),',
        f'    retrain=ll.retrain(on=["quality", "drift"], cool_down="7d", at_least={max(100, facts.rows // 20)}),',
        ")",
    ]


def _gates(facts: Facts) -> list[str]:
    metric, least, why = _MEASURES[facts.task]
    margin = next(margin for tested, margin in _MARGINS if facts.rarest * TESTED >= tested)
    lines = [
        f'll.gate.at_least("{metric}", {least}),  # {why}',
        f'll.gate.beats("baseline", "{metric}"),',
        f'll.gate.not_worse_than("@champion", "{metric}", margin={margin}),  # as fine as this many rows can tell',
    ]
    if facts.task == "binary" and facts.protected:
        lines.append(
            '# too_few="ask": with too few rows to tell, somebody else has to approve; "pass" lets it through.'
        )
        for name in facts.protected:
            given = [quoted(name), '"equal_opportunity_difference"', "at_most=0.1", 'too_few="ask"']
            lines += [line[8:] for line in _call("        ll.gate.fair", given, ",")]  # indented again with the rest
    return [*lines, 'll.gate.latency(p99="50ms"),']


def _trials(facts: Facts) -> int:
    """How many sets of parameters are tried: the more cells and classes there are, the fewer."""
    cells = facts.rows * max(1, facts.features) * max(1, facts.classes if facts.task == "multiclass" else 1)
    return 12 if cells <= 1_000_000 else 8 if cells <= 10_000_000 else 5
