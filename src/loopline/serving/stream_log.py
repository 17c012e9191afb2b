"""What a stream was answered, in the prediction log: one frame a message, under the id that its answer has.

It stands there as an endpoint's rows do, by that endpoint's policy, as answered by the variant `stream`: rollouts, whose variants
are drawn by lot, do not count it. A message that is answered again, after a kill, is on file again under the same id, and counts
once where the record is read.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopline.serving.bodies import Form
from loopline.serving.live import LiveEndpoint, LiveVariant
from loopline.serving.log import Frame, Part, PredictionLog, encode

logger = logging.getLogger("loopline.serving")
STREAM = "stream"
"""The variant that a stream's answers are of, and who asked for them."""
_SEGMENT, _AGE = 64 << 20, 300_000


class StreamLog:
    """The log of one stream, in a folder that others write, too. `sync` and `full` are the settings `log_sync`, `log_full`."""

    def __init__(
        self, folder: Path, *, sync: Literal["off", "interval", "always"], full: Literal["answer", "refuse"]
    ) -> None:
        self._log = PredictionLog(
            folder, 0, segment_bytes=_SEGMENT, segment_age_ms=_AGE, now=_now(), always_sync=sync == "always"
        )
        self._interval = sync == "interval"
        self._strict = full == "refuse"
        self._synced = time.monotonic()

    def write(self, frames: list[bytes]) -> str:
        """Writes frames at once; gives why that cannot be, where the stream has to wait for it, and "" else."""
        if frames:
            try:
                self._log.append(frames, _now())
            except OSError as e:
                logger.error("The prediction log cannot be written: %s", e)
                return f"the prediction log cannot be written: {e.strerror or e}" if self._strict else ""
        return ""

    def upkeep(self) -> None:
        """Syncs where a second has passed, and begins another segment where this one is old enough."""
        try:
            if self._log.due(_now()):
                self._log.rotate(_now())
            if self._interval and self._log.unsynced and time.monotonic() - self._synced >= 1.0:
                self._synced = time.monotonic()
                self._log.sync()
        except OSError as e:
            logger.error("The prediction log cannot be synced: %s", e)

    def close(self) -> None:
        """Closes the segment."""
        self._log.close()


def answered(
    endpoint: LiveEndpoint,
    variant: LiveVariant,
    said: dict[str, Any],
    row: tuple[Form, bytes],
    keys: Any,
    seconds: float,
) -> bytes:
    """The frame of an answer: `said` is id, label and probabilities, or value; `row` as it is to be kept, with its form."""
    id: str = said["id"]
    form, sent = row
    if (keeping := endpoint.keeping) is not None:
        form, sent = keeping.rows(form, sent, id)
        keys = keeping.keys(keys)
    if variant.record.threshold_number:
        said = {**said, "threshold_number": variant.record.threshold_number}
    part, latency = Part(variant.model, STREAM, "live", 1.0), int(seconds * 1e6)
    answer = b"[%s]" % msgspec.json.encode(said)
    return encode(Frame(_now(), id, endpoint.name, [part], 200, latency, form, sent, answer, keys, "", STREAM))


def refused(endpoint: LiveEndpoint, id: str, model: str, status: int, code: str, seconds: float) -> bytes:
    """The frame of a message that is not answered; `model` is empty where none was asked."""
    parts, latency = [Part(model, STREAM, "live", 1.0)] if model else [], int(seconds * 1e6)
    return encode(Frame(_now(), id, endpoint.name, parts, status, latency, "none", b"", b"", None, code, STREAM))


def _now() -> int:
    return time.time_ns() // 1_000_000
