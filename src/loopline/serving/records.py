"""What serving is told (the routing table) and what it leaves behind (prediction records)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.packaging.records import Opening

BUCKETS = 10_000
"""Weights are given in ten-thousandths: the live weights of an endpoint sum to this."""

KNOWN = ""
"""Stands among the endpoints for the tokens that are known, whatever they may call."""

Mode = Literal["live", "shadow"]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A model version behind an endpoint.

    `bundle` is the folder that holds it ("": it cannot be had, and its endpoint is not served), `model` its ref
    (`model:readmission@3`). `threshold` is from which probability on a row is positive, by the number of that decision (None: as it
    was packaged). A live variant answers `weight` of 10,000 buckets; a shadow one is scored after the answer is out, and only
    recorded.
    """

    name: str
    bundle: str
    model: str
    weight: int = 0
    mode: Mode = "live"
    threshold: float | None = None
    threshold_number: int = 0


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint lets pass, and what it keeps of it; by default everything.

    `unknown_category` and `out_of_range` say whether a level not seen in training, or a number outside of what training saw, is
    refused. `rate`: requests a second that one caller may send to all workers of a port together (0: any), `burst` how many of them
    at once (0: a second's worth). `probes`: different rows of one caller within a day that raise an alert (0: none does).

    Of the rows, a share of `rows_kept` goes into the prediction log (answers always do), without the `hidden` columns, and with the
    values of the `hashed` ones as keyed hashes. `days` is how long answers stay on record (0: until someone removes them).
    """

    unknown_category: Literal["accept", "refuse"] = "accept"
    out_of_range: Literal["accept", "refuse"] = "accept"
    rate: float = 0.0
    burst: int = 0
    probes: int = 0
    rows_kept: float = 1.0
    hidden: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    days: float = 0.0

    @property
    def unkept(self) -> frozenset[str]:
        """The columns whose values are not on record as they were sent."""
        return frozenset((*self.hidden, *self.hashed))


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A stable address and what stands behind it.

    The routing key of a request (header `x-loopline-route-key`, else the column `route_key`, else the request's own id) is
    hashed with `salt` into one of 10,000 buckets. `passthrough` are columns that callers may send and no model reads: they
    are kept in the prediction log for grouping. `optional` are columns that models read and callers may leave out.
    """

    name: str
    variants: tuple[Variant, ...]
    salt: str = ""
    route_key: str | None = None
    passthrough: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    policy: Policy = Policy()


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints at one moment. A table with a higher epoch replaces it as a whole; rolling back is a new epoch too."""

    epoch: int
    endpoints: dict[str, Endpoint] = {}
    idle: tuple[str, ...] = ()
    """Models that could be loaded on request, and are not."""


class ControlMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the control process tells its workers: the table, and who may call which endpoint.

    `tokens` maps an endpoint (or `*`) to the SHA-256 hex digests of the bearer tokens that may call it, and `KNOWN` to those of
    tokens that may perhaps call nothing.
    """

    table: RouteTable
    tokens: dict[str, tuple[str, ...]] = {}


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker process is told at its start. Sizes are in bytes, times in seconds."""

    worker: int = 0
    state: str
    """File with the last `ControlMessage` (JSON, mode 0600)."""
    log: str
    """Folder of the prediction log's segments."""
    control: str = ""
    """Unix socket of the control process; empty: this worker stands alone."""
    incoming: str = ""
    """Folder in which large bodies become files that the control process takes; empty: they are streamed to it."""
    metrics: str = ""
    """Folder in which the workers of one port show each other their counters; empty: a worker reports only its own."""
    limits: str = ""
    """File in which the workers of one port count how often callers ask; empty: a worker counts alone."""
    allowed_hosts: tuple[str, ...] = ()
    open: bool = False
    """Whether whoever reaches this server may call, without a token."""
    tls_cert: str = ""
    tls_key: str = ""
    """PEM files of a certificate and its key; empty: no TLS."""
    grpc: tuple[str, int] | None = None
    """Address and port on which gRPC is answered, too."""
    body_limit: int = 16 << 20
    forward_limit: int = 1 << 30
    row_limit: int = 10_000
    in_flight_limit: int = 1024
    shadow_limit: int = 256
    drain: float = 30.0
    sync: Literal["off", "interval", "always"] = "off"
    sync_interval: float = 1.0
    segment_bytes: int = 64 << 20
    segment_age: float = 300.0
    disk_full: Literal["answer", "refuse"] = "answer"
    repository: bool = False
    """Whether models are loaded and unloaded where a caller asks for it."""
    trace_to: str = ""
    """Where OTLP over HTTP is taken; empty: nothing is traced."""
    trace_share: float = 0.01
    """Which part of the requests is traced that no caller traces."""
    opening: Opening = Opening()
    """How bundles are opened: whom to trust, and what a model's process may take."""


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction of the log, or one refused request (`status` >= 400: no row, no output, `error` is its code).

    `id` is the prediction's own; `request` is shared by the rows of one request. `row` holds the raw values as they were
    sent, nested objects under dotted names; `output` what was answered: the label with its probability and those of all classes,
    or the value (regression). A shadow record has the live prediction's id and no row. `propensity` is the chance with which the
    routing table gave this variant. `caller` is the beginning of the digest of the caller's token (empty: this user on this
    machine; `stream`: a stream that is scored). `time_ms` is when the request's tick began, in milliseconds since 1970 UTC.
    """

    id: str
    request: str
    time_ms: int
    endpoint: str
    model: str
    variant: str
    mode: Mode = "live"
    propensity: float = 1.0
    route_key: str | None = None
    row: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    latency_us: int = 0
    status: int = 200
    error: str = ""
    caller: str = ""
