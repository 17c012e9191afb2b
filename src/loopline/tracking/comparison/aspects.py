"""What runs were given and made in: each aspect of a run as keys and values, and where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loopline.tracking.comparison.records import Aspect, Difference
from loopline.tracking.records import Run

_CODE = ("commit", "branch", "revision", "remote", "dirty", "patch", "argv")
_SAID_ELSEWHERE = ("packages", "requirements")  # the digest of the list, and the list


def differences(runs: Sequence[Run], groups: Mapping[int, str]) -> list[Difference]:
    """All that the runs have, key by key, in the order in which people ask for it; `groups`: names by number."""
    found = []
    read = [{"run": {"group": groups[run.group]}, **_aspects(run)} for run in runs]
    for of in read[0]:
        for key in _keys(one[of] for one in read):
            values = tuple(one[of].get(key) for one in read)
            found.append(Difference(of=of, key=key, values=values, same=all(_alike(v, values[0]) for v in values)))
    return found


def code(run: Run) -> dict[str, Any]:
    """The state of the code that a run was made with, its command line included."""
    return {key: run.environment[key] for key in _CODE if key in run.environment}


def _aspects(run: Run) -> dict[Aspect, dict[str, Any]]:
    return {
        "params": dict(run.params),
        "tags": dict(run.tags),
        "inputs": _refs(run.inputs),
        "outputs": _refs(run.outputs),
        "code": code(run),
        "packages": _packages(run.environment.get("requirements")),
        "environment": {key: value for key, value in run.environment.items() if key not in (*_CODE, *_SAID_ELSEWHERE)},
    }


def _refs(refs: Sequence[str]) -> dict[str, str]:
    """Refs by what they are versions of, so that two versions of one dataset stand side by side."""
    found: dict[str, str] = {}
    for ref in refs:
        key = ref.partition("@")[0]
        found[ref if key in found else key] = ref
    return found


def _packages(requirements: Any) -> dict[str, str]:
    if not isinstance(requirements, list):  # an environment may hold anything
        return {}
    found = (str(line).partition("==") for line in requirements)
    return {name: version for name, _, version in found}


def _keys(given: Iterable[dict[str, Any]]) -> list[str]:
    return sorted({key for one in given for key in one})


def _alike(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)  # 1, 1.0 and true are three things in a param
