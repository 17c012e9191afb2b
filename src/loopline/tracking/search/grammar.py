"""From the words of a filter to its tree (docs/search.md has the grammar)."""

from __future__ import annotations

from collections.abc import Sequence

from loopline.errors import Invalid
from loopline.tracking.search import dates
from loopline.tracking.search.fields import ATTRIBUTES, EXTERNAL, GROUPS, REFS, WORDS, suggestions, takes
from loopline.tracking.search.lexer import Token, nearest, tokens, wrong
from loopline.tracking.search.texts import LONGEST_PATTERN, check_pattern, of_like
from loopline.tracking.search.tree import (
    And,
    Field,
    In,
    Like,
    Match,
    Missing,
    Not,
    Op,
    Or,
    Order,
    OrderBy,
    Part,
    Span,
    Tree,
    Value,
)

MOST_TERMS = 200
MOST_VALUES = 1_000
DEEPEST = 50
MOST_ORDERS = 8

_PARTS: dict[str, Part] = {"min": "min", "max": "max", "last": "last"}
_OPS: dict[str, Op] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
_EQUAL = {"=": False, "==": False, "!=": True, "<>": True}
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~", "IN", "LIKE", "ILIKE", "MATCHES", "BETWEEN", "IS", "NOT")
_MOST = 2**63 - 1


def parse(source: str, now: int) -> Tree:
    """The tree of a filter; of an empty one, that which holds for every run. `now` is what dates in words count from.

    Raises `Invalid` that says where it is wrong and what was expected.
    """
    return _Parser(source, "filter", now).filter()


def parse_order(order: Sequence[str]) -> tuple[OrderBy, ...]:
    """The fields to order by: each a field, then ASC (when nothing is said) or DESC. Raises `Invalid`."""
    if len(order) > MOST_ORDERS:
        raise Invalid(f"{len(order)} keys to order by are too many.", code="bad-filter", hint=f"At most {MOST_ORDERS}.")
    return tuple(_Parser(key, "order", 0).order() for key in order)


def like(field: Field, pattern: str, fold: bool = False, negated: bool = False) -> Like | Match:
    """The leaf of a LIKE pattern; `fold`: of ILIKE, whatever the case of letters.

    The database judges what it judges as every other does; the case of letters and the JSON of params are for the engine.
    """
    if fold or field.group == "params":
        return Match(field, of_like(pattern, fold), negated)
    return Like(field, pattern, negated)


