"""The page of an endpoint, for people: one file that holds its style and its script, and asks nobody else for anything.

It is the same for every caller and every endpoint, and tells nothing by itself: the script asks for the endpoint's OpenAPI
document, with a token where one is needed. What it may do is said by its Content-Security-Policy: run this script, known by its
digest, and ask this server.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path


@cache
def page() -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The page, and the headers that it is sent with."""
    text = Path(__file__).with_name("docs.html").read_bytes()
    script = text.partition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script).digest())
    policy = (
        b"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%s'; connect-src 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'" % digest
    )
    return text, (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    )
