"""Secrets of sources: written as `${NAME}`, taken from the environment when a source is read, kept and told nowhere."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, urlsplit

from loopline.errors import Invalid, LooplineError

_NAMED = re.compile(r"\$\{(\w+)\}")
_SECRET = re.compile(
    r"passw|secret|token|credential|authori[sz]ation|bearer|basic|(api|access|account|private)[-_]?key", re.I
)
_WAY = "Write ${NAME} in its place, and set NAME in the environment of whoever reads: loopline up, loopline data sync."


def check_no_secret(address: str, options: Mapping[str, str]) -> None:
    """Raises `Invalid` (code "secret-literal") where an address or an option holds a secret itself instead of its name."""
    try:
        parts = urlsplit(address) if "://" in address else urlsplit("")
    except ValueError as e:
        raise Invalid(
            f"An address cannot be read: {e}.", code="bad-source", hint="Write it as scheme://host/..."
        ) from e
    found = [f"password of {parts.hostname}"] if parts.password and not _NAMED.search(parts.password) else []
    given = [*parse_qsl(parts.query), *options.items()]
    found += [name for name, text in given if _SECRET.search(name) and text and not _NAMED.search(text)]
    if found:
        raise Invalid(f"The {found[0]} is written out, and would be kept.", code="secret-literal", hint=_WAY)


class Opened:
    """An address and options with their secrets in place, for the one who reads."""

    def __init__(self, address: str, options: Mapping[str, str]) -> None:
        self._secrets: dict[str, str] = {}
        self.address = self._filled(address, url="://" in address)
        self.options = {name: self._filled(text, url=False) for name, text in options.items()}

    @contextlib.contextmanager
    def hiding(self) -> Iterator[None]:
        """Errors that come out of here name secrets by their names."""
        try:
            yield
        except LooplineError as e:
            e.message, e.hint = self.hidden(e.message), self.hidden(e.hint)
            e.args = (e.message,)
            e.details = {name: self.hidden(told) if isinstance(told, str) else told for name, told in e.details.items()}
            raise

    def hidden(self, text: str) -> str:
        """The text with each secret as `${NAME}`."""
        for secret, name in sorted(self._secrets.items(), key=lambda item: -len(item[0])):
            text = text.replace(secret, f"${{{name}}}")
        return text

    def _filled(self, text: str, *, url: bool) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1]
            secret = os.environ.get(name, "")
            if not secret:
                raise Invalid(
                    f"The environment has no {name}, which a source needs.",
                    code="no-environment",
                    hint=f"Set it where the source is read: {name}=... loopline data sync",
                )
            filled = quote(secret, safe="") if url else secret
            self._secrets |= {secret: name, filled: name}
            return filled

        return _NAMED.sub(value, text)