class _Parser:
    """Reads from left to right, one token ahead."""

    def __init__(self, source: str, what: str, now: int) -> None:
        self.source = source
        self.what = what
        self.now = now
        self.tokens = tokens(source, what)
        self.place = 0
        self.terms = 0
        self.values = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def ended(self) -> bool:
        return self.next.kind == "end"

    def take(self) -> Token:
        token = self.next
        self.place += 1
        return token

    def word(self, *words: str) -> bool:
        """Takes the next token where it is one of these keywords."""
        found = self.next.kind == "word" and self.next.text.upper() in words
        self.place += found
        return found

    def sign(self, *signs: str) -> bool:
        found = self.next.kind == "sign" and self.next.text in signs
        self.place += found
        return found

    def wrong(self, token: Token, message: str, expected: Sequence[str] = (), hint: str = "") -> Invalid:
        return wrong(self.source, token.at, message, expected=expected, hint=hint, what=self.what)

    def unexpected(self, wanted: str, expected: Sequence[str], hint: str = "") -> Invalid:
        if not hint and self.next.kind == "word":
            hint = nearest(self.next.text, expected)
        return self.wrong(self.next, f"{wanted} was expected, not {self.next}", expected, hint)

    def filter(self) -> Tree:
        if self.ended():
            return And(())
        tree = self.any_of(0)
        if not self.ended():
            raise self.unexpected("AND, OR or the end", ["AND", "OR"])
        return tree

    def order(self) -> OrderBy:
        at = self.next
        field = self.field()
        if field.group in ("inputs", "outputs", "external"):
            raise self.wrong(at, f"a run may have many {field.group}", hint="Order by something that it has one of.")
        descending = self.word("DESC")
        if not descending:
            self.word("ASC")
        if not self.ended():
            raise self.unexpected("ASC, DESC or the end", ["ASC", "DESC"])
        return OrderBy(field, descending)

    def any_of(self, depth: int) -> Tree:
        parts = [self.all_of(depth)]
        while self.word("OR"):
            parts.append(self.all_of(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all_of(self, depth: int) -> Tree:
        parts = [self.one(depth)]
        while self.word("AND"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def one(self, depth: int) -> Tree:
        if depth >= DEEPEST:
            raise self.wrong(self.next, f"it is deeper than {DEEPEST} levels", hint="Take some parentheses away.")
        if self.word("NOT"):
            return Not(self.one(depth + 1))
        opening = self.next
        if self.sign("("):
            inner = self.any_of(depth + 1)
            if not self.sign(")"):
                raise self.unexpected(f"the ')' of character {opening.at + 1}", [")", "AND", "OR"])
            return inner
        self.terms += 1
        if self.terms > MOST_TERMS:
            raise self.wrong(
                self.next, f"it has more than {MOST_TERMS} terms", hint="IN (...) holds many values at once."
            )
        return self.comparison()

    def field(self) -> Field:
        token = self.next
        if token.kind != "word":
            raise self.unexpected("a field", suggestions(), "Fields are for example name, params.lr or metrics.loss.")
        self.take()
        head, dot, rest = token.text.partition(".")
        if head.lower() in _PARTS and self.sign("("):
            return self.function(_PARTS[head.lower()], token)
        if head.lower() == "text" and self.what == "order" and self.sign("("):
            return self.function("text", token)
        if head.lower() in GROUPS and (dot or head.lower() not in ATTRIBUTES):
            return self.keyed(token, head.lower(), rest)
        if not dot and head.lower() in ATTRIBUTES:
            return Field("attributes", ATTRIBUTES[head.lower()][0])
        if not dot and head.lower() in REFS:
            return REFS[head.lower()]
        known = [*ATTRIBUTES, *(f"{group}.{rest or 'KEY'}" for group in ("params", "metrics", "tags")), *REFS]
        hint = nearest(token.text, known)
        if hint.startswith("There are"):
            hint = f"Metrics, params and tags have their group in front: metrics.{token.text}. {hint}"
        raise self.wrong(token, f"{token.text!r} is no field", suggestions(), hint)

    def function(self, part: Part, token: Token) -> Field:
        field = self.field()
        group, example = ("params", "params.KEY") if part == "text" else ("metrics", "metrics.KEY")
        if field.group != group:
            raise self.wrong(token, f"{part} is of {group} only", [example], f"For example {part}({example}).")
        if not self.sign(")"):
            raise self.unexpected("')'", [")"])
        return Field(field.group, field.key, part)

    def keyed(self, token: Token, name: str, rest: str) -> Field:
        group = GROUPS[name]
        key, part = (rest, "") if rest else self.quoted_key(token, name)
        if group == "attributes":
            if key.lower() not in ATTRIBUTES:
                raise self.wrong(token, f"a run has no attribute {key!r}", list(ATTRIBUTES), nearest(key, ATTRIBUTES))
            return Field(group, ATTRIBUTES[key.lower()][0])
        if group == "external" and key not in EXTERNAL:
            raise self.wrong(token, f"data held elsewhere has no {key!r}", list(EXTERNAL), nearest(key, EXTERNAL))
        head, _, tail = rest.rpartition(".")
        if group == "metrics" and head and tail.lower() in _PARTS:
            key, part = head, tail
        return Field(group, key, _PARTS[part.lower()] if part else "last")

    def quoted_key(self, token: Token, name: str) -> tuple[str, str]:
        """A key in quotes right behind its group, and what stands right behind it of min, max and last."""
        quoted = self.next
        if quoted.kind != "quoted" or not token.text.endswith(".") or quoted.at != token.at + len(token.text):
            example = "" if GROUPS[name] == "attributes" else f'For example {name}.lr, or {name}."learning rate".'
            raise self.unexpected(f"a key behind {name}.", ["KEY"], example)
        self.take()
        part = self.next
        if part.kind != "part" or part.at != quoted.at + len(quoted.text):
            return quoted.value, ""
        self.take()
        if GROUPS[name] != "metrics" or part.text[1:].lower() not in _PARTS:
            raise self.wrong(
                part, f"{part.text!r} is no part of {name}", [".min", ".max", ".last"], "Quote the whole key."
            )
        return quoted.value, part.text[1:]

    def comparison(self) -> Tree:
        field = self.field()
        sign = self.next
        if self.sign(*_EQUAL):
            return In(field, (self.value(field),), _EQUAL[sign.text])
        if self.sign(*_OPS):
            return self.ordered(field, sign, _OPS[sign.text], self.value(field))
        if self.sign("~", "!~"):
            return self.match(field, sign, sign.text == "!~")
        if self.word("IS"):
            negated = self.word("NOT")
            if not self.word("NULL"):
                raise self.unexpected("NULL", ["NULL"] if negated else ["NULL", "NOT NULL"])
            return Not(Missing(field)) if negated else Missing(field)
        negated = self.word("NOT")
        sign = self.next
        if self.word("IN"):
            return In(field, self.several(field), negated)
        if self.word("LIKE", "ILIKE"):
            return self.like(field, sign, negated)
        if self.word("MATCHES"):
            return self.match(field, sign, negated)
        if self.word("BETWEEN"):
            low = self.value(field)
            if not self.word("AND"):
                raise self.unexpected("AND", ["AND"])
            high = self.value(field)
            if negated:
                return Or((self.ordered(field, sign, "<", low), self.ordered(field, sign, ">", high)))
            return And((self.ordered(field, sign, ">=", low), self.ordered(field, sign, "<=", high)))
        raise self.unexpected("IN, LIKE, ILIKE, MATCHES or BETWEEN" if negated else "a comparison", _COMPARISONS)

    def ordered(self, field: Field, sign: Token, op: Op, value: Value) -> Order:
        if takes(field) in ("word", "run", "ref"):
            raise self.wrong(
                sign, f"this field has no order for {sign.text}", ["=", "!=", "IN", "NOT IN"], "Use = or IN."
            )
        if isinstance(value, float) and value != value:
            raise self.wrong(sign, f"NaN has no order for {sign.text}", ["=", "!="], "Use = NaN or != NaN.")
        return Order(field, op, value)

    def several(self, field: Field) -> tuple[Value, ...]:
        if not self.sign("("):
            raise self.unexpected("'('", ["("], "For example IN ('a', 'b').")
        values = [self.value(field)]
        while self.sign(","):
            values.append(self.value(field))
        if not self.sign(")"):
            raise self.unexpected("',' or ')'", [",", ")"])
        return tuple(values)

    def text(self, field: Field, sign: Token) -> Token:
        """The pattern behind LIKE or a regular expression."""
        if takes(field) in ("number", "time", "duration") or field.key == "parent":
            raise self.wrong(sign, f"{sign.text} is for texts", ["=", "!=", "<", "<=", ">", ">="], "Use a comparison.")
        if self.next.kind not in ("text", "quoted") or self.next.text[0] == "`":
            raise self.unexpected(
                "a pattern in quotes", ["'...'"], f"For example {sign.text} '%a%'." if "~" not in sign.text else ""
            )
        return self.take()

    def like(self, field: Field, sign: Token, negated: bool) -> Like | Match:
        token = self.text(field, sign)
        if len(token.value) > LONGEST_PATTERN:
            raise self.wrong(token, f"the pattern is longer than {LONGEST_PATTERN} characters", hint="Shorten it.")
        return like(field, token.value, sign.text.upper() == "ILIKE", negated)

    def match(self, field: Field, sign: Token, negated: bool) -> Match:
        pattern = self.text(field, sign)
        problem = check_pattern(pattern.value)
        if problem:
            raise self.wrong(
                pattern, f"the regular expression cannot be used: {problem}", hint="It is one of Rust's regex crate."
            )
        return Match(field, pattern.value, negated)

    def value(self, field: Field) -> Value:
        """The value that is compared with a field, as the field takes it."""
        token = self.next
        kind = takes(field)
        quoted = token.kind == "text" or (token.kind == "quoted" and token.text[0] == '"')
        number = float(token.text) if token.kind == "number" else None
        if not quoted and number is None:
            hint = f"Texts stand in quotes: '{token.text}'." if token.kind in ("word", "quoted") else ""
            raise self.unexpected("a value", ["a number", "'a text'"], hint or "A number, or a text in quotes.")
        self.take()
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.wrong(token, f"it has more than {MOST_VALUES} values", hint="Name a common tag instead.")
        if quoted:
            return self.quoted(field, token, kind)
        assert number is not None
        if kind in ("number", "either"):
            return number
        if kind in ("time", "duration") and number == number:
            # As a number, a time is in milliseconds since 1970 and a duration in seconds.
            if kind == "duration":
                return number * 1000
            moment = int(max(-_MOST, min(_MOST - 1, number)))
            return Span(moment, moment + 1)
        raise self.wrong(
            token, f"a text was expected, not {token}", ["'a text'"], f"Write it in quotes: '{token.text}'."
        )

    def quoted(self, field: Field, token: Token, kind: str) -> Value:
        if kind == "number":
            raise self.wrong(
                token, f"a number was expected, not {token}", ["a number"], "Metrics are numbers, without quotes."
            )
        if kind == "time":
            found = dates.span(token.value, self.now)
            if found is None:
                raise self.wrong(token, f"{token} is no date", ["a date"], f"For example {dates.EXAMPLES}.")
            return found
        if kind == "duration":
            length = dates.duration(token.value)
            if length is None:
                raise self.wrong(
                    token, f"{token} is no duration", ["a duration"], "For example '90s', '2h' or '1h 30m'."
                )
            return length
        if kind == "word":
            if token.value.lower() not in WORDS[field.key]:
                known = WORDS[field.key]
                raise self.wrong(token, f"{token} is no {field.key}", known, nearest(token.value, known))
            return token.value.lower()
        return token.value
