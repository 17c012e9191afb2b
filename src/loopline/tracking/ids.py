"""ULIDs: identities that sort by the time of their making (48 bits of milliseconds, 80 random bits, Crockford's base 32)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable

from loopline.errors import Invalid

LATEST = 253_402_300_799_999
"""The end of the year 9999, in milliseconds since 1970 UTC: no time of a run is later."""

ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
"""The form of a ULID."""
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


_making = threading.Lock()
_last = 0


def ulid(now: int, random: Callable[[int], bytes] | None = None) -> str:
    """A new identity of 26 characters for a time in milliseconds since 1970 UTC; of one millisecond, a later one sorts later.

    `random` gives bytes in place of the system's: of the same bytes it is the same identity.
    """
    global _last
    number = (now & (1 << 48) - 1) << 80 | int.from_bytes((random or os.urandom)(10), "big")
    if random is None:
        with _making:
            if number >> 80 == _last >> 80:  # by a random step, since a fork goes on from the same one
                number = _last + 1 + int.from_bytes(os.urandom(4), "big")
            _last = number
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))


def check_id(text: str) -> str:
    """The text itself, where it is a ULID. Raises `Invalid`."""
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise Invalid(
            f"{str(text)[:60]!r} is no id of a run.", code="bad-id", hint="It is a ULID: 26 characters of 0-9 and A-Z."
        )
    return text
