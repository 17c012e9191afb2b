"""A topic of Kafka as a stream: read by the members of a consumer group, and written with acknowledgement.

How far the group has read is kept by the broker, an offset a partition, which is moved when all before it is answered. Several
processes of one group share the partitions; what one leaves behind, another takes over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopline.adapters.kafka.cluster import PATIENCE, library, parsed, problem, secured
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.ports.stream import Came, Sent, trace_of

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

_MOST_BYTES = 16 << 20
"""Bytes that are taken at once, a message over."""
_STARTS = ("earliest", "latest")


class _Heard:
    """The last word of a client's own threads about what is amiss."""

    def __init__(self, kafka: Any) -> None:
        self._down = kafka.KafkaError._ALL_BROKERS_DOWN  # which tells no reason
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if self.error is None or error.code() != self._down:
            self.error = error


class KafkaInflow:
    """The messages of `kafka://host:port[,host:port]/topic`, as a member of the group `group`.

    `start` is where a group begins that has read nothing yet: "earliest" or "latest". `security` are settings of librdkafka.
    Raises `Invalid`, `MissingExtra`, and where the topic cannot be read `NotFound`, `Refused` or `Unavailable`.
    """

    def __init__(
        self, address: str, *, group: str, start: str = "earliest", security: Mapping[str, str] | None = None
    ) -> None:
        self._kafka = library()
        servers, self._topic = parsed(address)
        self._address = address
        if start not in _STARTS:
            raise Invalid(
                f"{address} cannot be read from {start!r} on.", code="bad-option", hint="Give earliest or latest."
            )
        self._end = start == "latest"
        self._heard = _Heard(self._kafka)
        settings = {
            **secured(address, security or {}),
            "bootstrap.servers": servers,
            "client.id": "loopline",
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # what is gone is told
            "isolation.level": "read_committed",
            "check.crcs": True,
            "session.timeout.ms": 6_000,  # the least that brokers let pass: of one that was killed, another takes over
            "heartbeat.interval.ms": 2_000,
            "queued.max.messages.kbytes": 32_768,
            "log_level": 0,
            "error_cb": self._heard,
        }
        try:
            self._consumer: Consumer = self._kafka.Consumer(settings)
        except self._kafka.KafkaException as e:
            raise problem(address, e.args[0]) from e
        self._next: dict[int, int] = {}
        self._began: dict[int, int] = {}
        self._came: list[Came] = []
        try:
            _check_topic(self._kafka, self._consumer, address, self._heard)
            self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
        except BaseException:
            self._consumer.close()
            raise

    @property
    def name(self) -> str:
        """The address: servers and topic."""
        return self._address

    @property
    def trouble(self) -> str:
        """What the library has heard since messages came last."""
        return self._heard.error.str() if self._heard.error is not None else ""

    @property
    def waiting(self) -> int | None:
        """Messages behind what was given, by what the brokers said last."""
        found = 0
        if not self._next:
            return None
        for p, offset in self._next.items():
            try:
                _, high = self._consumer.get_watermark_offsets(self._partition(p), cached=True)
            except self._kafka.KafkaException:
                return None
            if high < 0:
                return None
            found += max(0, high - offset)
        return found

    def take(self, most: int, wait: float) -> list[Came]:
        """What came, within `wait` seconds; at most 16 MiB of it. Raises what does not mend by itself."""
        if self._began:  # where a group begins is on record before anything else is
            began, self._began = self._began, {}
            self._commit(began)
        size, until = 0, time.monotonic() + wait
        came = self._came
        while len(came) < most and size < _MOST_BYTES:
            left = 0.0 if came else max(0.0, until - time.monotonic())
            try:
                message = self._consumer.poll(left)
            except self._kafka.KafkaException as e:
                raise problem(self._address, e.args[0]) from e
            if message is None:
                if came or time.monotonic() >= until:
                    break
                continue
            if (error := message.error()) is not None:
                self._fails(message, error)
                continue
            self._heard.error = None
            p, offset = message.partition(), message.offset()
            assert p is not None
            assert offset is not None
            if p not in self._next:  # taken away while it was on its way
                continue
            content = message.value()
            came.append(
                Came(
                    # With its time, since a topic that is made anew has the same offsets.
                    f"{self._topic}/{p}/{offset}-{message.timestamp()[1]}",
                    {"topic": self._topic, "partition": p, "offset": offset},
                    None if content is None else bytes(content),
                    _bytes(message.key()),
                    trace=trace_of(dict(message.headers() or ()).items()),
                )
            )
            self._next[p] = offset + 1
            size += len(content or b"")
        self._came = []
        return came

    def answered(self) -> None:
        """Moves the group's offsets. A partition that another member has by now is that one's: it answers again what is behind."""
        self._commit(self._next)

    def _commit(self, reached: Mapping[int, int]) -> None:
        offsets = [self._partition(p, offset) for p, offset in reached.items()]
        if not offsets:
            return
        errors = self._kafka.KafkaError
        elsewhere = (
            errors.ILLEGAL_GENERATION, errors.UNKNOWN_MEMBER_ID, errors.REBALANCE_IN_PROGRESS, errors._STATE, errors._NO_OFFSET,
            errors.FENCED_INSTANCE_ID,
        )  # fmt: skip
        away = (errors._TRANSPORT, errors._TIMED_OUT, errors._WAIT_COORD, errors.COORDINATOR_NOT_AVAILABLE,
                errors.NOT_COORDINATOR, errors.COORDINATOR_LOAD_IN_PROGRESS, errors.REQUEST_TIMED_OUT)  # fmt: skip
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as e:
            error = e.args[0]
            if error.code() in away:
                self._heard(error)  # the next one moves them further
            elif error.code() not in elsewhere:
                raise problem(self._address, error) from e

    def close(self) -> None:
        """Leaves the group, which shares the partitions anew at once."""
        self._consumer.close()

    def _partition(self, p: int, offset: int | None = None) -> TopicPartition:
        found: TopicPartition = self._kafka.TopicPartition(self._topic, p, *([] if offset is None else [offset]))
        return found

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Goes on where the group was, in each partition that came to this member."""
        for one in consumer.committed(partitions, timeout=PATIENCE):
            low, high = consumer.get_watermark_offsets(one, timeout=PATIENCE)
            offset = one.offset
            if offset < 0:
                offset = self._began[one.partition] = high if self._end else low
            elif offset > high:
                raise Conflict(
                    f"{self._address} is not the topic that was read: partition {one.partition} ends at {high}, and was read up "
                    f"to {offset}.",
                    code="source-changed",
                    hint="Read the new topic as another group: --option group=NAME.",
                )
            elif offset < low:
                self._lost(one.partition, offset, low)
                offset = low
            self._next[one.partition] = offset
        consumer.assign([self._partition(one.partition, self._next[one.partition]) for one in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """What another member has from now on: what was given of it is answered here, and there again."""
        for one in partitions:
            self._next.pop(one.partition, None)
            self._began.pop(one.partition, None)
        consumer.unassign()

    def _fails(self, message: Message, error: KafkaError) -> None:
        """Passes over what the library mends by itself; raises what it does not."""
        errors = self._kafka.KafkaError
        p = message.partition()
        if error.code() == errors._AUTO_OFFSET_RESET and p in self._next:  # deleted before it was read
            assert p is not None
            low, _ = self._consumer.get_watermark_offsets(self._partition(p), timeout=PATIENCE)
            if low > self._next[p]:
                self._lost(p, self._next[p], low)
                self._next[p] = low
            self._consumer.seek(self._partition(p, self._next[p]))
            return
        found = problem(self._address, error)
        if not isinstance(found, Unavailable) or error.fatal():
            raise found
        self._heard(error)

    def _lost(self, p: int, offset: int, low: int) -> None:
        self._came.append(
            Came(
                f"{self._topic}/{p}/{offset}-{low - 1}-lost",
                {"topic": self._topic, "partition": p, "offset": offset},
                None,
                lost=f"the broker deleted the offsets {offset} to {low - 1} before they were read",
            )
        )


class KafkaOutflow:
    """Writes to `kafka://host:port[,host:port]/topic`; each message is acknowledged by all in-sync replicas of its partition.

    Raises as `KafkaInflow` does.
    """

    def __init__(self, address: str, *, security: Mapping[str, str] | None = None) -> None:
        self._kafka = library()
        servers, self._topic = parsed(address)
        self._address = address
        self._heard = _Heard(self._kafka)
        settings = {
            **secured(address, security or {}),
            "bootstrap.servers": servers,
            "client.id": "loopline",
            "acks": "all",
            "enable.idempotence": True,  # what the library sends again stands there once, and in order
            "delivery.timeout.ms": 0,  # for as long as it takes: who puts decides when it is enough
            "linger.ms": 1,
            "log_level": 0,
            "error_cb": self._heard,
        }
        try:
            self._producer = self._kafka.Producer(settings)
        except self._kafka.KafkaException as e:
            raise problem(address, e.args[0]) from e
        _check_topic(self._kafka, self._producer, address, self._heard)

    @property
    def name(self) -> str:
        """The address: servers and topic."""
        return self._address

    @property
    def trouble(self) -> str:
        """What the library has heard since all was sent last."""
        return self._heard.error.str() if self._heard.error is not None else ""

    def put(self, messages: Sequence[Sent], stopped: Callable[[], bool]) -> dict[str, str]:
        """Sends messages, with their ids as a header `id`, and their traces; gives what the broker never takes, for its size."""
        errors = self._kafka.KafkaError
        never = (errors.MSG_SIZE_TOO_LARGE, errors.INVALID_RECORD, errors.RECORD_LIST_TOO_LARGE)
        refused: dict[str, str] = {}
        failed: list[KafkaError] = []

        def told(id: str) -> Callable[[KafkaError | None, Message], None]:
            def tell(error: KafkaError | None, message: Message) -> None:
                if error is not None and error.code() in never:
                    refused[id] = error.str()
                elif error is not None:
                    failed.append(error)

            return tell

        for message in messages:
            while True:
                try:
                    self._producer.produce(
                        self._topic,
                        message.content,
                        message.key,
                        headers={"id": message.id.encode(), **dict(message.trace.pairs())},
                        on_delivery=told(message.id),
                    )
                    break
                except BufferError:
                    self._wait(stopped)
                except self._kafka.KafkaException as e:
                    if e.args[0].code() not in never:
                        raise problem(self._address, e.args[0]) from e
                    refused[message.id] = e.args[0].str()
                    break
        while len(self._producer):
            self._wait(stopped)
        if failed:
            raise problem(self._address, failed[0])
        self._heard.error = None
        return refused

    def _wait(self, stopped: Callable[[], bool]) -> None:
        """Lets the library send for a while. Raises `Unavailable` where it has been enough."""
        self._producer.flush(0.2)
        if len(self._producer) and stopped():
            self._producer.purge()
            raise problem(self._address, self._heard.error)

    def close(self) -> None:
        """Sends nothing more."""
        self._producer.purge()
        self._producer.flush(1.0)


def _check_topic(kafka: Any, client: Any, address: str, heard: _Heard) -> None:
    """Raises what is in the way of a topic; one that the broker makes when it is first asked for may take a moment."""
    topic = parsed(address)[1]
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            error = client.list_topics(topic, timeout=PATIENCE).topics[topic].error
        except kafka.KafkaException as e:
            client.poll(0)
            raise problem(address, heard.error or e.args[0]) from e
        if error is None:
            return
        found: LooplineError = problem(address, error)
        made = isinstance(found, Unavailable) or (
            isinstance(found, NotFound) and time.monotonic() < deadline - PATIENCE + 3
        )
        if not made or time.monotonic() >= deadline:
            raise found
        time.sleep(0.1)


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key
