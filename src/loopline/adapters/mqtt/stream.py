"""Topics of an MQTT broker as a stream: what comes is brought to a spool and acknowledged; what goes is sent with QoS 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.adapters.mqtt.address import Reached, reached
from loopline.adapters.mqtt.session import Session, join, keep
from loopline.adapters.mqtt.spool import Message, Spool
from loopline.errors import Invalid, MissingExtra, Refused, Unavailable
from loopline.ports.files import write_whole
from loopline.ports.stream import Came, Sent, Trace

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

_MOST_BYTES = 16 << 20
_PATIENCE = 15.0  # seconds without a word of the broker
_ON_THE_WAY = 500  # messages that are sent before one is acknowledged
_NOT_ALLOWED = 0x87
_TOO_MUCH = 0x97  # a quota: it is tried again


class _Position(msgspec.Struct, frozen=True):
    client: str
    answered: int


class MqttInflow:
    """The messages of `mqtt://host[:port]/filter`, by a session without an end under a name of its own.

    `kept` is a folder for these topics and this purpose alone: a message that is acknowledged and not answered is nowhere else.
    Raises `Invalid`, `MissingExtra`, `Conflict` (another process has the folder), and the errors of `Session`.
    """

    def __init__(self, address: str, kept: Path, **options: str) -> None:
        self._at = reached(address, **options)
        self._position = kept / "answered.json"
        try:
            known = msgspec.json.decode(self._position.read_bytes(), type=_Position)
        except FileNotFoundError:
            known = _Position("", 0)
        self._spool = Spool(kept, client=known.client, taken=known.answered)
        self._given = known.answered
        """The number of the last message that was given."""
        self._fence: int | None = None
        self._since = 0
        """Messages that came since the fence was set."""
        try:
            self._session = Session(self._at, self._spool.client)
            try:
                join(self._spool, self._session)
            except BaseException:
                self._session.close()
                raise
        except BaseException:
            self._spool.close()
            raise
        self._kept: Iterator[tuple[int, Message]] = self._spool.behind(self._given)

    @property
    def name(self) -> str:
        """The address: the broker and the topics."""
        return self._at.address

    @property
    def trouble(self) -> str:
        """Nothing: where the broker is away, `take` says so."""
        return ""

    @property
    def waiting(self) -> int | None:
        """Messages of the spool that were not given yet; what waits at the broker, nobody says."""
        return self._spool.last - self._given

    def take(self, most: int, wait: float) -> list[Came]:
        """What came, within `wait` seconds; at most 16 MiB of it. Raises `Unavailable` where the broker is gone."""
        found = self._from_spool(most)
        if not found:
            self._receive(wait)
            found = self._from_spool(most)
        return found

    def _from_spool(self, most: int) -> list[Came]:
        found: list[Came] = []
        size = 0
        for number, message in self._kept:
            self._given = number
            place = {"topic": message.topic, "number": number}
            id = f"{self._spool.client}/{number}"
            if message.topic:
                found.append(Came(id, place, message.payload, trace=Trace(*message.trace)))
            else:
                found.append(Came(f"{id}-lost", {"number": number}, None, lost=message.payload.decode()))
            size += len(message.payload)
            if len(found) >= most or size >= _MOST_BYTES:
                return found
        self._kept = self._spool.behind(self._given)  # what comes later is behind
        return found

    def _receive(self, wait: float) -> None:
        """Brings what comes to the disk, and acknowledges it there; now and then has the broker say that it heard that."""
        self._session.listen(wait)
        passed = self._fence is not None and self._session.is_passed(self._fence)
        came = keep(self._spool, self._session, settled=passed and not self._since)
        self._since += came
        if passed:
            self._fence = None
        if self._fence is None and self._spool.unsettled:
            self._fence, self._since = self._session.fence(), 0

    def answered(self) -> None:
        """Puts on record how far all is answered, and lets go of it."""
        write_whole(self._position, msgspec.json.encode(_Position(self._spool.client, self._given)), mode=0o600)
        self._spool.forget(self._given)

    def close(self) -> None:
        """Leaves; the broker keeps what comes."""
        self._session.close()
        self._spool.close()


class MqttOutflow:
    """Publishes to `mqtt://host[:port]/topic` with QoS 1: a message is there when the broker has acknowledged it.

    Raises `Invalid`, `MissingExtra`, `Refused` and `Unavailable`.
    """

    def __init__(self, address: str, **options: str) -> None:
        self._at: Reached = reached(address, **options)
        if {"+", "#"} & set(self._at.topics):
            raise Invalid(
                f"{address} names several topics.", code="bad-source", hint="Answers go to one: leave out + and #."
            )
        try:
            import paho.mqtt.client as mqtt
        except ImportError as e:
            raise MissingExtra("Topics of MQTT need paho-mqtt.", extra="mqtt") from e
        self._mqtt = mqtt
        self._largest = 0
        self._said = ""
        self._connected = False
        self._denied: Any = None
        self._acknowledged: dict[int, Any] = {}
        self._client: mqtt.Client | None = None
        self._connect()

    @property
    def name(self) -> str:
        """The address: the broker and the topic."""
        return self._at.address

    @property
    def trouble(self) -> str:
        """Why the broker is not reached, where it is not."""
        return self._said

    def put(self, messages: Sequence[Sent], stopped: Callable[[], bool]) -> dict[str, str]:
        """Publishes messages, with ids (the user property `id`) and traces; gives those that are larger than the broker takes."""
        refused: dict[str, str] = {}
        left = list(messages)
        while left:
            try:
                left = self._publish(left, refused, stopped)
            except Unavailable as e:
                self._said = str(e)
                self._leave()
            if left and stopped():
                raise self._away(self._said or "it does not acknowledge")
            if left:
                time.sleep(0.2)
        self._said = ""
        return refused

    def _publish(self, messages: list[Sent], refused: dict[str, str], stopped: Callable[[], bool]) -> list[Sent]:
        """Publishes messages, some at a time; gives those that are not acknowledged."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        client = self._connect()
        left: list[Sent] = []
        for start in range(0, len(messages), _ON_THE_WAY):
            sent: dict[int, Sent] = {}
            for message in messages[start : start + _ON_THE_WAY]:
                beside = [("id", message.id), *message.trace.pairs()]
                size = len(message.content) + sum(8 + len(name) + len(value.encode()) for name, value in beside)
                if self._largest and size + len(self._at.topics) + 64 > self._largest:
                    refused[message.id] = f"the broker takes no message over {self._largest:,} bytes"
                    continue
                told: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                told.UserProperty = beside
                told.ContentType = "application/json"
                sent[client.publish(self._at.topics, message.content, qos=1, properties=told).mid] = message
                heard = time.monotonic()
            while not sent.keys() <= self._acknowledged.keys():
                before = len(self._acknowledged)
                if client.loop(0.2) != self._mqtt.MQTT_ERR_SUCCESS:
                    raise self._away(self._said or "it hung up")
                if len(self._acknowledged) > before:
                    heard = time.monotonic()
                if time.monotonic() - heard > _PATIENCE or stopped():
                    raise self._away("it does not acknowledge")
            for number, message in sent.items():
                reason = self._acknowledged.pop(number)
                if reason.value == _NOT_ALLOWED:
                    raise Refused(
                        f"{self._at.address} may not be written: the broker says {reason}.",
                        code="foreign-refusal",
                        hint="Have its owner allow it.",
                    )
                if reason.value == _TOO_MUCH:
                    self._said = f"the broker says {reason}"
                    left.append(message)
                elif reason.is_failure:
                    refused[message.id] = f"the broker says {reason}"
        return left

    def _connect(self) -> mqtt.Client:
        """The connection; made where there is none."""
        if self._client is not None:
            return self._client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = self._mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = _PATIENCE
        client.max_inflight_messages_set(0)
        if self._at.user or self._at.password:
            client.username_pw_set(self._at.user, self._at.password or None)
        if self._at.tls is not None:
            client.tls_set_context(self._at.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._connected, self._denied, self._acknowledged = False, None, {}
        try:
            client.connect(self._at.host, self._at.port, clean_start=True)
        except (OSError, ValueError) as e:
            raise self._away(e) from e
        deadline = time.monotonic() + _PATIENCE
        while not self._connected:
            going_on = client.loop(0.2) == self._mqtt.MQTT_ERR_SUCCESS
            if self._denied is not None:
                raise Refused(
                    f"{self._at.address} lets nobody in so: {self._denied}.",
                    code="foreign-refusal",
                    hint="Give username=... and password='${NAME}' as its owner says.",
                )
            if not going_on or time.monotonic() > deadline:
                raise self._away(self._said or "it says nothing")
        self._client = client
        return client

    def _leave(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client = None

    def close(self) -> None:
        """Leaves."""
        self._leave()

    def _away(self, why: object) -> Unavailable:
        return Unavailable(
            f"{self._at.address} does not answer: {why}.",
            code="source-away",
            hint="Begin again when it does: it goes on there.",
        )

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure and reason.value in (0x86, 0x87, 0x8A, 0x8C):
            self._denied = reason
        elif reason.is_failure:
            self._said = str(reason)
        else:
            self._connected = True
            self._largest = getattr(properties, "MaximumPacketSize", 0)

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._said = self._said or str(reason)

    def _on_publish(self, client: mqtt.Client, data: Any, number: int, reason: Any, properties: Any) -> None:
        self._acknowledged[number] = reason
