"""A cluster of Kafka: its address, who reads and writes there, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopline.errors import Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable, did_you_mean

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

PATIENCE = 15.0
"""Seconds without a word of a broker."""
_ADDRESS = re.compile(r"kafka://(?P<servers>[^/@?#]+)/(?P<topic>[A-Za-z0-9._-]{1,249})")
_SECURITY = (
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)
"""Settings of librdkafka that may be given. Others of its own load libraries and write files."""


def library() -> Any:
    """The client library. Raises `MissingExtra`."""
    try:
        import confluent_kafka
    except ImportError as e:
        raise MissingExtra("Topics of Kafka need confluent-kafka.", extra="kafka") from e
    return confluent_kafka


def parsed(address: str) -> tuple[str, str]:
    """The servers of an address, and its topic. Raises `Invalid`."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise Invalid(
            "This is no address of a topic of Kafka.",
            code="bad-source",
            hint="Write kafka://host:port/topic; who reads is said by --option sasl.username=... and sasl.password='${NAME}'.",
        )
    return found["servers"], found["topic"]


def secured(address: str, given: Mapping[str, str]) -> dict[str, str]:
    """Settings of librdkafka that say who reads. Raises `Invalid` for one that is none of those."""
    for name in given:
        if name not in _SECURITY:
            raise Invalid(f"{address} has no option {name!r}.", code="bad-option", hint=did_you_mean(name, _SECURITY))
    return dict(given)


def problem(address: str, error: KafkaError | None) -> LooplineError:
    """What an error of the library means; None: nothing was heard."""
    errors = library().KafkaError
    topic = parsed(address)[1]
    said = f": {error.str()}" if error is not None else ""
    code = error.code() if error is not None else None
    if code in (errors.UNKNOWN_TOPIC_OR_PART, errors._UNKNOWN_TOPIC, errors._UNKNOWN_PARTITION):
        return NotFound(
            f"There is no topic {topic} at {address}.",
            code="no-topic",
            hint="Look at its name, and whether who reads may see it.",
        )
    if code == errors._INVALID_ARG:
        return Invalid(f"{address} cannot be read with these options{said}.", code="bad-option", hint="Mend that one.")
    denied = (
        errors._AUTHENTICATION,
        errors.SASL_AUTHENTICATION_FAILED,
        errors.TOPIC_AUTHORIZATION_FAILED,
        errors.GROUP_AUTHORIZATION_FAILED,
        errors.CLUSTER_AUTHORIZATION_FAILED,
        errors._SSL,
    )
    if code in denied:
        return Refused(
            f"{address} lets nobody in so{said}.",
            code="foreign-refusal",
            hint="Give sasl.username, sasl.password='${NAME}', security.protocol and ssl.ca.location as its owner says.",
        )
    return Unavailable(
        f"{address} does not answer{said}.",
        code="source-away",
        hint="Read again when it does: it goes on where it was.",
    )
