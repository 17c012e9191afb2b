"""The words and signs of a filter, each with its place, and the error that points at one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from loopline.errors import Invalid, did_you_mean

LONGEST = 10_000

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<number>[+-]?(?:inf(?:inity)?|nan)(?![\w.])|[+-]?\.?\d[\w.:]*(?:(?<=[eE])[+-]\d+)?(?:-\d[\w.:-]*)?)
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    | (?P<sign><=|>=|!=|<>|==|!~|[=<>~(),])
    | (?P<word>[^\W\d][\w./-]*)
    | (?P<part>\.[^\W\d]\w*)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(?:inf(?:inity)?|nan|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.IGNORECASE)
_AROUND = 40

Kind = Literal["number", "text", "quoted", "sign", "word", "part", "end"]


class Token(NamedTuple):
    """A word or a sign; `at` counts characters from 0. `value` is what stands between quotes."""

    kind: Kind
    text: str
    at: int
    value: str = ""

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        shown = printable(self.text if len(self.text) <= 40 else f"{self.text[:39]}…")
        return shown if self.kind in ("text", "quoted") else f"'{shown}'"


def printable(text: str) -> str:
    """A text that steers no terminal, as long as it was."""
    return "".join(c if c.isprintable() else " " for c in text)


def wrong(
    source: str, at: int, message: str, *, expected: Iterable[str] = (), hint: str = "", what: str = "filter"
) -> Invalid:
    """The error of a filter: what is wrong at which character, what would be right there, and the place itself."""
    start = max(0, at - _AROUND)
    shown = printable(source[start : at + _AROUND])
    lead = "…" if start else ""
    place = f"{lead}{shown}{'…' if at + _AROUND < len(source) else ''}\n  {' ' * (len(lead) + at - start)}^"
    wanted = list(expected)
    return Invalid(
        f"The {what} is wrong at character {at + 1}: {message}.",
        code="bad-filter",
        hint=f"{hint} (docs/search.md)\n  {place}".lstrip(),
        at=at + 1,
        expected=wanted,
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known words, or all of them."""
    return did_you_mean(word, known)


def tokens(source: str, what: str = "filter") -> list[Token]:
    """The tokens of a text, the end last. Raises `Invalid` where there is none."""
    if len(source) > LONGEST:
        raise wrong(source, LONGEST, f"it is longer than {LONGEST} characters", hint="Make it shorter.", what=what)
    bad = re.search(r"[\x00\ud800-\udfff]", source)
    if bad is not None:
        raise wrong(source, bad.start(), "a character that no text holds", hint="Leave it out.", what=what)
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            if source[at] in "'\"`":
                raise wrong(
                    source, at, f"the {source[at]} is never closed", hint="Close it; double it within.", what=what
                )
            raise wrong(source, at, f"{source[at]!r} has no meaning here", hint=_stray(source[at]), what=what)
        kind, text = str(match.lastgroup), match.group()
        at = match.end()
        if kind == "space":
            continue
        value = text
        if kind in ("text", "quoted"):
            value = text[1:-1].replace(text[0] * 2, text[0])
        elif kind == "number" and _NUMBER.fullmatch(text) is None:
            raise wrong(
                source, match.start(), f"{text!r} is no number",
                hint="Dates, durations and texts stand in quotes.", what=what,
            )  # fmt: skip
        found.append(Token(kind, text, match.start(), value))  # type: ignore[arg-type]  # a group's name is a kind
    return [*found, Token("end", "", len(source))]


def _stray(character: str) -> str:
    return {"&": "Write AND.", "|": "Write OR.", "!": "Write NOT, or != .", ";": "One filter at a time."}.get(
        character, 'Texts stand in quotes, and odd keys as in params."learning rate".'
    )
