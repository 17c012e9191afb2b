"""What a worker tells about itself: the Open Inference Protocol's metadata, statistics and repository index.

Statistics, repository, configuration: Triton's extension_statistics.md, extension_model_repository.md and
extension_model_configuration.md. Where a control process decides what is served, `load` and `unload` are refused with the command
to use; models alone are loaded and unloaded (`serving.repository`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from loopline.errors import Conflict, NotFound, did_you_mean
from loopline.serving import oip
from loopline.serving.live import Live, LiveEndpoint, LiveVariant
from loopline.serving.metrics import Counted, Counters
from loopline.serving.problems import Problem, bad_input

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]


def server() -> dict[str, Any]:
    """The answer to GET /v2."""
    from importlib.metadata import version

    return {"name": "loopline", "version": version("loopline"), "extensions": EXTENSIONS}


def model(live: Live, name: str, rest: list[str], counters: Counters) -> dict[str, Any] | None:
    """The answer to GET /v2/models/NAME/..., `rest` being what follows the name; None where nothing is there."""
    endpoint = live.endpoint(name)
    only = None
    if len(rest) >= 2 and rest[0] == "versions":
        only, rest = _version(endpoint, rest[1]), rest[2:]
    if not rest:
        variant = only or endpoint.variants[0]
        return oip.metadata(name, endpoint.versions(), endpoint.contract, variant.signature)
    if rest == ["ready"]:
        return {"name": name, "ready": True}
    if rest == ["config"]:
        return oip.config(name, endpoint.contract, (only or endpoint.variants[0]).signature)
    if rest == ["stats"]:
        return {"model_stats": _stats(endpoint, counters, only)}
    return None


def statistics(live: Live, names: list[str], counters: Counters) -> dict[str, Any]:
    """The answer to GET /v2/models/stats, of these endpoints."""
    return {"model_stats": [one for name in names for one in _stats(live.endpoints[name], counters)]}


class _IndexRequest(msgspec.Struct):
    ready: bool = False


def index(live: Live, names: list[str], body: bytes) -> list[dict[str, Any]]:
    """The answer to POST /v2/repository/index, of these endpoints. Raises `Problem`."""
    try:
        only_ready = msgspec.json.decode(body, type=_IndexRequest).ready if body.strip() else False
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        bad_input(f"The request is not one for the repository's index: {e}.", "not-inference", 'Send {"ready": true}.')
    found = []
    for name in names:
        if name in live.endpoints:
            versions = live.endpoints[name].versions()
            found += [{"name": name, "version": v, "state": "READY", "reason": ""} for v in versions]
        elif not only_ready:
            reason = "unloaded" if name in live.table.idle else "Its models cannot be opened."
            found.append({"name": name, "state": "UNAVAILABLE", "reason": reason})
    return found


def ruled(action: str, name: str, *, alone: bool) -> Problem:
    """The refusal of a load or unload; `alone`: models are served without a control process."""
    command = f"loopline deploy {name} {'MODEL@VERSION' if action == 'load' else '--remove'}"
    if alone:
        command = "loopline serve MODEL ..., anew"
    return Problem(
        409,
        Conflict(
            f"What is served at {name!r} is decided where it was deployed, and not here.",
            code="deployment-rules",
            hint=f"Use `{command}`.",
        ),
    )


def _version(endpoint: LiveEndpoint, version: str) -> LiveVariant:
    for variant in endpoint.variants:
        if variant.version == version:
            return variant
    raise Problem(
        404,
        NotFound(
            f"Endpoint {endpoint.name!r} has no version {version!r}.",
            code="no-version",
            hint=did_you_mean(version, endpoint.versions()) or f"There are: {', '.join(endpoint.versions())}.",
        ),
    )


def _stats(endpoint: LiveEndpoint, counters: Counters, only: LiveVariant | None = None) -> list[dict[str, Any]]:
    """One entry a version that answers now, of all that it answered since the workers started, as whatever variant."""
    asked = [only.version] if only is not None else endpoint.versions()
    return [_one(endpoint.name, version, counters) for version in asked]


def _one(name: str, version: str, counters: Counters) -> dict[str, Any]:
    whos = [who for who in counters.latency if who[0] == name and who[2] == version]
    good = sum(n for (who, status), n in counters.requests.items() if who in whos and status == 200)
    bad = sum(n for (who, status), n in counters.requests.items() if who in whos and status != 200)
    failed = _sum(counters.failed_seconds, whos)
    runs = _sum(counters.batches, whos)
    none = {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "last_inference": max((counters.last[who] for who in whos), default=0),
        "inference_count": _sum(counters.rows, whos),
        "execution_count": runs,
        "inference_stats": {
            "success": {"count": good, "ns": _ns(_sum(counters.seconds, whos) - failed)},
            "fail": {"count": bad, "ns": _ns(failed)},
            "queue": none,
            "compute_input": none,
            "compute_infer": {"count": runs, "ns": _ns(_sum(counters.model_seconds, whos))},
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
        "memory_usage": [],
    }


def _sum(counts: dict[Counted, Any], whos: list[Counted]) -> Any:
    return sum(counts.get(who, 0) for who in whos)


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
