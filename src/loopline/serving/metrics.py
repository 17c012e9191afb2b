"""The worker's counters and their Prometheus text. Label values come from the routing table, so there are few of them."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

import msgspec

from loopline.failpoints import failpoint

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram's buckets, in seconds."""


class Counters(msgspec.Struct):
    """What one worker has counted since it started. Keys are label values."""

    requests: dict[tuple[str, str, int], int] = {}
    """(endpoint, variant, status)"""
    rows: dict[tuple[str, str], int] = {}
    """(endpoint, variant)"""
    latency: dict[tuple[str, str], list[int]] = {}
    """(endpoint, variant) -> one count a bucket, the last for what is slower than all bounds"""
    seconds: dict[tuple[str, str], float] = {}
    unknown: dict[tuple[str, str], int] = {}
    """(endpoint, column)"""
    shadow: dict[tuple[str, str, str], int] = {}
    """(endpoint, variant, "scored" | "dropped" | "failed")"""
    invalid: dict[tuple[str, str], int] = {}
    """(endpoint, variant): outputs that are not finite"""
    log_errors: int = 0
    log_bytes: int = 0
    batches: int = 0
    in_flight: int = 0
    epoch: int = 0

    def answered(self, endpoint: str, variant: str, status: int, seconds: float, rows: int) -> None:
        """Counts one request."""
        key = (endpoint, variant, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        pair = (endpoint, variant)
        buckets = self.latency.get(pair)
        if buckets is None:
            buckets = self.latency[pair] = [0] * (len(BOUNDS) + 1)
            self.seconds[pair] = 0.0
            self.rows[pair] = 0
        buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[pair] += seconds
        self.rows[pair] += rows

    def add(self, other: Counters) -> None:
        """Adds another worker's counts to these."""
        _add(self.requests, other.requests)
        _add(self.rows, other.rows)
        _add(self.seconds, other.seconds)
        _add(self.unknown, other.unknown)
        _add(self.shadow, other.shadow)
        _add(self.invalid, other.invalid)
        for pair, buckets in other.latency.items():
            own = self.latency.setdefault(pair, [0] * len(buckets))
            self.latency[pair] = [a + b for a, b in zip(own, buckets, strict=True)]
        self.log_errors += other.log_errors
        self.log_bytes += other.log_bytes
        self.batches += other.batches
        self.in_flight += other.in_flight
        self.epoch = min(self.epoch, other.epoch)


def _add(mine: dict[Any, Any], theirs: dict[Any, Any]) -> None:
    for key, value in theirs.items():
        mine[key] = mine.get(key, 0) + value


def text(counters: Counters, workers: int = 1) -> bytes:
    """The Prometheus text exposition (version 0.0.4) of some counters."""
    lines: list[str] = []

    def family(name: str, kind: str, about: str) -> None:
        lines.append(f"# HELP {name} {about}\n# TYPE {name} {kind}")

    family("loopline_requests_total", "counter", "Requests answered, by status.")
    lines.extend(
        f"loopline_requests_total{_labels(endpoint=e, variant=v, status=str(s))} {n}"
        for (e, v, s), n in sorted(counters.requests.items())
    )
    family("loopline_request_seconds", "histogram", "Time from a request's last byte to its answer.")
    for (e, v), buckets in sorted(counters.latency.items()):
        total = 0
        for bound, n in zip((*map(repr, BOUNDS), "+Inf"), buckets, strict=True):
            total += n
            lines.append(f"loopline_request_seconds_bucket{_labels(endpoint=e, variant=v, le=bound)} {total}")
        lines.append(f"loopline_request_seconds_sum{_labels(endpoint=e, variant=v)} {counters.seconds[e, v]!r}")
        lines.append(f"loopline_request_seconds_count{_labels(endpoint=e, variant=v)} {total}")
    for name, about, pairs in (
        ("loopline_rows_total", "Rows scored.", counters.rows),
        ("loopline_invalid_outputs_total", "Rows whose output was not finite.", counters.invalid),
    ):
        family(name, "counter", about)
        lines.extend(f"{name}{_labels(endpoint=e, variant=v)} {n}" for (e, v), n in sorted(pairs.items()))
    family("loopline_unknown_categories_total", "counter", "Values of a category column not seen in training.")
    lines.extend(
        f"loopline_unknown_categories_total{_labels(endpoint=e, column=c)} {n}"
        for (e, c), n in sorted(counters.unknown.items())
    )
    family("loopline_shadow_total", "counter", "Requests copied to shadow variants, by what came of the copy.")
    lines.extend(
        f"loopline_shadow_total{_labels(endpoint=e, variant=v, result=r)} {n}"
        for (e, v, r), n in sorted(counters.shadow.items())
    )
    for name, kind, about, value in (
        ("loopline_log_errors_total", "counter", "Writes to the prediction log that failed.", counters.log_errors),
        ("loopline_log_bytes_total", "counter", "Bytes written to the prediction log.", counters.log_bytes),
        ("loopline_batches_total", "counter", "Runs of a model (each scores all rows of one turn).", counters.batches),
        ("loopline_in_flight", "gauge", "Requests being answered.", counters.in_flight),
        ("loopline_route_epoch", "gauge", "Epoch of the routing table in force.", counters.epoch),
        ("loopline_workers", "gauge", "Worker processes counted here.", workers),
    ):
        family(name, kind, about)
        lines.append(f"{name} {value}")
    return ("\n".join(lines) + "\n").encode()


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def publish(counters: Counters, folder: Path, worker: int) -> None:
    """Shows this worker's counters to the others of its port."""
    path = folder / f"{worker}.counters"
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.msgpack.encode(counters))
    failpoint("serving.metrics.before_rename")
    new.replace(path)


def gather(counters: Counters, folder: Path, worker: int) -> tuple[Counters, int]:
    """This worker's counters and the others' last published ones, added up; and how many workers that were."""
    total = msgspec.msgpack.decode(msgspec.msgpack.encode(counters), type=Counters)
    workers = 1
    for path in folder.glob("*.counters"):
        if path.stem != str(worker):
            try:
                total.add(msgspec.msgpack.decode(path.read_bytes(), type=Counters))
            except (OSError, msgspec.MsgspecError):
                continue  # replaced this moment, or of a worker that is gone
            workers += 1
    return total, workers
