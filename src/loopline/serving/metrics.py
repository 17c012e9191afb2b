"""The worker's counters and their Prometheus text. Label values come from the routing table, so there are few of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopline.failpoints import failpoint

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram's buckets, in seconds."""


ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
"""Upper bounds of the buckets of a batch's rows."""

Counted = tuple[str, str, str]
"""(endpoint, variant, version of its model); the last two empty where nothing was scored, "several" and empty for a mixed answer"""


class Counters(msgspec.Struct):
    """What one worker has counted since it started. Keys are label values."""

    requests: dict[tuple[Counted, int], int] = {}
    """(who, status)"""
    rows: dict[Counted, int] = {}
    latency: dict[Counted, list[int]] = {}
    """one count a bucket, the last for what is slower than all bounds"""
    seconds: dict[Counted, float] = {}
    failed_seconds: dict[Counted, float] = {}
    """The part of `seconds` that went into requests not answered with 200."""
    last: dict[Counted, int] = {}
    """When the last request was answered with 200, in milliseconds since 1970 UTC"""
    batches: dict[Counted, int] = {}
    """Runs of the model; where endpoints share one, by whoever was first of the batch. So is `model_seconds`."""
    model_seconds: dict[Counted, float] = {}
    batch_rows: dict[Counted, list[int]] = {}
    """Of `batches`: one count a bucket of `ROWS`, the last two for what is larger than all bounds and for the rows in sum"""
    errors: dict[tuple[str, str], int] = {}
    """(endpoint, code of the error)"""
    unknown: dict[tuple[str, str], int] = {}
    """(endpoint, column)"""
    shadow: dict[tuple[str, str, str], int] = {}
    """(endpoint, variant, "scored" | "dropped" | "failed")"""
    invalid: dict[Counted, int] = {}
    """outputs that are not finite"""
    runtimes: dict[Counted, str] = {}
    """What computes each variant of the table in force, which is one for all workers"""
    log_errors: int = 0
    log_bytes: int = 0
    in_flight: int = 0
    waiting: int = 0
    """Batches that wait for a model in a thread or process of its own"""
    epoch: int = 0

    def answered(self, who: Counted, status: int, seconds: float, rows: int, now: int) -> None:
        """Counts one request."""
        key = (who, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        buckets = self.latency.get(who)
        if buckets is None:
            buckets = self.latency[who] = [0] * (len(BOUNDS) + 1)
            self.seconds[who] = self.failed_seconds[who] = 0.0
            self.rows[who] = self.last[who] = 0
        buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[who] += seconds
        if status == 200:
            self.rows[who] += rows
            self.last[who] = now
        else:
            self.failed_seconds[who] += seconds

    def refused(self, endpoint: str, code: str) -> None:
        """Counts one error."""
        self.errors[endpoint, code] = self.errors.get((endpoint, code), 0) + 1

    def ran(self, who: Counted, seconds: float, rows: int) -> None:
        """Counts one run of a model."""
        sizes = self.batch_rows.get(who)
        if sizes is None:
            sizes = self.batch_rows[who] = [0] * (len(ROWS) + 2)
        sizes[bisect_left(ROWS, rows)] += 1
        sizes[-1] += rows
        self.batches[who] = self.batches.get(who, 0) + 1
        self.model_seconds[who] = self.model_seconds.get(who, 0.0) + seconds

    def add(self, other: Counters) -> None:
        """Adds another worker's counts to these."""
        _add(self.requests, other.requests)
        _add(self.rows, other.rows)
        _add(self.seconds, other.seconds)
        _add(self.unknown, other.unknown)
        _add(self.shadow, other.shadow)
        _add(self.invalid, other.invalid)
        _add(self.failed_seconds, other.failed_seconds)
        _add(self.batches, other.batches)
        _add(self.model_seconds, other.model_seconds)
        _add(self.errors, other.errors)
        for mine, theirs in ((self.latency, other.latency), (self.batch_rows, other.batch_rows)):
            for who, buckets in theirs.items():
                own = mine.setdefault(who, [0] * len(buckets))
                mine[who] = [a + b for a, b in zip(own, buckets, strict=True)]
        for who, at in other.last.items():
            self.last[who] = max(at, self.last.get(who, 0))
        self.log_errors += other.log_errors
        self.log_bytes += other.log_bytes
        self.in_flight += other.in_flight
        self.waiting += other.waiting
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
        f"loopline_requests_total{_who(who, status=str(status))} {n}"
        for (who, status), n in sorted(counters.requests.items())
    )
    family("loopline_errors_total", "counter", "Requests refused or failed, by the code of the error.")
    lines.extend(
        f"loopline_errors_total{_labels(endpoint=e, code=code)} {n}" for (e, code), n in sorted(counters.errors.items())
    )
    family("loopline_request_seconds", "histogram", "Time from a request's last byte to its answer.")
    for who, buckets in sorted(counters.latency.items()):
        lines += _histogram("loopline_request_seconds", who, BOUNDS, buckets, counters.seconds[who])
    family("loopline_batch_rows", "histogram", "Rows of one run of a model.")
    for who, (*buckets, rows) in sorted(counters.batch_rows.items()):
        lines += _histogram("loopline_batch_rows", who, ROWS, buckets, rows)
    counts: tuple[tuple[str, str, Mapping[Counted, float]], ...] = (
        ("loopline_rows_total", "Rows scored.", counters.rows),
        ("loopline_invalid_outputs_total", "Rows whose output was not finite.", counters.invalid),
        ("loopline_batches_total", "Runs of a model (each scores all rows of one turn).", counters.batches),
        ("loopline_model_seconds_total", "Time in runs of a model.", counters.model_seconds),
    )
    for name, about, pairs in counts:
        family(name, "counter", about)
        lines.extend(f"{name}{_who(who)} {n!r}" for who, n in sorted(pairs.items()))
    family(
        "loopline_model_info", "gauge", "What computes a variant's model: onnx, or a library in a process of its own."
    )
    lines.extend(
        f"loopline_model_info{_who(who, runtime=runtime)} 1" for who, runtime in sorted(counters.runtimes.items())
    )
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
        ("loopline_in_flight", "gauge", "Requests being answered.", counters.in_flight),
        ("loopline_waiting_batches", "gauge", "Batches that wait for a slow model.", counters.waiting),
        ("loopline_route_epoch", "gauge", "Epoch of the routing table in force.", counters.epoch),
        ("loopline_workers", "gauge", "Worker processes counted here.", workers),
    ):
        family(name, kind, about)
        lines.append(f"{name} {value}")
    return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, who: Counted, bounds: Sequence[float], buckets: Sequence[int], total: float) -> list[str]:
    lines, below = [], 0
    for bound, n in zip((*map(repr, bounds), "+Inf"), buckets, strict=True):
        below += n
        lines.append(f"{name}_bucket{_who(who, le=bound)} {below}")
    return [*lines, f"{name}_sum{_who(who)} {total!r}", f"{name}_count{_who(who)} {below}"]


def _who(who: Counted, **labels: str) -> str:
    endpoint, variant, version = who
    return _labels(endpoint=endpoint, variant=variant, version=version, **labels)


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
