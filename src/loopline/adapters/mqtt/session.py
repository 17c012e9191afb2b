"""A session with a broker, under a name for which it keeps what comes (MQTT 5).

It is driven by hand, without a thread: nothing is read from the broker while what came is brought to the disk, so a flood waits
there. Whether all that the broker had is here is found out by a fence: a request that changes nothing (the end of a subscription
that there is not), which is answered behind everything that was sent before it. A broker that answers earlier only ends the
reading earlier: the rest comes with the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from loopline.adapters.mqtt.address import Reached
from loopline.adapters.mqtt.spool import Message, Spool
from loopline.errors import Invalid, LooplineError, MissingExtra, Refused, Unavailable
from loopline.ports.stream import trace_of

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

_PATIENCE = 15.0  # seconds without a word of the broker
_FOREVER = 0xFFFFFFFF
_ON_THE_WAY = 1000  # messages that the broker sends before one is acknowledged
_TOGETHER = 0.05  # seconds in which what comes is brought to the disk at once
_MOST_BYTES = 4 << 20
_DENIED = {0x86, 0x87, 0x8A, 0x8C}
_NO_SUCH_PROTOCOL = 0x84
_CONNECTED = 0  # no packet has this number


class Delivery(NamedTuple):
    """A message as the broker sent it: `again`, where it may have been sent before; its quality of service."""

    message: Message
    again: bool
    quality: int


class Session:
    """One connection to a broker as `client`."""

    def __init__(self, at: Reached, client: str) -> None:
        try:
            import paho.mqtt.client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        except ImportError as e:
            raise MissingExtra("Topics of MQTT need paho-mqtt.", extra="mqtt") from e
        self._mqtt = mqtt
        self._address, self._host, self._port, self._topics = at.address, at.host, at.port, at.topics
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = _PATIENCE
        if at.user or at.password:
            self._client.username_pw_set(at.user, at.password or None)
        if at.tls is not None:
            self._client.tls_set_context(at.tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_answer
        self._client.on_unsubscribe = self._on_answer
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._present = False
        self._said: Any = None
        self._answered: dict[int, Any] = {}
        self._came: list[Delivery] = []
        self._heard = time.monotonic()
        self.size = 0
        """Bytes of what came and was not taken yet."""

    def connect(self) -> bool:
        """Connects; gives whether the broker still has what it kept under this name.

        Never as a clean start: such a session Mosquitto forgets where it is ended before the client has come again. Raises
        `Unavailable`, `Refused` and `Invalid`, as all that is asked of it does.
        """
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wanted: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.SessionExpiryInterval = _FOREVER
        wanted.ReceiveMaximum = _ON_THE_WAY
        try:
            self._client.connect(self._host, self._port, clean_start=False, properties=wanted)
        except (OSError, ValueError) as e:
            raise self._away(e) from e
        self._until(_CONNECTED)
        return self._present

    def subscribe(self) -> None:
        """Has the broker keep what comes under the address' topics."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        _, number = self._client.subscribe(self._topics, options=SubscribeOptions(qos=1))
        (reason,) = self._until(number)
        if reason.value == 0 or reason.value in _DENIED:
            raise Refused(
                f"{self._address} may not be read with acknowledgement: the broker says {reason}.",
                code="foreign-refusal",
                hint="Have its owner allow a subscription of these topics with QoS 1.",
            )
        if reason.is_failure:
            raise Invalid(
                f"{self._address} cannot be subscribed to: the broker says {reason}.",
                code="bad-source",
                hint="Look at its topics: + stands for one level, # for all that follow, at the end.",
            )

    def fence(self) -> int:
        """Asks what is answered behind all that the broker sends of itself; gives its number."""
        _, number = self._client.unsubscribe("loopline/fence")
        assert number is not None
        return number

    def passed(self, fence: int) -> bool:
        """Whether a fence is passed; else reads on. Raises `Unavailable` where the broker says nothing for long."""
        if self.is_passed(fence):
            return True
        self._step()
        return False

    def is_passed(self, fence: int) -> bool:
        """Whether a fence is passed, by what is read already."""
        return fence in self._answered

    def listen(self, wait: float) -> None:
        """Waits so many seconds for something to come, and reads what comes with it; of a broker with nothing to say, nothing."""
        ends = time.monotonic() + wait
        while not self._came and (left := ends - time.monotonic()) > 0:
            self._heard = time.monotonic()  # whether it is still there, the client finds out by its pings
            self._step(min(left, 1.0))
        known, ends = -1, time.monotonic() + _TOGETHER
        while len(self._came) > known and self.size < _MOST_BYTES and time.monotonic() < ends:
            known = len(self._came)
            self._step(0.0)

    def take(self) -> list[Delivery]:
        """What came since."""
        came, self._came, self.size = self._came, [], 0
        return came

    def acknowledge(self, came: Iterable[Delivery]) -> None:
        """Says to the broker that these need not come again."""
        for delivery in came:
            if delivery.quality:
                self._client.ack(delivery.message.packet, delivery.quality)

    def close(self) -> None:
        """Leaves; the broker keeps what comes."""
        self._client.disconnect()

    def _until(self, number: int | None) -> Any:
        while number not in self._answered:
            self._step()
        return self._answered[number]

    def _step(self, wait: float = 1.0) -> None:
        try:
            going_on = self._client.loop(wait) == self._mqtt.MQTT_ERR_SUCCESS
        except Exception as e:  # whatever bytes lead its reader to
            raise self._away(f"what it sends is no MQTT ({e!r})") from e
        if not going_on:
            raise self._problem()
        if time.monotonic() - self._heard > _PATIENCE:
            raise self._away("it says nothing")

    def _problem(self) -> LooplineError:
        code = self._said.value if self._said is not None else None
        if code in _DENIED:
            return Refused(
                f"{self._address} lets nobody in so: {self._said}.",
                code="foreign-refusal",
                hint="Give --option username=... and password='${NAME}' as its owner says.",
            )
        if code == _NO_SUCH_PROTOCOL:
            return Invalid(
                f"The broker of {self._address} does not speak MQTT 5.",
                code="bad-source",
                hint="Brokers do since 2019; bring it up to date, or have it bridged to one that does.",
            )
        return self._away(self._said or "it hung up")

    def _away(self, why: object) -> Unavailable:
        return Unavailable(
            f"{self._address} does not answer: {why}.",
            code="source-away",
            hint="Read again when it does: it goes on where it was.",
        )

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._heard = time.monotonic()
        self._present = flags.session_present
        if reason.is_failure:
            self._said = reason
        else:
            self._answered[_CONNECTED] = reason

    def _on_answer(self, client: mqtt.Client, data: Any, number: int, reasons: Any, properties: Any) -> None:
        self._heard = time.monotonic()
        self._answered[number] = reasons

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._said = self._said or reason

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        self._heard = time.monotonic()
        trace = trace_of(getattr(message.properties, "UserProperty", ()))
        kept = Message(message.mid, message.topic, bytes(message.payload), time.time_ns() // 1_000_000, trace)
        self._came.append(Delivery(kept, again=message.dup, quality=message.qos))
        self.size += len(kept.payload) + len(kept.topic)


def join(spool: Spool, session: Session) -> None:
    """Connects as whom the spool says, and subscribes where the broker does not keep what comes yet; that it forgot is told."""
    present = session.connect()
    if present and spool.subscribed:
        return
    if spool.subscribed:
        lost = "the broker forgot the session: what came since the last reading is lost, retained messages come again"
        spool.append([Message(0, "", lost.encode(), time.time_ns() // 1_000_000)], settled=True)
    session.subscribe()
    spool.subscribe()


def keep(spool: Spool, session: Session, *, settled: bool) -> int:
    """How many came; they are durable, then acknowledged. `settled`: the broker has all that was acknowledged before."""
    came = session.take()
    fresh = [one.message for one in came if not (one.again and spool.known(one.message))]
    settled = settled and len(fresh) == len(came)  # what came again is acknowledged again, and may come once more
    if fresh or (settled and spool.unsettled):
        spool.append(fresh, settled=settled)
    session.acknowledge(came)
    return len(came)
