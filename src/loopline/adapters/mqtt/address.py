"""The address of topics of a broker of MQTT, and how it is reached."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple

from loopline.errors import Invalid

_ADDRESS = re.compile(
    r"(?P<scheme>mqtts?)://(?P<host>[^/@:?\[\]]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?/(?P<topics>.+)", re.DOTALL
)
_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Reached(NamedTuple):
    """Where a broker is, who asks, and what for."""

    address: str
    host: str
    port: int
    topics: str
    user: str
    password: str
    tls: ssl.SSLContext | None


def reached(
    address: str, *, username: str = "", password: str = "", ca: str = "", certificate: str = "", key: str = ""
) -> Reached:
    """What an address says with its options. Raises `Invalid`."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not _is_filter(found["topics"]):
        raise Invalid(
            "This is no address of topics of MQTT.",
            code="bad-source",
            hint="Write mqtt://host:port/a/topic, with + for any one level and # for all below, at the end; who reads is said "
            "by --option username=... and password='${NAME}'.",
        )
    tls = _tls(address, ca, certificate, key) if found["scheme"] == "mqtts" else None
    port = int(found["port"] or _PORTS[found["scheme"]])
    return Reached(address, found["host"].strip("[]"), port, found["topics"], username, password, tls)


def _is_filter(topics: str) -> bool:
    """Whether this is a filter of topics (MQTT 5, 4.7.1)."""
    levels = topics.split("/")
    wild = all(level in ("+", "#") or not set("+#") & set(level) for level in levels)
    return wild and "#" not in levels[:-1] and "\0" not in topics and len(topics.encode()) <= 65_535


def _tls(address: str, ca: str, certificate: str, key: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as e:
        raise Invalid(
            f"{address} cannot be read by TLS with these files: {e}.",
            code="bad-option",
            hint="ca, certificate and key name files in PEM.",
        ) from e
    return context
