"""ULIDs: identities that sort by the time of their making (48 bits of milliseconds, 80 random bits, Crockford's base 32)."""

from __future__ import annotations

import os
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(now: int, random: Callable[[int], bytes] = os.urandom) -> str:
    """A new identity of 26 characters for a time in milliseconds since 1970 UTC."""
    number = (now & (1 << 48) - 1) << 80 | int.from_bytes(random(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -5, -5))
