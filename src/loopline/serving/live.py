"""What a worker serves at one moment: a routing table with its models loaded. Immutable; a new table is a new `Live`."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Container
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from loopline.errors import Invalid, LooplineError, NotFound
from loopline.features.records import Signature
from loopline.packaging.records import Opening
from loopline.serving import model as models
from loopline.serving.contract import Contract, Row
from loopline.serving.keeping import keeping
from loopline.serving.limits import Buckets
from loopline.serving.log import Part
from loopline.serving.merging import merge
from loopline.serving.model import ServedModel
from loopline.serving.problems import Problem, endpoint_down, no_endpoint, unloaded
from loopline.serving.records import BUCKETS, ControlMessage, Endpoint, RouteTable, Variant

logger = logging.getLogger("loopline.serving")
Pick = Callable[[Row], Row]


class LiveVariant:
    """A variant with its model, and the texts of its answers made ready."""

    def __init__(self, endpoint: str, record: Variant, served: ServedModel, contract: Contract) -> None:
        manifest = served.manifest
        self.record = record
        self.name = record.name
        self.model = record.model
        self.served = served
        self.signature: Signature = manifest.signature
        self.task = manifest.task
        self.version = str(manifest.version)
        self.counted = (endpoint, record.name, self.version)
        self.propensity = record.weight / BUCKETS if record.mode == "live" else 1.0
        self.part = Part(record.model, record.name, record.mode, self.propensity)
        packaged = 0.5 if manifest.threshold is None else manifest.threshold
        self.threshold = packaged if record.threshold is None else record.threshold
        self.decision: dict[str, Any] = {}
        """What answers say of the threshold, where there is one: its value, and the number of the decision (0: as packaged)."""
        if self.task == "binary":
            self.decision = {"threshold": _said(self.threshold), "threshold_number": record.threshold_number}
        self.labels = list(manifest.classes)
        self.pick = _pick(contract.names, (*manifest.numbers, *manifest.strings))
        quoted = {k: msgspec.json.encode(k).decode() for k in (endpoint, self.name, self.model, *manifest.classes)}
        decided = "".join(f',"{key}":{value:.9g}' for key, value in self.decision.items())
        self.head = (
            f'{{"endpoint":{quoted[endpoint]},"model":{quoted[self.model]},"version":{manifest.version},'
            f'"variant":{quoted[self.name]}{decided},"predictions":['
        ).encode()
        self.named = f',"model":{quoted[self.model]},"variant":{quoted[self.name]}}}'
        # Filled by the % operator, so a class's own percent signs are doubled.
        classes = [quoted[c].replace("%", "%%") for c in manifest.classes]
        if self.task == "binary":
            low, high = classes
            by = f',"threshold_number":{record.threshold_number}' if record.threshold_number else ""
            each = f'"probabilities":{{{low}:%.9g,{high}:%.9g}}{by}}}'
            self._low, self._high = (f'","label":{c},"probability":%.9g,{each}' for c in classes)
        elif self.task == "multiclass":
            each = ",".join(f"{c}:%.9g" for c in classes)
            self._classes = [f'","label":{c},"probability":%.9g,"probabilities":{{{each}}}}}' for c in classes]

    def render(self, prefix: str, first: int, output: list[list[float]]) -> list[str]:
        """One JSON object a row: id, and the label with its probability and those of all classes, or the value."""
        if self.task == "binary":
            threshold, low, high = self.threshold, self._low, self._high
            return [
                f'{{"id":"{prefix}{n:08x}' + (high % (p, q, p) if p >= threshold else low % (q, q, p))
                for n, (q, p) in enumerate(output, first)
            ]
        if self.task == "multiclass":
            return [
                f'{{"id":"{prefix}{n:08x}' + self._classes[ps.index(best)] % (best, *ps)
                for n, ps in enumerate(output, first)
                for best in (max(ps),)
            ]
        return [f'{{"id":"{prefix}{n:08x}","value":{value:.9g}}}' for n, (value,) in enumerate(output, first)]

    def label(self, output: list[float]) -> str:
        """The label of one row's output; "" for a regression."""
        if self.task == "binary":
            return self.labels[output[1] >= self.threshold]
        return self.labels[output.index(max(output))] if self.task == "multiclass" else ""


