"""An ensemble computed node by node: each model by the runtime of its own bundle, the rest by numpy.

`ensemble.json` of a bundle is the declaration, and where its members are from; their bundles are in `nodes/`. A cascade
asks its later nodes only for the rows that none was sure of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.packaging.ensemble import (
    Adjust,
    Average,
    Calibrate,
    Cascade,
    Ensemble,
    Member,
    Node,
    Vote,
    from_dict,
    needs,
    refused,
)
from loopline.packaging.manifest import DECLARED, MANIFEST
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.signed import signed_by
from loopline.ports.runtime import Floats, Score, Strings

NODES = "nodes"
TINY = 1e-30
"""No probability is less before its logarithm is taken."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a member is from: its ref, and whether a registry gave it."""

    ref: str
    registry: bool


class _Declared(msgspec.Struct, frozen=True, kw_only=True):
    """`ensemble.json`."""

    ensemble: dict[str, Any]
    members: dict[str, Source]


class Opened(Protocol):
    """A member's bundle, opened (`packaging.runtime.Session`)."""

    manifest: Manifest
    cleaning: Any

    def run(self, numbers: Any, strings: Strings) -> Floats: ...


class Columns(NamedTuple):
    """What the columns of two matrices are called, in their order."""

    numbers: tuple[str, ...]
    strings: tuple[str, ...]


class Shape(NamedTuple):
    """What a node answers: its classes (none: an amount), and from which probability on it calls a row the second of two."""

    classes: tuple[str, ...]
    threshold: float


def shapes(ensemble: Ensemble, manifests: Mapping[str, Manifest]) -> dict[str, Shape]:
    """What each node answers. Raises `Invalid` where nodes cannot be put together."""
    found: dict[str, Shape] = {}
    for name in ensemble.order:
        one = ensemble.nodes[name]
        if isinstance(one, Member):
            said = manifests[name]
            found[name] = Shape(said.classes, 0.5 if said.threshold is None else said.threshold)
            for column, source in one.takes.items():
                place(ensemble.name, source, found)
                if column not in (*said.numbers, *said.strings):
                    raise refused(
                        ensemble.name, f"the model of {name!r} takes no {column!r}", "Name a column of its own."
                    )
                if column in said.strings:
                    raise refused(ensemble.name, f"{column!r} of {name!r} is text, and answers are numbers", "")
            continue
        parts = needs(one)
        first = found[parts[0]]
        for part in parts[1:]:
            if sorted(found[part].classes) != sorted(first.classes):
                raise refused(
                    ensemble.name,
                    f"{name!r} is made of {_said(first)} ({parts[0]}) and of {_said(found[part])} ({part})",
                    "Put together what answers the same question.",
                )
        amounts = not first.classes
        if amounts == isinstance(one, Vote | Cascade | Calibrate) and not isinstance(one, Average):
            raise refused(ensemble.name, f"{name!r} is nothing for {'amounts' if amounts else 'classes'}", "")
        if isinstance(one, Calibrate) and len(first.classes) > 2 and one.intercept:
            raise refused(
                ensemble.name, f"{name!r} has an intercept, and {len(first.classes)} classes", "Give a slope alone."
            )
        found[name] = Shape(first.classes, 0.5)
    return found


def place(ensemble: str, source: str, found: Mapping[str, Shape]) -> tuple[str, int]:
    """The node and the column of its answer that `node.class`, or of amounts `node`, names."""
    name, _, label = source.partition(".")
    classes = found[name].classes
    if not classes and not label:
        return name, 0
    if label not in classes:
        options = ", ".join(f"{name}.{one}" for one in classes) or name
        raise refused(ensemble, f"{source!r} is no answer of its node", f"There are {options}.")
    return name, classes.index(label)


def weights_of(one: Average | Vote) -> list[float]:
    """Its weights, summing to 1."""
    given = one.weights or (1.0,) * len(needs(one))
    return [weight / sum(given) for weight in given]


def read_declared(folder: Path) -> Ensemble:
    """The declaration in a bundle. Raises `Invalid` for a damaged one."""
    try:
        return from_dict(msgspec.json.decode((folder / DECLARED).read_bytes(), type=_Declared).ensemble)
    except msgspec.MsgspecError as e:
        raise Invalid(f"{folder / DECLARED} is damaged: {e}.", code="bad-ensemble", hint="Package it again.") from e


def members_of(folder: Path) -> tuple[str, ...]:
    """The refs of the registry's versions that a bundle is an ensemble of; none where it is another one."""
    if not (folder / DECLARED).is_file():
        return ()
    members = msgspec.json.decode((folder / DECLARED).read_bytes(), type=_Declared).members.values()
    return tuple(sorted({one.ref for one in members if one.registry}))


def open_ensemble(
    folder: Path, manifest: Manifest, takes: Columns, opening: Opening, open_: Callable[[Path, Opening], Opened]
) -> Score:
    """The scores of a verified bundle; `open_` opens its members, `takes` are the columns of the arrays that come.

    A member that is a program is opened where the bundle is signed by a trusted key, which covers it, or its own is. Raises
    `Invalid`, `Refused`.
    """
    ensemble = read_declared(folder)
    signed = bool(opening.vouched) or signed_by(folder, opening.trust.keys) is not None
    opened: dict[str, Opened] = {}
    for name, one in ensemble.nodes.items():
        if isinstance(one, Member):
            listed = manifest.digests.get(f"{NODES}/{name}/{MANIFEST}", "")
            vouched = msgspec.structs.replace(opening, vouched=listed if signed else "")
            opened[name] = open_(folder / NODES / name, vouched)
    return _Running(ensemble, opened, takes).score


