"""The functions that contracts name: known to a process that ran their declaration, and to no other.

A contract holds a function's name and the digest of its source. It is looked up here by both; nothing is imported, read or run for
that, so a contract that comes from elsewhere runs no code but what this process's own user has declared in it.

Only the standard library and msgspec are imported here; `quality.contract_answers` asks a function of a frame.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.quality.contract_rules import AnyRule, Function

if TYPE_CHECKING:
    import polars as pl

Judge = Callable[["pl.DataFrame"], "pl.Series | pl.Expr"]
"""Rows of a table to a column of true (the row keeps the rule), false and missing (as true), or to an expression for that."""

OF_FILE = "loopline_loop_"
"""What stands before the name of a module that `loop.files` made of a file."""


class _Declared(NamedTuple):
    rule: Function
    judge: Judge


_DECLARED: dict[str, dict[str, _Declared]] = {}
"""By name, then by the digest of the source: a file that changed and ran again has declared two; the newest is the last."""


def declare(judge: Judge, *, name: str, severity: str, columns: Sequence[str], whole: bool) -> Function:
    """The rule that a function is, which this process knows from now on.

    Raises Invalid for what is no function of a module: its source would not say what it does.
    """
    if not inspect.isfunction(judge) or judge.__name__ == "<lambda>" or judge.__qualname__ != judge.__name__:
        raise _no_rule(name, "is asked by no function of a file's own")
    try:
        source = textwrap.dedent(inspect.getsource(judge))
    except (OSError, TypeError) as error:
        raise _no_rule(name, f"is asked by {judge.__name__}(), whose source is nowhere to be read") from error
    made = Function(
        name=name,
        severity=severity,
        function=f"{judge.__module__.removeprefix(OF_FILE)}:{judge.__name__}",
        code=f"sha256:{hashlib.sha256(source.encode()).hexdigest()}",
        columns=tuple(columns),
        whole=whole,
    )
    codes = _DECLARED.setdefault(made.function, {})
    codes.pop(made.code, None)
    codes[made.code] = _Declared(made, judge)
    return made


def judge_of(rule: Function) -> Judge:
    """The function of a rule. Raises Invalid where this process has none of that name and source."""
    return _declared(rule).judge


def settled(rules: tuple[AnyRule, ...], look: Callable[[], None]) -> tuple[AnyRule, ...]:
    """The rules with the code of every function that they name, as this process has it.

    `look` runs the files of this process's user that may declare one which is not known yet. Raises Invalid for one that is not
    known then either, and for one of another source than its rule tells.
    """
    if any(isinstance(rule, Function) and not _is_known(rule) for rule in rules):
        look()
    return tuple(_settled(rule) if isinstance(rule, Function) else rule for rule in rules)


def _settled(rule: Function) -> Function:
    known = _declared(rule).rule
    if rule.code:
        return rule
    return msgspec.structs.replace(rule, code=known.code, columns=rule.columns or known.columns, whole=known.whole)


def _is_known(rule: Function) -> bool:
    codes = _DECLARED.get(rule.function, {})
    return rule.code in codes if rule.code else bool(codes)


def _declared(rule: Function) -> _Declared:
    codes = _DECLARED.get(rule.function)
    if not codes:
        raise Invalid(
            f"The rule {rule.title!r} asks the function {rule.function}, which this process does not have.",
            code="contract-function",
            hint="No code comes with a contract. Run it where the function is declared, or have the owner of the process name its "
            f"file in the setting `rules`. {did_you_mean(rule.function, _DECLARED) if _DECLARED else ''}".rstrip(),
        )
    if not rule.code:
        return list(codes.values())[-1]
    if rule.code not in codes:
        raise Invalid(
            f"The rule {rule.title!r} asks the function {rule.function} with the source {rule.code}, and here it is another one.",
            code="contract-function",
            hint="Give the contract again, with the function as it is now; or bring that source back.",
        )
    return codes[rule.code]


def _no_rule(name: str, why: str) -> Invalid:
    return Invalid(
        f"The rule {name!r} {why}.",
        code="contract-function",
        hint='Write it with def at the top of a file, under @ll.rule("what holds").',
    )
