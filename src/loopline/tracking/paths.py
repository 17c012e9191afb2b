"""Checks of what people and programs name and write: artifact paths, keys of params and metrics, texts."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from loopline.errors import Invalid

LONGEST_TEXT = 64_000
"""Characters of a param's JSON, of a tag, a note, a piece of console."""

_LONGEST_PATH = 1024
_LONGEST_PART = 255
_LONGEST_QUOTED = 4096  # bytes of a request's target
_LONGEST_KEY = 250
_LONGEST_GROUP = 500


def check_path(path: str) -> str:
    """The artifact path itself, where it is relative, plain and stays below its run. Raises `Invalid` otherwise.

    A path is only a key here and no file is opened by it; but clients write files by these names, so nothing is let in that
    climbs on any system: "..", absolute paths, on a drive, too, also as it reads once its percent signs are decoded, however
    often, or its look-alikes folded as Unicode does it. Nor are backslashes, control characters and parts ending in a dot or
    space. A colon behind one letter is no drive but on Windows, where MLflow's clients refuse such a file by themselves.
    """
    _check_type(path, "path of an artifact")
    if len(path) > _LONGEST_PATH:  # first: each round of decoding takes as long as the path
        raise _too_long(path)
    forms = [path]
    while (decoded := unquote(forms[-1])) != forms[-1]:
        forms.append(decoded)
    for form in forms:
        folded = unicodedata.normalize("NFKC", form)
        within = re.sub(r"^[A-Za-z]:", "", folded)  # a drive, if there is one
        pieces = re.split(r"[/\\;?#]", within)
        if (
            within.startswith(("/", "\\"))
            or "\0" in folded
            or any(not p.strip(". ") and p for p in pieces)
            or (form is path and _is_odd(folded))
        ):
            raise Invalid(
                f"{path!r} cannot be the path of an artifact.",
                code="bad-path",
                hint="Give a relative path such as plots/roc.png, without '..', backslashes or control characters.",
            )
    if any(len(p.encode()) > _LONGEST_PART for p in path.split("/")) or len(quote(path, safe="")) > _LONGEST_QUOTED:
        raise _too_long(path)
    return path


def _too_long(path: str) -> Invalid:
    return Invalid(
        f"The artifact path {path[:60]!r}... is too long.",
        code="bad-path",
        hint=f"At most {_LONGEST_PATH} characters in all, {_LONGEST_PART} bytes a part, and {_LONGEST_QUOTED:,} bytes "
        "as a URL has it.",
    )


def _is_odd(path: str) -> bool:
    return (
        not path
        or "\\" in path
        or any(unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in path)
        or any(not p or p.endswith((".", " ")) for p in path.split("/"))
    )


def check_key(key: str, what: str) -> str:
    """The key itself, where it is printable text of 1 to 250 characters that can end a URL's path. Raises `Invalid`."""
    _check_type(key, what)
    if not key.strip() or len(key) > _LONGEST_KEY or not key.isprintable():
        raise Invalid(
            f"{key[:60]!r} cannot be the {what}.",
            code="bad-key",
            hint=f"Printable text of 1 to {_LONGEST_KEY} characters.",
        )
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise Invalid(
            f"{key!r} cannot be the {what}: it has an empty or dotted part.",
            code="bad-key",
            hint="For example 'train/loss'.",
        )
    return key


def check_title(name: str, what: str, longest: int = _LONGEST_KEY) -> str:
    """The name itself, where it is printable text of at least one character. Raises `Invalid`."""
    _check_type(name, what)
    if not name.strip() or len(name) > longest or not name.isprintable():
        raise Invalid(
            f"{name[:60]!r} cannot be the {what}.",
            code="bad-key",
            hint=f"Printable text of 1 to {longest} characters.",
        )
    return name


def check_group(name: str) -> str:
    """The name of a group itself, where it is printable text of 1 to 500 characters. Raises `Invalid`."""
    return check_title(name, "name of a group", _LONGEST_GROUP)


def escaped(text: str) -> str:
    """The text with what has no UTF-8 form written as escapes (`\\udcff`), and U+FFFD for NUL, which PostgreSQL cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\ufffd")


def check_text(text: str, what: str) -> str:
    """The text itself, where it is short enough for a param, a tag or a note. Raises `Invalid`."""
    _check_type(text, what)
    if len(text) > LONGEST_TEXT:
        raise Invalid(
            f"{what} has {len(text)} characters.",
            code="too-long",
            hint=f"At most {LONGEST_TEXT:,}; keep the rest as an artifact.",
        )
    return text


def _check_type(given: object, what: str) -> None:
    if not isinstance(given, str):
        raise Invalid(
            f"{what[:1].upper()}{what[1:]} is {str(given)[:60]!r}, a {type(given).__name__}.",
            code="bad-value",
            hint="Give a text.",
        )