class _Running:
    def __init__(self, ensemble: Ensemble, opened: Mapping[str, Opened], takes: Columns) -> None:
        self._ensemble = ensemble
        self._opened = opened
        self._shapes = shapes(ensemble, {name: one.manifest for name, one in opened.items()})
        self._feeds = {name: self._feed(name, takes) for name in opened}

    def score(self, numbers: Floats, strings: Strings) -> Any:
        return self._answer(self._ensemble.answer, numbers, strings, {})

    def _answer(self, name: str, numbers: Floats, strings: Strings, known: dict[str, Any]) -> Any:
        """A node's answers for these rows; `known` are those that others of these rows' nodes gave."""
        if name not in known:
            known[name] = self._computed(name, self._ensemble.nodes[name], numbers, strings, known)
        return known[name]

    def _computed(self, name: str, one: Node, numbers: Floats, strings: Strings, known: dict[str, Any]) -> Any:
        if isinstance(one, Member):
            return self._model(name, numbers, strings, known)
        wanted = self._shapes[name].classes
        if isinstance(one, Cascade):
            return self._cascade(one, wanted, numbers, strings, known)
        answers = [self._ordered(part, wanted, self._answer(part, numbers, strings, known)) for part in needs(one)]
        match one:
            case Average():
                return combined(answers, weights_of(one))
            case Vote():
                votes = [
                    called(found, self._threshold(part, wanted)) for part, found in zip(one.vote, answers, strict=True)
                ]
                return combined(votes, weights_of(one))
            case Calibrate():
                return calibrated(answers[0], one)
            case Adjust():
                return adjusted(answers[0], one)

    def _cascade(
        self, one: Cascade, wanted: Sequence[str], numbers: Floats, strings: Strings, known: dict[str, Any]
    ) -> Any:
        found = np.array(self._ordered(one.cascade[0], wanted, self._answer(one.cascade[0], numbers, strings, known)))
        for part in one.cascade[1:]:
            unsure = np.flatnonzero(found.max(axis=1) < np.float32(one.sure))
            if not len(unsure):
                break
            asked = self._answer(part, numbers[unsure], strings[unsure], {})
            found[unsure] = self._ordered(part, wanted, asked)
        return found

    def _ordered(self, part: str, wanted: Sequence[str], found: Any) -> Any:
        """A node's answers with the classes in the order that is wanted."""
        own = self._shapes[part].classes
        return found if tuple(own) == tuple(wanted) else found[:, [own.index(label) for label in wanted]]

    def _threshold(self, part: str, wanted: Sequence[str]) -> float | None:
        """From which probability on a row is called the second class that is wanted; None: the likeliest is called."""
        if len(wanted) != 2:
            return None
        own = self._shapes[part]
        return own.threshold if own.classes[1] == wanted[1] else float(np.nextafter(1 - own.threshold, 2))

    def _feed(self, name: str, takes: Columns) -> tuple[list[tuple[str, int]], list[int]]:
        """Of each column of a model where it comes from: a node and a column of its answer, or ("", a column of the arrays)."""
        one, said = self._ensemble.nodes[name], self._opened[name].manifest
        assert isinstance(one, Member)
        numbers = [
            place(self._ensemble.name, one.takes[column], self._shapes)
            if column in one.takes
            else ("", takes.numbers.index(column))
            for column in said.numbers
        ]
        return numbers, [takes.strings.index(column) for column in said.strings]

    def _model(self, name: str, numbers: Floats, strings: Strings, known: dict[str, Any]) -> Any:
        floats, texts = self._feeds[name]
        given = np.empty((len(numbers), len(floats)), np.float32)
        for column, (source, at) in enumerate(floats):
            if source:
                given[:, column] = self._answer(source, numbers, strings, known)[:, at]
            else:
                given[:, column] = numbers[:, at]
        opened = self._opened[name]
        precise = given if opened.cleaning is None else given.astype(np.float64)
        return opened.run(precise, strings[:, texts])


def combined(answers: Sequence[Any], weights: Sequence[float]) -> Any:
    """The weighted sum."""
    total = np.float32(weights[0]) * answers[0]
    for weight, found in zip(weights[1:], answers[1:], strict=True):
        total = total + np.float32(weight) * found
    return total


def called(found: Any, threshold: float | None) -> Any:
    """1 for the class that each row is called, 0 for the others."""
    best = found.argmax(axis=1) if threshold is None else (found[:, 1].astype(np.float64) >= threshold).astype(int)
    return np.eye(found.shape[1], dtype=np.float32)[best]


def calibrated(found: Any, one: Calibrate) -> Any:
    """Probabilities by the slope (and intercept) of their logarithms."""
    logs = np.log(np.clip(found, np.float32(TINY), None)) * np.float32(one.slope)
    logs = logs + np.array([0, one.intercept], np.float32) if found.shape[1] == 2 else logs
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def adjusted(found: Any, one: Adjust) -> Any:
    """Amounts in another unit, within bounds."""
    return np.clip(found * np.float32(one.factor) + np.float32(one.offset), one.lowest, one.highest)


def _said(shape: Shape) -> str:
    return f"the classes {', '.join(shape.classes[:5])}" if shape.classes else "amounts"
