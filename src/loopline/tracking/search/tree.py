"""What a filter says, as a tree. The grammar makes it from words; a door for another system's filters may make it, too.

Every leaf is true or false for a run, never in between: a run without the field matches no leaf but `Missing`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Group = Literal["attributes", "params", "metrics", "tags", "inputs", "outputs", "external"]
Part = Literal["last", "min", "max", "text"]
Op = Literal["<", "<=", ">", ">="]


class Field(msgspec.Struct, frozen=True):
    """Something that a run has. `key`: the attribute, param, metric or tag; of inputs and outputs the kind of ref ("": any).

    `part` is of metrics; "text" is of a param that is ordered by as a text, also where it spells a number.
    """

    group: Group
    key: str
    part: Part = "last"


class Span(msgspec.Struct, frozen=True):
    """A stretch of time in milliseconds since 1970 UTC, from `start` until before `end`; None: it goes on."""

    start: int
    end: int | None


Value = float | str | Span


class In(msgspec.Struct, frozen=True):
    """The field is one of the values; `negated`: it is there and is none of them."""

    field: Field
    values: tuple[Value, ...]
    negated: bool = False


class Order(msgspec.Struct, frozen=True):
    """The field is below or above the value."""

    field: Field
    op: Op
    value: Value


class Like(msgspec.Struct, frozen=True):
    """The whole text fits a pattern, where % is any characters and _ is one. Not of params: see `grammar.like`."""

    field: Field
    pattern: str
    negated: bool = False


class Match(msgspec.Struct, frozen=True):
    """A regular expression is found in the text."""

    field: Field
    pattern: str
    negated: bool = False


class Missing(msgspec.Struct, frozen=True):
    """The run has no such field."""

    field: Field


class And(msgspec.Struct, frozen=True):
    """All of it holds; nothing at all holds always."""

    parts: tuple[Tree, ...]


class Or(msgspec.Struct, frozen=True):
    """Any of it holds."""

    parts: tuple[Tree, ...]


class Not(msgspec.Struct, frozen=True):
    """It does not hold."""

    part: Tree


Leaf = In | Order | Like | Match | Missing
Tree = Leaf | And | Or | Not


class OrderBy(msgspec.Struct, frozen=True):
    """A field to order by."""

    field: Field
    descending: bool = False
