"""What a check of `loopline doctor` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from loopline.errors import LooplineError

State = Literal["ok", "warning", "problem"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the examination: what was looked at, how it is, and the way out where it is not well."""

    name: str
    state: State
    said: str
    way_out: str = ""


def ok(name: str, said: str) -> Check:
    """All is well."""
    return Check(name=name, state="ok", said=said)


def warning(name: str, said: str, way_out: str) -> Check:
    """It works, but somebody should know."""
    return Check(name=name, state="warning", said=said, way_out=way_out)


def problem(name: str, said: str, way_out: str) -> Check:
    """It does not work, or what is kept is not safe."""
    return Check(name=name, state="problem", said=said, way_out=way_out)


def attempt(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks that `look` makes; one that cannot even be made is a problem of its own, and the others go on."""
    found: list[Check] = []
    try:
        for check in look():
            found.append(check)  # noqa: PERF402  # what was found before an error stays found
    except LooplineError as e:
        found.append(problem(name, e.message, e.hint))
    except Exception as e:
        found.append(problem(name, f"cannot be looked at: {type(e).__name__}: {e}", "Report it, with this line."))
    return found
