"""MLflow's filters and orders, read into clauses. Whoever searches says what they may ask for.

A filter is comparisons joined by AND: `metrics.loss < 0.3 AND tags."my team" = 'red'`. It is read as MLflow's own server reads it,
and what cannot be is told in its words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from loopline.api.mlflow.problems import Problem

MOST = 100
"""Comparisons in one filter."""

_LONGEST = 10_000
_NAME = r"(?:`[^`]*`|\"[^\"]*\"|[^\W\d]\w*)(?:\.(?:`[^`]*`|\"[^\"]*\"|\w+))*"
_TOKEN = re.compile(
    rf"""
      (?P<space>\s+)
    | (?P<text>'(?:[^']|'')*')
    | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>{_NAME})
    | (?P<sign>[<>=!~]+)
    | (?P<list>\([^()]*\))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = ("LIKE", "ILIKE", "IN", "IS", "NOT", "NULL", "AND", "OR", "RLIKE", "BETWEEN")

ORDERED = (">", ">=", "!=", "=", "<", "<=")
TEXTS = ("!=", "=", "LIKE", "ILIKE")
LISTED = (*TEXTS, "IN", "NOT IN")
NULLABLE = (*TEXTS, "IS NULL", "IS NOT NULL")


class Clause(NamedTuple):
    """One comparison. `entity` is one of the grammar's; the value is a number, a text, several texts, or None (IS NULL)."""

    entity: str
    key: str
    comparator: str
    value: Any


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked for. `aliases` leads from the words in front of a dot to the entities."""

    aliases: dict[str, str]
    texts: tuple[str, ...] = ()
    """Attributes that are texts."""
    numbers: tuple[str, ...] = ()
    """Attributes that are numbers."""
    listed: tuple[str, ...] = ()
    """Attributes that take IN (...)."""
    datasets: tuple[str, ...] = ()
    """What datasets are asked for by."""
    comparators: dict[str, tuple[str, ...]]
    """By entity; "attribute" is for texts, "number" for attributes that are numbers."""
    orders: tuple[str, ...] = ()
    """Attributes to order by."""
    translated: dict[str, str] = {}
    """Other names of attributes."""
    quotes: bool = True
    """Whether MLflow's message puts clauses that are none in quotes."""
    registry: bool = False
    """Whether what cannot be is told in the words of MLflow's model registry, which has some of its own."""


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else ""


