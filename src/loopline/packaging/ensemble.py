"""An ensemble as it is declared: models and what is made of their answers, as a graph without rings, in Python, TOML or JSON.

name = "readmission.blend"
answer = "blend"                     # the node whose answer is the ensemble's

[nodes.boosted]
model = "readmission@champion"       # a version of a registry, or the folder of a bundle

[nodes.linear]
model = "./linear-bundle"

[nodes.blend]
average = ["boosted", "linear"]
weights = [2, 1]
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Invalid, did_you_mean
from loopline.quality.cleaning_steps import AnyStep, steps
from loopline.refs import check_name


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model. `takes` feeds columns of its own from other nodes' answers (`{"column": "node.class"}`, of amounts `"node"`): so
    it is a stack."""

    model: str
    takes: dict[str, str] = {}


class Average(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The weighted mean of probabilities or amounts."""

    average: tuple[str, ...]
    weights: tuple[float, ...] = ()


class Vote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The weighted share of the nodes that call a row each class; of two classes by each model's own threshold."""

    vote: tuple[str, ...]
    weights: tuple[float, ...] = ()


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer of the first node that is `sure` enough (by the probability of the likeliest class), else of the last one."""

    cascade: tuple[str, ...]
    sure: float


class Calibrate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probabilities made steeper or flatter: of two classes `slope` and `intercept` of the log-odds (Platt 1999), of several the
    `slope` of the logarithms (1 / temperature; Guo and others 2017)."""

    calibrate: str
    slope: float = 1.0
    intercept: float = 0.0


class Adjust(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts in another unit (`factor`, `offset`), and within bounds (`lowest`, `highest`)."""

    adjust: str
    factor: float = 1.0
    offset: float = 0.0
    lowest: float | None = None
    highest: float | None = None


Node = Member | Average | Vote | Cascade | Calibrate | Adjust
_KINDS: dict[str, type[Node]] = {
    "model": Member, "average": Average, "vote": Vote, "cascade": Cascade, "calibrate": Calibrate, "adjust": Adjust,
}  # fmt: skip
_MOST = 64


class node:
    """Where an ensemble declares its nodes: `ll.node.average("boosted", "linear", weights=(2, 1))`."""

    @staticmethod
    def model(ref: str, **takes: str) -> Member:
        """A model: a ref (`readmission@champion`), or a bundle's folder; `takes`: its columns that are other nodes' answers."""
        return Member(model=ref, takes=takes)

    @staticmethod
    def average(*nodes: str, weights: Iterable[float] = ()) -> Average:
        """The mean of their answers."""
        return Average(average=nodes, weights=tuple(weights))

    @staticmethod
    def vote(*nodes: str, weights: Iterable[float] = ()) -> Vote:
        """The share of them that call a row each class."""
        return Vote(vote=nodes, weights=tuple(weights))

    @staticmethod
    def cascade(*nodes: str, sure: float) -> Cascade:
        """The answer of the first that is sure."""
        return Cascade(cascade=nodes, sure=sure)

    @staticmethod
    def calibrate(of: str, *, slope: float = 1.0, intercept: float = 0.0) -> Calibrate:
        """Its probabilities, made steeper or flatter."""
        return Calibrate(calibrate=of, slope=slope, intercept=intercept)

    @staticmethod
    def adjust(
        of: str, *, factor: float = 1.0, offset: float = 0.0, lowest: float | None = None, highest: float | None = None
    ) -> Adjust:
        """Its amounts, in another unit or within bounds."""
        return Adjust(adjust=of, factor=factor, offset=offset, lowest=lowest, highest=highest)


class Ensemble(msgspec.Struct, frozen=True, kw_only=True):
    """A declared ensemble. `answer` names the node whose answer is its own; `steps` are a cleaning's, done to each row before.

    Raises `Invalid` for a node that is not there, is in a ring, or is not needed; and for weights and bounds that cannot be.
    """

    name: str
    answer: str
    nodes: dict[str, Node]
    steps: tuple[AnyStep, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "name of a model")
        if not 0 < len(self.nodes) <= _MOST:
            raise refused(self.name, f"it has {len(self.nodes)} nodes", f"Give it 1 to {_MOST}.")
        for name, one in self.nodes.items():
            if "." in check_name(name, "name of a node"):
                raise refused(self.name, f"the node {name!r} has a dot in its name", "Dots stand before a class.")
            self._check(name, one)
        order = self.order
        if unused := self.nodes.keys() - set(order):
            raise refused(
                self.name, f"nothing comes of the node {sorted(unused)[0]!r}", "Use its answer, or take it out."
            )

    @property
    def order(self) -> list[str]:
        """The nodes that the answer needs, each after those that it needs itself. Raises `Invalid` for a ring."""
        found: list[str] = []

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in above:
                ring = " -> ".join((*above[above.index(name) :], name))
                raise refused(self.name, f"its nodes are in a ring: {ring}", "A node's answer cannot depend on itself.")
            if name not in self.nodes:
                raise refused(self.name, f"it has no node {name!r}", did_you_mean(name, self.nodes) or "Declare it.")
            if name not in found:
                for one in needs(self.nodes[name]):
                    visit(one, (*above, name))
                found.append(name)

        visit(self.answer, ())
        return found

    def to_dict(self) -> dict[str, Any]:
        """The declaration as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def _check(self, name: str, one: Node) -> None:
        parts = needs(one)
        weights = one.weights if isinstance(one, Average | Vote) else ()
        if weights and (len(weights) != len(parts) or min(weights) < 0 or not 0 < sum(weights) < float("inf")):
            raise refused(
                self.name,
                f"the weights of {name!r} are {list(weights)}",
                f"Give {len(parts)}, none negative, not all 0.",
            )
        if isinstance(one, Average | Vote | Cascade) and len(set(parts)) < len(parts):
            raise refused(self.name, f"{name!r} names a node twice", "Give it a weight instead.")
        if isinstance(one, Average | Vote | Cascade) and not parts:
            raise refused(self.name, f"{name!r} is made of nothing", "Name the nodes that it is made of.")
        if isinstance(one, Cascade) and not 0 < one.sure <= 1:
            raise refused(self.name, f"{name!r} is sure from {one.sure} on", "Give a probability.")
        if isinstance(one, Calibrate) and not 0 < one.slope < float("inf"):
            raise refused(self.name, f"the slope of {name!r} is {one.slope}", "Give a positive number.")
        if isinstance(one, Adjust) and (one.lowest or 0) > (one.highest if one.highest is not None else float("inf")):
            raise refused(self.name, f"{name!r} has no number between its bounds", "Give the lowest first.")


def needs(one: Node) -> tuple[str, ...]:
    """The nodes whose answers a node is made of."""
    match one:
        case Member():
            return tuple(sorted({source.partition(".")[0] for source in one.takes.values()}))
        case Average():
            return one.average
        case Vote():
            return one.vote
        case Cascade():
            return one.cascade
        case Calibrate():
            return (one.calibrate,)
        case Adjust():
            return (one.adjust,)


def from_dict(shape: object) -> Ensemble:
    """The ensemble of JSON or TOML values. Raises `Invalid` naming the place."""
    if not isinstance(shape, Mapping) or not isinstance(shape.get("nodes"), Mapping):
        raise refused("of this file", "it has no nodes", "Give it a name, an answer, and a table for each node.")
    known = {"name", "answer", "nodes", "steps"}
    if unknown := sorted(shape.keys() - known):
        raise refused("of this file", f"it has no {unknown[0]!r}", did_you_mean(str(unknown[0]), known))
    name, answer = shape.get("name"), shape.get("answer")
    if not isinstance(name, str) or not isinstance(answer, str):
        raise refused("of this file", "it has no name or no answer", 'Say name = "..." and answer = "NODE".')
    nodes = {str(key): _node(name, str(key), value) for key, value in shape["nodes"].items()}
    return Ensemble(name=name, answer=answer, nodes=nodes, steps=steps(shape.get("steps", [])))


def read_ensemble(path: Path) -> Ensemble:
    """The ensemble that a .toml or .json file declares. Raises `Invalid`; a syntax error says where."""
    try:
        text = path.read_text()
        shape = tomllib.loads(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise Invalid(
            f"{path} cannot be read: {e}.", code="bad-ensemble", hint="An ensemble's file is TOML, JSON or Python."
        ) from e
    return from_dict(shape)


def refused(name: str, why: str, hint: str) -> Invalid:
    """The refusal of an ensemble."""
    return Invalid(f"The ensemble {name} cannot be: {why}.", code="bad-ensemble", hint=hint)


def _node(ensemble: str, name: str, shape: object) -> Node:
    found = [word for word in _KINDS if isinstance(shape, Mapping) and word in shape]
    if len(found) != 1:
        what = f"the node {name!r} is {' and '.join(found) or 'nothing that there is'}"
        raise refused(ensemble, what, f"Give it one of {', '.join(_KINDS)}.")
    try:
        return msgspec.convert(shape, _KINDS[found[0]])
    except msgspec.ValidationError as e:
        fields = ", ".join(_KINDS[found[0]].__struct_fields__)
        raise refused(ensemble, f"the node {name!r}: {e}", f"There are {fields}.") from e
