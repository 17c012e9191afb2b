"""Every error that Loopline raises on purpose.

    LooplineError
    ├── NotFound       the thing named is not there        -> look again, name it otherwise
    ├── Invalid        the input cannot be taken           -> mend the input
    ├── Refused        a permission or a gate says no      -> ask somebody, or meet the gate
    ├── Conflict       it clashes with what is there       -> look at what is there, decide
    ├── Unavailable    a part does not answer for now      -> try again
    └── MissingExtra   an optional part is not installed   -> install it by the command given

An error says what happened and names the thing (`message`), the way out (`hint`), and carries a stable `code` that
docs/errors.md explains. No HTTP here: `api` maps a branch to a status, `cli` to an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar


class LooplineError(Exception):
    """The root of the family; never raised itself.

    `message` is one sentence that names the thing; `hint` is the way out; `details` are facts for programs
    (JSON values only, never secrets or row values of personal columns).
    """

    branch: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.branch.replace("_", "-")
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def to_dict(self) -> dict[str, Any]:
        """The one JSON shape of an error, the same over HTTP and from `--json`."""
        return {
            "error": {
                "branch": self.branch,
                "code": self.code,
                "message": self.message,
                "hint": self.hint,
                "details": self.details,
            }
        }


class NotFound(LooplineError):
    """The thing named is not there."""

    branch = "not_found"


class Invalid(LooplineError):
    """The input cannot be taken as it is."""

    branch = "invalid"


class Refused(LooplineError):
    """A permission or a gate says no."""

    branch = "refused"


class Conflict(LooplineError):
    """It clashes with what is there already."""

    branch = "conflict"


class Unavailable(LooplineError):
    """A part does not answer for now."""

    branch = "unavailable"


class MissingExtra(LooplineError):
    """An optional part is not installed."""

    branch = "missing_extra"

    def __init__(self, message: str, *, extra: str = "", **details: Any) -> None:
        hint = details.pop("hint", "") or f"Install it: pip install 'loopline[{extra}]'."
        super().__init__(message, hint=hint, extra=extra, **details)


BRANCHES: dict[str, type[LooplineError]] = {
    branch.branch: branch for branch in (NotFound, Invalid, Refused, Conflict, Unavailable, MissingExtra)
}


def from_dict(shape: dict[str, Any]) -> LooplineError:
    """The same error again, from the shape that `to_dict` gives (a client rebuilds what the server raised)."""
    body = shape["error"]
    error = BRANCHES.get(body.get("branch", ""), Unavailable)(
        str(body.get("message", "")), code=body.get("code"), hint=str(body.get("hint", ""))
    )
    error.details = dict(body.get("details") or {})
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known names, or else all of them (ten at most)."""
    names = sorted(str(k) for k in known)
    folded = {k.casefold(): k for k in names}
    near = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.65)  # from there on it is a slip of the finger
    if near:
        return f"Did you mean {folded[near[0]]!r}?"
    if not names:
        return "There are none yet."
    shown = ", ".join(names[:10])
    return f"There are: {shown}{' and more' if len(names) > 10 else ''}."
