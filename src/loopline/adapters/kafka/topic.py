"""A topic of Kafka as a source of rows.

How far it was read is in the position, an offset a partition: no consumer group, and nothing is committed to the broker.
Partitions are read one after another, each up to the end that it had when the reading began; in a topic that is written in
transactions, to the end of those that are decided. Where the broker has deleted what was not read yet, or a message is no row,
that is told.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.adapters.kafka.cluster import PATIENCE, library, parsed, problem, secured
from loopline.adapters.kafka.forms import AvroRecords, CsvRecords
from loopline.errors import Conflict, Invalid, LooplineError, did_you_mean
from loopline.ports.messages import Form, JsonLines, Messages, Texts, text_of
from loopline.ports.source import Piece, Position

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

_METADATA: dict[str, Callable[[Message], Any]] = {
    "key": lambda message: _key(message.key()),
    "time": lambda message: _time(message.timestamp()),
    "partition": lambda message: message.partition(),
    "offset": lambda message: message.offset(),
}
_FORMATS = ("json", "csv", "avro", "text")
_BATCH = 2_000
_LATEST, _EARLIEST = "latest", "earliest"


class KafkaTopic:
    """The messages of one topic: `kafka://host:port[,host:port]/topic`.

    `format` is how they are written: "json" objects, "csv" records of `columns`, "avro" of the file `schema`, or "text". `metadata`
    names what goes beside them, into columns of these names behind an underscore: key, time, partition, offset. `start` is where
    the first reading begins: "earliest", "latest" (the newest message of each partition), or a time. `security` are settings of
    librdkafka. Raises `Invalid` and `MissingExtra`; nothing is read yet.
    """

    def __init__(
        self,
        address: str,
        scratch: Path,
        *,
        format: str = "json",
        columns: str = "",
        schema: str = "",
        metadata: str = "",
        start: str = _EARLIEST,
        security: Mapping[str, str] | None = None,
    ) -> None:
        self._kafka = library()
        servers, self._topic = parsed(address)
        self._address = address
        self._metadata = _names(address, metadata)
        self._start = start if start in (_EARLIEST, _LATEST) else _moment(address, start)
        self._settings = {**secured(address, security or {}), "bootstrap.servers": servers}
        self._folder = tempfile.TemporaryDirectory(prefix="kafka-", dir=scratch)
        try:
            self._messages = Messages(self._form(format, columns, schema))
        except LooplineError:
            self._folder.cleanup()
            raise
        self._consumer: Consumer | None = None
        self._said: KafkaError | None = None

    @property
    def name(self) -> str:
        """The address: servers and topic."""
        return self._address

    @property
    def grows(self) -> bool:
        """Always: a topic is only written behind its end."""
        return True

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """Pieces of 100,000 messages, 32 MiB or 20 million cells, through all partitions.

        Raises `Unavailable` (a broker does not answer), `NotFound` (no such topic), `Refused`, and `Conflict` (code
        "source-changed") where the topic is another one than the one that was read.
        """
        try:
            yield from self._read(after)
        except self._kafka.KafkaException as e:
            raise self._problem(e.args[0]) from e

    def _read(self, after: Position | None) -> Iterator[Piece]:
        consumer = self._connected()
        partitions = self._partitions(consumer)
        bounds = {p: self._bounds(consumer, p) for p in partitions}
        read = {int(p): int(offset) for p, offset in (after or {}).get("offsets", {}).items()}
        for p, offset in read.items():
            if p not in bounds or offset > bounds[p][1]:
                raise Conflict(
                    f"{self._address} is not the topic that was read: "
                    + (
                        f"partition {p} ends at {bounds[p][1]}, and was read up to {offset}."
                        if p in bounds
                        else f"partition {p} is gone."
                    ),
                    code="source-changed",
                    hint="Collect the new topic into a dataset of its own.",
                )
        first = self._first(consumer, bounds) if after is None else {}
        offsets = {p: read.get(p, first.get(p, bounds[p][0])) for p in partitions}
        taken = dict(offsets)
        for p in partitions:
            for offset in self._partition(consumer, p, offsets[p], bounds[p]):
                taken[p] = offset
                if self._messages.full:
                    yield self._piece(offsets, taken)
                    offsets = dict(taken)
        if taken != offsets:
            yield self._piece(offsets, taken)

    def _piece(self, before: dict[int, int], now: dict[int, int]) -> Piece:
        parts = [f"{p}: {before[p]} to {now[p] - 1}" for p in now if now[p] > before[p]]
        name = f"{self._topic}, offsets {'; '.join(parts[:3])}{f' and {len(parts) - 3} more partitions' if parts[3:] else ''}"
        return self._messages.piece(name, {"offsets": {str(p): offset for p, offset in now.items()}})

    def _partition(self, consumer: Consumer, p: int, offset: int, bounds: tuple[int, int]) -> Iterator[int]:
        """Reads a partition from an offset to its end; gives how far it is read after each message."""
        low, end = bounds
        if offset < low:
            self._lost(p, offset, low)
            yield (offset := low)
        if offset >= end:
            return
        consumer.assign([self._kafka.TopicPartition(self._topic, p, offset)])
        heard = time.monotonic()
        while offset < end:
            for message in consumer.consume(_BATCH, 0.1):
                heard = time.monotonic()
                if (error := message.error()) is not None:
                    if error.code() == self._kafka.KafkaError._PARTITION_EOF:
                        # What is before are marks of transactions, or was compacted away; what is behind, not decided yet.
                        yield max(offset, message.offset() or 0)
                        return
                    low, _ = self._bounds(consumer, p)
                    if error.code() != self._kafka.KafkaError._AUTO_OFFSET_RESET or low <= offset:
                        raise self._problem(error)
                    self._lost(p, offset, low)  # deleted since the reading began
                    yield from self._partition(consumer, p, low, (low, end))
                    return
                if (at := message.offset()) is None or at >= end:
                    yield end
                    return
                self._take(message, p, at)
                yield (offset := at + 1)
            if time.monotonic() - heard > PATIENCE:
                raise self._problem(self._said)

    def _take(self, message: Message, p: int, offset: int) -> None:
        place, content = f"partition {p}, offset {offset}", message.value()
        try:
            beside = {f"_{name}": _METADATA[name](message) for name in self._metadata}
        except ValueError as e:
            self._messages.refuse(place, str(e), bytes(content or b""))
            return
        self._messages.add(place, None if content is None else bytes(content), beside)

    def _lost(self, p: int, offset: int, low: int) -> None:
        self._messages.refuse(
            f"partition {p}, offsets {offset} to {low - 1}", "the broker deleted what was there before it was read"
        )

    def done(self, position: Position) -> None:
        """Nothing: a topic is kept for as long as its broker says."""

    def close(self) -> None:
        """Leaves the broker, and removes the files of pieces."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._folder.cleanup()

    def _form(self, format: str, columns: str, schema: str) -> Form:
        folder = Path(self._folder.name)
        if (format == "csv") != bool(columns) or (format == "avro") != bool(schema):
            raise Invalid(
                f"It is not said how the messages of {self._address} are written.",
                code="bad-option",
                hint="form=csv goes with columns=NAME,NAME,... and form=avro with schema=FILE; others with neither.",
            )
        match format:
            case "json":
                return JsonLines(folder)
            case "csv":
                return CsvRecords(folder, [name.strip() for name in columns.split(",")])
            case "avro":
                return AvroRecords(Path(schema))
            case "text":
                return Texts("text")
        raise Invalid(
            f"{self._address} has no messages of the format {format!r}.",
            code="bad-option",
            hint=did_you_mean(format, _FORMATS),
        )

    def _connected(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._kafka.Consumer(
                {
                    **self._settings,
                    "client.id": "loopline",
                    "group.id": "loopline",  # the library wants one; with assigned partitions no broker hears of it
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "check.crcs": True,
                    "fetch.wait.max.ms": 100,
                    "queued.max.messages.kbytes": 32_768,
                    "log_level": 0,
                    "error_cb": self._hear,
                }
            )
        return self._consumer

    def _hear(self, error: KafkaError) -> None:
        if self._said is None or error.code() != self._kafka.KafkaError._ALL_BROKERS_DOWN:  # which tells no reason
            self._said = error

    def _partitions(self, consumer: Consumer) -> list[int]:
        found = consumer.list_topics(self._topic, timeout=PATIENCE).topics[self._topic]
        if found.error is not None:
            raise self._problem(found.error)
        return sorted(found.partitions)

    def _bounds(self, consumer: Consumer, p: int) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last."""
        partition = self._kafka.TopicPartition(self._topic, p)
        found = consumer.get_watermark_offsets(partition, timeout=PATIENCE)
        if found is None:
            raise self._problem(self._said)
        return found

    def _first(self, consumer: Consumer, bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        """Where the first reading begins, by partition."""
        if self._start == _LATEST:
            return {p: max(low, high - 1) for p, (low, high) in bounds.items()}
        if isinstance(self._start, str):
            return {}
        wanted = [self._kafka.TopicPartition(self._topic, p, self._start) for p in bounds]
        found = consumer.offsets_for_times(wanted, timeout=PATIENCE)
        return {one.partition: one.offset if one.offset >= 0 else bounds[one.partition][1] for one in found}

    def _problem(self, error: KafkaError | None) -> LooplineError:
        if self._consumer is not None:
            self._consumer.poll(0)  # has it say what it has heard of the brokers: more than that nothing came in time
        errors = self._kafka.KafkaError
        if error is None or (error.code() in (errors._TRANSPORT, errors._TIMED_OUT) and self._said is not None):
            error = self._said
        return problem(self._address, error)


def _names(address: str, metadata: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in metadata.split(","))))
    for name in names:
        if name not in _METADATA:
            raise Invalid(
                f"{address} has no metadata {name!r}.",
                code="bad-option",
                hint=did_you_mean(name, _METADATA),
            )
    return names


def _moment(address: str, text: str) -> int:
    """A time as milliseconds; without a zone it is UTC."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as e:
        raise Invalid(
            f"{address} cannot be read from {text!r} on.",
            code="bad-option",
            hint="Give earliest, latest, or a time like 2026-03-01T00:00:00Z.",
        ) from e
    return int((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def _key(key: str | bytes | None) -> str | None:
    if key is None or isinstance(key, str):
        return key
    try:
        return text_of(key)
    except ValueError as e:
        raise ValueError(f"of its key: {e}") from e


def _time(stamp: tuple[int, int]) -> datetime.datetime | None:
    kind, milliseconds = stamp
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC) if kind else None
