"""A replay: the rows of a table as real HTTP requests, in their order, and their labels later."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from loopline.catalog import Session
from loopline.errors import Unavailable, from_dict
from loopline.outcomes.records import Label

Row = dict[str, Any]


class Rows(Protocol):
    """Rows that can be counted and taken a slice at a time: a list, or something that makes them as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Sequence[Row]: ...


class Replay:
    """Sends rows to an endpoint over a few connections and remembers under which id each was answered.

    Of each stretch the first `single` rows go one a request, the others up to `batch` a request. Labels are sent by
    `send_labels`, as late as the caller likes.
    """

    def __init__(
        self,
        url: str,
        endpoint: str,
        rows: Rows,
        labels: Sequence[Any],
        *,
        batch: int = 64,
        connections: int = 4,
    ) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._endpoint = endpoint
        self._rows = rows
        self._labels = labels
        self._batch = batch
        self._connections = connections
        self._ids: list[str | None] = [None] * len(rows)
        self._lock = threading.Lock()
        self.sent = 0
        self.labelled = 0
        self.requests = 0
        self.single_requests = 0
        self.variants: dict[str, int] = {}

    @property
    def left(self) -> int:
        """Rows not yet sent."""
        return len(self._rows) - self.sent

    def send(self, rows: int, *, single: int = 0, told: Callable[[int], None] = lambda rows: None) -> int:
        """Sends the next rows; gives how many there were. `told` hears of each answer's rows. Raises what the server refused."""
        start, stop = self.sent, min(self.sent + rows, len(self._rows))
        cuts = [*range(start, min(start + single, stop)), *range(min(start + single, stop), stop, self._batch), stop]
        rows_now = self._rows[start:stop]
        requests = [(a, rows_now[a - start : b - start]) for a, b in itertools.pairwise(cuts)]
        failed: list[Exception] = []
        threads = [
            threading.Thread(target=self._work, args=(requests, failed, told), daemon=True)
            for _ in range(self._connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        self.sent = stop
        self.single_requests += min(single, stop - start)
        return stop - start

    def send_labels(self, session: Session, upto: int, *, at_once: int = 5000) -> int:
        """Sends the labels of the rows before `upto` that have none yet; gives how many."""
        upto = min(upto, self.sent)
        count = 0
        for start in range(self.labelled, upto, at_once):
            labels = [
                Label(prediction=prediction, value=self._labels[place])
                for place, prediction in enumerate(self._ids[start : min(start + at_once, upto)], start)
                if prediction is not None and self._labels[place] is not None
            ]
            if labels:
                session.labels.add(self._endpoint, labels)
            count += len(labels)
        self.labelled = max(self.labelled, upto)
        return count

    def _work(
        self, requests: list[tuple[int, Sequence[Row]]], failed: list[Exception], told: Callable[[int], None]
    ) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            while not failed:
                with self._lock:
                    if not requests:
                        return
                    start, rows = requests.pop(0)
                answer = self._ask(connection, rows)
                with self._lock:
                    self.requests += 1
                    for place, prediction in enumerate(answer["predictions"], start):
                        self._ids[place] = prediction["id"]
                    variant = answer["variant"]
                    self.variants[variant] = self.variants.get(variant, 0) + len(rows)
                    told(len(rows))
        except Exception as e:
            failed.append(e)
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, rows: Sequence[Row]) -> dict[str, Any]:
        body = msgspec.json.encode(rows)
        for attempt in range(5):
            connection.request(
                "POST",
                f"/predict/{self._endpoint}",
                body,
                {"Content-Type": "application/json", "Connection": "keep-alive"},
            )
            response = connection.getresponse()
            data = response.read()
            if response.status == 200:
                answer: dict[str, Any] = msgspec.json.decode(data)
                return answer
            if response.status != 503:
                break
            time.sleep(0.1 * 2**attempt)
        try:
            raise from_dict(msgspec.json.decode(data))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            said = data[:300].decode(errors="replace")
            raise Unavailable(f"The server answered {response.status}: {said}", code="bad-answer") from None
