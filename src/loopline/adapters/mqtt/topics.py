"""Topics of an MQTT broker as a source of rows.

The broker keeps what comes under the topics (QoS 1, a session without an end). A reading brings all that it kept to a spool on this
disk, acknowledges it, and gives it from there: so each message is a row once, from the subscription on for as long as the broker
keeps the session. Where the broker forgot it, that is told.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from loopline.adapters.mqtt.address import reached
from loopline.adapters.mqtt.session import Session, join, keep
from loopline.adapters.mqtt.spool import Spool
from loopline.errors import Invalid, LooplineError, NotFound, did_you_mean
from loopline.ports.messages import JsonLines, Messages, Texts
from loopline.ports.source import Piece, Position

_FORMATS = ("json", "text")
_VALUE = "value"
_BATCH = 4 << 20  # bytes that are held until they are on the disk
_QUOTA = 256 << 20
_LONGEST = 60.0  # seconds, where messages come faster than they are brought here


class MqttTopics:
    """The messages under a filter of topics: `mqtt://host[:port]/ward/+/temperature`, `mqtts://...` by TLS.

    `format` is "json" (objects; a single value is the column `value`) or "text". Beside each stand `_topic` and `_time`, when it
    came. `kept` is a folder for these topics of this dataset alone, and must not be lost: what is there is nowhere else.
    Raises `Invalid`; nothing is read yet.
    """

    def __init__(
        self,
        address: str,
        scratch: Path,
        kept: Path,
        *,
        format: str = "json",
        username: str = "",
        password: str = "",
        ca: str = "",
        certificate: str = "",
        key: str = "",
    ) -> None:
        self._reached = reached(address, username=username, password=password, ca=ca, certificate=certificate, key=key)
        if format not in _FORMATS:
            raise Invalid(
                f"{address} has no messages of the format {format!r}.",
                code="bad-option",
                hint=did_you_mean(format, _FORMATS),
            )
        self._address, self._topics, self._format = address, self._reached.topics, format
        self._scratch, self._kept = scratch, kept
        self._spool: Spool | None = None

    @property
    def name(self) -> str:
        """The address: the broker and the topics."""
        return self._address

    @property
    def grows(self) -> bool:
        """Always: what comes later goes behind."""
        return True

    @property
    def once(self) -> bool:
        """Always: a broker keeps what comes until it is taken."""
        return True

    def read(self, after: Position | None) -> Iterator[Piece]:
        """Pieces of the spool, once all that the broker has is there, or 256 MiB, or a minute has passed.

        Raises `NotFound` (code "nothing-yet") when it has subscribed and nothing has come yet; the errors of `Session` and `Spool`,
        those of the broker behind the pieces that are here.
        """
        position = after or {}
        taken, problem = int(position.get("taken", 0)), None
        spool = self._opened(str(position.get("client", "")), taken)
        try:
            self._collect(spool)
        except LooplineError as e:
            problem = e
        with tempfile.TemporaryDirectory(prefix="mqtt-", dir=self._scratch) as folder:
            yield from self._pieces(spool, taken, Path(folder))
        if problem is not None:
            raise problem
        if not spool.last:
            raise NotFound(
                f"Nothing has come from {self._address} yet.",
                code="nothing-yet",
                hint="The broker keeps from now on what comes: read again then.",
            )

    def done(self, position: Position) -> None:
        """Lets go of what the spool has up to there."""
        taken = int(position["taken"])
        self._opened(str(position["client"]), taken).forget(taken)

    def close(self) -> None:
        """Closes the spool."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _opened(self, client: str, taken: int) -> Spool:
        if self._spool is None:
            self._spool = Spool(self._kept, client=client, taken=taken)
        return self._spool

    def _collect(self, spool: Spool) -> None:
        """Brings what the broker has to the disk, and acknowledges it there."""
        if spool.size >= _QUOTA:
            return
        session = Session(self._reached, spool.client)
        try:
            join(spool, session)
            self._drain(spool, session)
        finally:
            session.close()

    def _drain(self, spool: Spool, session: Session) -> None:
        """Until nothing is left or it is enough; what is on its way then was not acknowledged, and comes again."""
        ends = time.monotonic() + _LONGEST
        kept = 1
        while kept:
            fence, kept = session.fence(), 0
            while not session.passed(fence):
                late = time.monotonic() >= ends
                if late or session.size >= _BATCH:
                    kept += keep(spool, session, settled=False)
                    if late or spool.size >= _QUOTA:
                        return
            kept += keep(spool, session, settled=not kept)
            if time.monotonic() >= ends or spool.size >= _QUOTA:
                return

    def _pieces(self, spool: Spool, taken: int, folder: Path) -> Iterator[Piece]:
        messages = Messages(JsonLines(folder, _VALUE) if self._format == "json" else Texts(_VALUE))
        first = number = taken
        for number, message in spool.behind(taken):
            place = f"message {number}{f', {message.topic}' if message.topic else ''}"
            if message.topic:
                beside = {
                    "_topic": message.topic,
                    "_time": datetime.datetime.fromtimestamp(message.time / 1000, datetime.UTC),
                }
                messages.add(place, message.payload, beside)
            else:
                messages.refuse(place, message.payload.decode())
            if messages.full:
                yield self._piece(messages, spool, first, number)
                first = number
        if not messages.empty:
            yield self._piece(messages, spool, first, number)

    def _piece(self, messages: Messages, spool: Spool, first: int, number: int) -> Piece:
        name = f"{self._topics}, messages {first + 1} to {number}"
        return messages.piece(name, {"client": spool.client, "taken": number})
