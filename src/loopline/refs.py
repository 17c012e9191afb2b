"""Refs: the printed names of things, `kind:name@version`.

`data:visits@7`, `model:readmission@3`, `model:readmission@champion`, `run:01J9...`; a thing of another project than the
one at hand is written with it: `model:clinic/readmission@3`.
"""

from __future__ import annotations

import re

import msgspec

from loopline.errors import Invalid, did_you_mean

KINDS = frozenset(
    {
        "alert", "blob", "data", "endpoint", "evaluation", "features", "group", "loop", "model", "monitor", "pipeline",
        "prediction", "principal", "project", "rollout", "run", "source", "step",
    }
)  # fmt: skip
DEFAULT_PROJECT = "default"

_BY_ID = frozenset({"alert", "evaluation", "prediction", "rollout", "run"})
"""Kinds whose things have an id, and neither names of their own nor versions."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")
_REF = re.compile(r"(?P<kind>[a-z]+):(?:(?P<project>[^/@:\s]+)/)?(?P<name>[^/@:\s]+)(?:@(?P<version>[^/@:\s]+))?")


class Ref(msgspec.Struct, frozen=True, order=True):
    """One printed name, taken apart. `version` is a number or an alias, or None for the thing as a whole."""

    kind: str
    name: str
    version: str | None = None
    project: str = DEFAULT_PROJECT

    def __str__(self) -> str:
        project = "" if self.project == DEFAULT_PROJECT else f"{self.project}/"
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.kind}:{project}{self.name}{version}"

    @property
    def number(self) -> int | None:
        """The version as a number, or None where it is an alias or missing."""
        return None if self.version is None else version_number(self.version)


def check_name(name: str, what: str = "name") -> str:
    """The name itself, where it can stand in a ref, a path and a URL; `Invalid` otherwise."""
    if _NAME.fullmatch(name):
        return name
    suggestion = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:128]
    raise Invalid(
        f"{name!r} cannot be a {what}: letters, digits, '.', '_' and '-' only, at most 128, starting with a letter or digit.",
        code="bad-name",
        hint=f"For example {suggestion!r}." if suggestion and _NAME.fullmatch(suggestion) else "",
    )


def version_number(version: str) -> int | None:
    """The number that a version's text is, or None where it is a word. Raises `Invalid` for digits that number no version."""
    if not version.isdecimal():
        return None
    if version.isascii() and len(version) <= 10 and int(version) < 1 << 31:
        return int(version)
    raise Invalid(
        f"{version[:40]!r} numbers no version.",
        code="bad-version",
        hint="Give a number in the digits 0 to 9, below 2147483648, or an alias.",
    )


def _form(kind: str | None) -> str:
    if kind in _BY_ID:
        return f"Give {kind}:ID, or the ID alone."
    kind = kind or "model"
    return f"A ref looks like {kind}:name@version, for example {kind}:visits@3."


def parse(text: str, kind: str | None = None, project: str = DEFAULT_PROJECT) -> Ref:
    """The ref that `text` prints. With `kind`, a bare `name@version` is taken as of that kind and any other kind refused.

    `project` is the one at hand, for refs that name none. Raises `Invalid`.
    """
    full = text if kind is None or ":" in str(text) else f"{kind}:{text}"
    found = _REF.fullmatch(full) if isinstance(full, str) else None
    if not found:
        raise Invalid(
            f"{text!r} is not a ref.",
            code="bad-ref",
            hint=_form(kind),
        )
    if found["kind"] not in KINDS:
        raise Invalid(
            f"{found['kind']!r} in {text!r} is no kind of thing.",
            code="bad-ref",
            hint=did_you_mean(found["kind"], KINDS),
        )
    if kind is not None and found["kind"] != kind:
        raise Invalid(
            f"{text!r} names a {found['kind']}, and a {kind} is wanted.",
            code="bad-ref",
            hint=_form(kind),
        )
    return Ref(
        kind=found["kind"],
        name=check_name(found["name"]),
        version=found["version"] and check_name(found["version"], "version"),
        project=check_name(found["project"] or project, "project"),
    )