def _said(threshold: float) -> float:
    """A threshold as it is told: one that was rounded to float32, as it is compared, by its shortest digits (0.35)."""
    narrow = np.float32(threshold)
    return float(str(narrow)) if narrow == threshold else threshold


def _pick(given: tuple[str, ...], wanted: tuple[str, ...]) -> Pick | None:
    """What makes a model's row of a contract's row; None where they are the same."""
    if given == wanted:
        return None
    at = [given.index(name) for name in wanted]
    if len(at) == 1:
        (only,) = at
        return lambda row: (row[only],)
    return itemgetter(*at)


class LiveEndpoint:
    """An endpoint with its variants and its contract."""

    def __init__(self, record: Endpoint, served: dict[str, ServedModel]) -> None:
        self.record = record
        self.name = record.name
        live = [v for v in record.variants if v.mode == "live"]
        total = sum(v.weight for v in live)
        if not live or total != BUCKETS or any(v.weight < 0 for v in live):
            raise Invalid(
                f"The live weights of endpoint {record.name!r} sum to {total}, not {BUCKETS}.", code="bad-weights"
            )
        if len({v.name for v in record.variants}) != len(record.variants):
            raise Invalid(f"Two variants of endpoint {record.name!r} have one name.", code="bad-variants")
        manifests = {v.name: served[v.name].manifest for v in record.variants}
        if len({(manifests[v.name].task, frozenset(manifests[v.name].classes)) for v in live}) > 1:
            raise Invalid(
                f"The live variants of endpoint {record.name!r} differ in task or classes.",
                code="variants-differ",
                hint="Give them endpoints of their own.",
            )
        required, optional = merge((v.name, manifests[v.name].signature, v.mode == "live") for v in record.variants)
        optional += tuple(f for f in required if f.name in record.optional)
        required = tuple(f for f in required if f.name not in record.optional)
        needed = {n for m in manifests.values() for n in (*m.numbers, *m.strings)}
        if unknown := needed - {f.name for f in (*required, *optional)}:
            raise Invalid(
                f"A bundle of endpoint {record.name!r} reads columns that its signature does not name: {sorted(unknown)}.",
                code="bad-bundle",
            )
        self.contract = Contract(
            required,
            optional,
            passthrough=record.passthrough,
            route_key=record.route_key,
            refuse_unknown=record.policy.unknown_category == "refuse",
            refuse_outside=record.policy.out_of_range == "refuse",
        )
        self.variants = [LiveVariant(record.name, v, served[v.name], self.contract) for v in live]
        self.shadows = [
            LiveVariant(record.name, v, served[v.name], self.contract) for v in record.variants if v.mode == "shadow"
        ]
        self.keeping = keeping(record.policy, record.salt or record.name, record.route_key)
        self.limit = Buckets(record.policy.rate, record.policy.burst) if record.policy.rate else None
        self.only = self.variants[0] if len(live) == 1 else None
        self._ends: list[int] = []
        for v in live:
            self._ends.append((self._ends[-1] if self._ends else 0) + v.weight)
        self._salt = (record.salt or record.name).encode() + b"\0"

    def route(self, key: str) -> LiveVariant:
        """The variant that this routing key always gets from this table."""
        if self.only is not None:
            return self.only
        bucket = xxhash.xxh3_64_intdigest(self._salt + key.encode("utf-8", "replace")) % BUCKETS
        return self.variants[bisect_right(self._ends, bucket)]

    def versions(self) -> list[str]:
        """The versions that answer here, as the Open Inference Protocol names them."""
        return list(dict.fromkeys(v.version for v in self.variants))


class Route:
    """A path that is answered by inference."""

    __slots__ = ("endpoint", "plain", "variant")

    def __init__(self, endpoint: LiveEndpoint, plain: bool, variant: LiveVariant | None = None) -> None:
        self.endpoint = endpoint
        self.plain = plain
        self.variant = variant