def parse(text: str | None, grammar: Grammar) -> list[Clause]:
    """The clauses of a filter, all of which are to hold. Raises `Problem`."""
    if not text:
        return []
    if not text.strip():
        raise Problem(f"Invalid filter '{text[:100]}'. Could not be parsed.")
    if len(text) > _LONGEST:
        raise Problem(f"Invalid filter: it has more than {_LONGEST} characters.")
    _, semicolon, rest = text.partition(";") if "'" not in text and '"' not in text else (text, "", "")
    if semicolon and rest.strip():
        raise Problem(f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list.")
    clauses, wrong = [], []
    for part in _parts(text):
        if isinstance(part, str):
            wrong.append(part)
        else:
            clauses.append(part)
    if wrong:
        told = ", ".join(f"'{part}'" if grammar.quotes else part for part in wrong)
        raise Problem(f"Invalid clause(s) in filter string: {told}")
    if len(clauses) > MOST:
        raise Problem(f"Invalid filter: it has more than {MOST} comparisons.")
    return [_clause(*found, grammar) for found in clauses]


def parse_order(text: str, grammar: Grammar) -> tuple[str, str, bool]:
    """The entity and key of an order, and whether it ascends. Raises `Problem`."""
    found = re.fullmatch(rf"\s*({_NAME})(?:\s+(\w+))?\s*", text[:_LONGEST])
    if found is None:
        raise Problem(f"Invalid order_by clause '{text[:200]}'. Could not be parsed.")
    direction = (found[2] or "asc").lower()
    if direction not in ("asc", "desc"):
        raise Problem(f"Invalid ordering key in order_by clause '{text[:200]}'.")
    entity, key = _identifier(found[1], grammar, grammar.orders)
    return entity, grammar.translated.get(key, key), direction == "asc"


def _parts(text: str) -> Iterator[tuple[_Token, str, _Token | None] | str]:
    """Comparisons as name, comparator and value, and what is none of them as it stands."""
    tokens = [
        _Token(str(found.lastgroup), found.group()) for found in _TOKEN.finditer(text) if found.lastgroup != "space"
    ]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.word == "AND":
            at += 1
            continue
        comparison = _comparison(tokens, at) if token.kind == "name" and token.word not in _WORDS else None
        if comparison is None:
            yield token.text
            at += 1
        else:
            found, at = comparison
            yield found


def _comparison(tokens: list[_Token], at: int) -> tuple[tuple[_Token, str, _Token | None], int] | None:
    name, following = tokens[at], tokens[at + 1 : at + 4]
    words = [token.word for token in following]
    if words[:2] == ["IS", "NULL"]:
        return (name, "IS NULL", None), at + 3
    if words[:3] == ["IS", "NOT", "NULL"]:
        return (name, "IS NOT NULL", None), at + 4
    if words[:1] == ["IN"] and len(following) > 1 and following[1].kind == "list":
        return (name, "IN", following[1]), at + 3
    if words[:2] == ["NOT", "IN"] and len(following) > 2 and following[2].kind == "list":
        return (name, "NOT IN", following[2]), at + 4
    if len(following) < 2 or following[1].word in ("AND", "OR"):
        return None
    sign, value = following[:2]
    compares = sign.kind == "sign" or sign.word in ("LIKE", "ILIKE", "RLIKE")
    if not compares or value.kind not in ("text", "number", "name", "list"):
        return None
    return (name, sign.word or sign.text, value), at + 3


def _clause(name: _Token, comparator: str, value: _Token | None, grammar: Grammar) -> Clause:
    entity, key = _identifier(name.text, grammar, (*grammar.texts, *grammar.numbers, *grammar.translated))
    key = grammar.translated.get(key, key) if entity == "attribute" else key
    number = entity == "attribute" and key in grammar.numbers
    if value is None and "IS NULL" not in grammar.comparators.get(entity, ()):
        able = [one for one in grammar.comparators if "IS NULL" in grammar.comparators[one]]
        those = " and ".join({"tag": "tags", "parameter": "params"}.get(one, one) for one in sorted(able, reverse=True))
        raise Problem(f"IS NULL / IS NOT NULL is only supported for {those}, not for '{entity}' '{key}'")
    given = None if value is None else _value(entity, key, value, number, grammar)
    allowed = grammar.comparators["number" if number else entity]
    if comparator not in allowed and grammar.registry:
        raise Problem(f"Invalid comparator for {f'attribute {key}' if number else entity}: {comparator}")
    if number and grammar.registry:
        given = _whole(key, given)
    if comparator not in allowed:
        end = "'" if entity in ("parameter", "attribute") and not number else ""  # as MLflow has it
        raise Problem(f"Invalid comparator '{comparator}' not one of '{shown(allowed)}{end}")
    return Clause(entity, key, comparator, given)


def shown(words: Iterable[str]) -> str:
    """Words as MLflow's messages list them."""
    return "{" + ", ".join(f"'{word}'" for word in sorted(words)) + "}"


def _identifier(text: str, grammar: Grammar, attributes: tuple[str, ...]) -> tuple[str, str]:
    head, dot, rest = text.partition(".")
    entity = "attribute"
    if dot:
        word = _bare(head, "`")
        if word not in grammar.aliases and grammar.registry:
            raise Problem(f"Invalid entity type '{word}'. Valid entity types are {tuple(grammar.aliases)}")
        if word not in grammar.aliases:
            known = sorted(set(grammar.aliases.values() if grammar.quotes else grammar.aliases))
            those = "values" if grammar.quotes else "entity types"
            raise Problem(f"Invalid entity type '{word}'. Valid {those} are {known}")
        entity = grammar.aliases[word]
    key = _bare(_bare(_bare(rest if dot else head, "'"), '"'), "`")
    if entity == "attribute" and key not in attributes:
        raise Problem(f"Invalid attribute key '{key}' specified. Valid keys are '{shown(attributes)}'")
    if entity == "dataset" and key not in grammar.datasets:
        raise Problem(f"Invalid dataset key '{key}' specified. Valid keys are '{shown(grammar.datasets)}'")
    return entity, key


def _value(entity: str, key: str, token: _Token, number: bool, grammar: Grammar) -> Any:
    if entity == "metric" or (number and not grammar.registry):
        if token.kind != "number":
            what = f"numeric attribute: {key}" if number else "metric"
            raise Problem(f"Expected numeric value type for {what}. Found {token.text}")
        return int(token.text) if re.fullmatch(r"-?\d+", token.text) and len(token.text) < 20 else float(token.text)
    if token.kind == "list":
        if entity == "attribute" and key not in grammar.listed:
            raise Problem(
                f"Only {sorted(grammar.listed)} attributes support comparison with a list of quoted string values."
            )
        if entity in ("attribute", "dataset"):
            return _list(token.text)
    if number and token.kind == "number":
        return token.text
    if token.kind in ("text", "name"):
        if token.text[0] not in "'\"":
            raise Problem(
                "Parameter value is either not quoted or unidentified quote types used for string value "
                f"{token.text}. Use either single or double quotes."
            )
        return token.text[1:-1]
    if entity == "dataset":
        raise Problem(f"Expected a quoted string value for dataset attributes. Got value {token.text}")
    if entity == "attribute":
        several = " or a list of quoted string values" if grammar.registry else ""
        raise Problem(f"Expected a quoted string value{several} for attributes. Got value {token.text}")
    raise Problem(f"Expected a quoted string value for {entity} (e.g. 'my-value'). Got value {token.text}")


def _whole(key: str, given: Any) -> int:
    """The whole number that a text is."""
    if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", given):
        return int(given)
    shown = given if re.fullmatch(r"-?\d*\.\d*", given) else repr(given)
    raise Problem(f"Invalid value for numeric attribute '{key}': {shown}")


def _list(text: str) -> tuple[str, ...]:
    lead = "While parsing a list in the query, expected"
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as e:
        raise Problem(f"{lead} a non-empty list of string values, but got ill-formed list.") from e
    texts = found if isinstance(found, tuple) else (found,)
    if not texts:
        raise Problem(f"{lead} a non-empty list of string values, but got empty list")
    if not all(isinstance(one, str) for one in texts):
        raise Problem(f"{lead} string value, punctuation, or whitespace, but got different type in list: {texts}")
    if any("\0" in one for one in texts):
        raise Problem(f"{lead} texts without NUL.")
    return texts


def _bare(text: str, quote: str) -> str:
    return text[1:-1] if len(text) >= 2 and text.startswith(quote) and text.endswith(quote) else text


def compared(own: Any, comparator: str, value: Any) -> bool:
    """Whether a comparison holds for a value that is there."""
    match comparator:
        case "=":
            return bool(own == value)
        case "!=":
            return bool(own != value)
        case "<":
            return bool(own < value)
        case "<=":
            return bool(own <= value)
        case ">":
            return bool(own > value)
        case ">=":
            return bool(own >= value)
        case "IN":
            return own in value
        case "NOT IN":
            return own not in value
        case "LIKE":
            return like(own, value)
    return like(own.lower(), value.lower())


def like(text: str, pattern: str) -> bool:
    """Whether a whole text fits a pattern, where % is any characters and _ is one; in time that no pattern can stretch."""
    at, place, again, star = 0, 0, 0, -1
    while at < len(text):
        if place < len(pattern) and pattern[place] == "%":
            star, again = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("_", text[at]):
            at += 1
            place += 1
        elif star >= 0:
            again += 1
            at, place = again, star + 1
        else:
            return False
    return not pattern[place:].strip("%")
