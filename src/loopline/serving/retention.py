"""How long the log of models that are served alone keeps answers: as the policies of their endpoints say.

Under `loopline up` answers are put on record and go from there (`outcomes.tidying`). Here the segments themselves are the record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from loopline.failpoints import failpoint
from loopline.ports.files import TEMPORARY, write_whole
from loopline.serving.log import MAGIC, Frame, encode, is_open, read_frames, segments
from loopline.serving.records import Policy

_DAY = 86_400_000
_AT_ONCE = 4 << 20


class Retention:
    """Removes answers whose time is over from a folder of segments. Segments that are still written to are left alone."""

    def __init__(self, folder: Path, policies: Mapping[str, Policy]) -> None:
        self._folder = folder
        self._days = {name: policy.days for name, policy in policies.items() if policy.days}
        self._next: dict[str, float] = {}

    def expire(self, now: int) -> int:
        """Removes what is too old at a time (milliseconds since 1970 UTC); gives how many requests that were.

        A segment of which nothing stays is removed; another is written anew without them, whole or not at all.
        """
        gone = 0
        if not self._days:
            return gone
        for left in self._folder.glob(f"{TEMPORARY}*"):  # by one who was killed while it wrote a segment anew
            left.unlink(missing_ok=True)
        found = segments(self._folder)
        for path in found:
            begun = int(path.name.partition("-")[0])
            if now < self._next.get(path.name, begun + min(self._days.values()) * _DAY) or is_open(path):
                continue
            kept, until, dropped = self._kept(path, now)
            if not kept:
                failpoint("serving.retention.before_remove")
                path.unlink()
            elif dropped:
                write_whole(path, MAGIC + b"".join(kept), mode=0o600)
            self._next[path.name] = until
            gone += dropped
        self._next = {path.name: self._next[path.name] for path in found if path.name in self._next and path.exists()}
        return gone

    def _kept(self, path: Path, now: int) -> tuple[list[bytes], float, int]:
        """The frames that stay, until when all of them do, and how many do not."""
        kept: list[bytes] = []
        until, dropped, offset = math.inf, 0, 0
        while True:
            frames, offset = read_frames(path, offset, _AT_ONCE)
            if not frames:
                return kept, until, dropped
            for frame in frames:
                ends = self._ends(frame)
                if ends <= now:
                    dropped += 1
                else:
                    kept.append(encode(frame))
                    until = min(until, ends)

    def _ends(self, frame: Frame) -> float:
        """When a request's time is over. What was refused before it was known which endpoint is meant stays as long as any."""
        days = self._days.get(frame.endpoint, 0.0) if frame.endpoint else max(self._days.values())
        return frame.time_ms + days * _DAY if days else math.inf