class Live:
    """One epoch."""

    def __init__(
        self,
        message: ControlMessage,
        served: dict[str, ServedModel],
        endpoints: dict[str, LiveEndpoint],
        failed: dict[str, LooplineError],
    ) -> None:
        """`served` are the models by bundle key, `failed` the endpoints that could not be made, with the reason."""
        self.message = message
        self.table: RouteTable = message.table
        self.epoch = message.table.epoch
        self.served = served
        self.tokens = {name: frozenset(digests) for name, digests in message.tokens.items()}
        self.endpoints = endpoints
        self.failed = failed
        both = (v for one in endpoints.values() for v in (*one.variants, *one.shadows))
        self.runtimes: dict[tuple[str, str, str], str] = {v.counted: v.served.manifest.runtime for v in both}
        self.paths: dict[bytes, Route] = {}
        for name, endpoint in self.endpoints.items():
            if name != endpoint.record.name:
                raise Invalid(f"The table names endpoint {endpoint.record.name!r} {name!r}.", code="bad-table")
            base = f"/v2/models/{name}".encode()
            self.paths[f"/predict/{name}".encode()] = Route(endpoint, True)
            self.paths[base + b"/infer"] = Route(endpoint, False)
            for variant in reversed(endpoint.variants):
                path = base + f"/versions/{variant.version}/infer".encode()
                self.paths[path] = Route(endpoint, False, variant)

    def endpoint(self, name: str) -> LiveEndpoint:
        """The endpoint of that name. Raises `Problem` (404, or 503 where it failed)."""
        found = self.endpoints.get(name)
        if found is None:
            raise self._absent(name)
        return found

    def _absent(self, name: str) -> Problem:
        if name in self.table.idle:
            return unloaded(name)
        return endpoint_down(name) if name in self.failed else no_endpoint(name, self.endpoints)

    def find(self, path: str) -> tuple[Route | None, Problem | None]:
        """The route of an inference path, or why there is none. (None, None): this is no inference path."""
        route = self.paths.get(path.encode("utf-8", "replace"))
        if route is not None:
            return route, None
        parts = path.split("/")[1:]
        if len(parts) == 2 and parts[0] == "predict":
            return None, self._absent(parts[1])
        if len(parts) in (4, 6) and parts[:2] == ["v2", "models"] and parts[-1] == "infer":
            if parts[2] not in self.endpoints:
                return None, self._absent(parts[2])
            if len(parts) == 6 and parts[3] == "versions":
                return None, no_endpoint(f"{parts[2]}/versions/{parts[4]}", self.versioned(parts[2]))
        return None, None

    def versioned(self, name: str) -> list[str]:
        """The names with version of an endpoint's models."""
        return [f"{name}/versions/{v}" for v in self.endpoints[name].versions()]


def prepare(
    message: ControlMessage, known: dict[str, ServedModel], opening: Opening, tolerated: Container[str] = ()
) -> Live:
    """A table with all its models loaded, warmed and held against their golden rows; `known` ones are reused.

    An endpoint of those `tolerated` that fails is left out, and answered with 503. Takes its time: to be called outside the
    event loop. Raises `NotFound`, `Invalid` or `Refused`; nothing is changed then.
    """
    served: dict[str, ServedModel] = {}
    endpoints: dict[str, LiveEndpoint] = {}
    failed: dict[str, LooplineError] = {}
    fresh: list[ServedModel] = []
    try:
        for name, record in message.table.endpoints.items():
            try:
                models_of = {}
                for variant in record.variants:
                    key, model = _model(variant, known | served, opening)
                    if key not in known and key not in served:
                        fresh.append(model)
                    models_of[variant.name] = served[key] = model
                endpoints[name] = LiveEndpoint(record, models_of)
            except LooplineError as e:
                if name not in tolerated:
                    raise
                logger.error("Endpoint %s is not served: %s", name, e)
                failed[name] = e
        return Live(message, served, endpoints, failed)
    except BaseException:
        for model in fresh:
            model.close()
        raise


def _model(variant: Variant, known: dict[str, ServedModel], opening: Opening) -> tuple[str, ServedModel]:
    """The model of a variant with its bundle key."""
    if not variant.bundle:
        raise NotFound(
            f"The registry does not give the bundle of {variant.model}.",
            code="no-bundle",
            hint="`loopline models verify` tells what is amiss.",
        )
    folder = Path(variant.bundle)
    key = models.bundle_key(folder)
    return key, known[key] if key in known else models.load(folder, opening)


def nothing() -> Live:
    """What a worker serves before it has a table."""
    return Live(ControlMessage(table=RouteTable(epoch=0)), {}, {}, {})
