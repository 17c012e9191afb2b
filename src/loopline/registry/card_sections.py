"""The card as sections of texts and tables, the same for every written form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec


class Table(msgspec.Struct, frozen=True):
    """Rows of texts under a head. `interval`: columns (from, value, to) that a page may draw as a bar, each between 0 and 1."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    intervals: tuple[tuple[float, float, float] | None, ...] = ()


class Section(msgspec.Struct, frozen=True):
    """A title with texts, a list and tables (any may be empty; a section without all says that nothing is on record)."""

    title: str
    texts: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def sections(made: Mapping[str, Any]) -> list[Section]:
    """The sections of a card (`card.card`), in the order in which they are read."""
    return [
        _about(made),
        Section("Limits", items=tuple(made["limits"])),
        _metrics(made["evaluation"]),
        _gates(made["gates"]),
        _slices(made["evaluation"]["slices"]),
        _fairness(made["evaluation"]["fairness"]),
        _data(made["data"]),
        _training(made["training"]),
        Section("Parity of the forms", tables=_pairs(made["parity"])),
        _signature(made),
        _aliases(made["aliases"]),
    ]


def when(milliseconds: int | None) -> str:
    """A time as people read it, in UTC to the second."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shown(value: Any) -> str:
    """A value as people read it: numbers to four significant digits, lists by commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(shown(item) for item in value)
    return str(value)


def _about(made: Mapping[str, Any]) -> Section:
    model = made["model"]
    words = {
        **made["purpose"],
        "status": model["status"],
        "task": model["task"],
        "aliases": [f"@{alias}" for alias in model["aliases"]],
        "made": f"{when(model['created'])} by {model['creator']}",
        "registered": when(model["registered"]),
    }
    texts = ("It learnt from synthetic data.",) if made["data"]["synthetic"] else ()
    return Section("Purpose", texts=texts, tables=_pairs(words))


def _metrics(evaluation: Mapping[str, Any]) -> Section:
    words = {
        "rows": evaluation["n"],
        "look": evaluation["looks"],
        "confidence of the intervals": evaluation["confidence"],
        "threshold": evaluation["threshold"],
        "latency p99 in ms": evaluation["latency_p99_ms"],
    }
    tables = list(_intervals(evaluation["metrics"]))
    if evaluation["differences"]:
        tables.append(
            Table(
                ("metric", "against", "this", "other", "difference", "from", "to", "rows"),
                tuple(
                    tuple(shown(d.get(part)) for part in ("metric", "opponent", "a", "b", "value", "low", "high", "n"))
                    for d in evaluation["differences"]
                ),
                "Paired differences on the same rows",
            )
        )
    return Section("Metrics", tables=(*tables, *_pairs(words)) if tables else ())


def _intervals(metrics: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    if not metrics:
        return ()
    rows = tuple(tuple(shown(m.get(part)) for part in ("name", "value", "low", "high", "n")) for m in metrics)
    return (Table(("metric", "value", "from", "to", "rows"), rows, intervals=tuple(_unit(m) for m in metrics)),)


def _unit(metric: Mapping[str, Any]) -> tuple[float, float, float] | None:
    found = [metric.get(part) for part in ("low", "value", "high")]
    if any(not isinstance(v, int | float) or not 0 <= v <= 1 for v in found):
        return None
    low, value, high = (float(v) for v in found if v is not None)
    return low, value, high


def _gates(gates: Mapping[str, Any]) -> Section:
    rows = tuple(
        (str(v.get("gate", "")), str(v.get("outcome", "")), str(v.get("reason", ""))) for v in gates["verdicts"]
    )
    texts = (f"All in all: {gates['outcome']}.",) if gates["outcome"] else ()
    return Section("Gates", texts=texts, tables=(Table(("gate", "verdict", "reason"), rows),) if rows else ())


def _slices(slices: Sequence[Mapping[str, Any]]) -> Section:
    tables = []
    for column in dict.fromkeys(s["column"] for s in slices):
        some = [s for s in slices if s["column"] == column]
        names = list(dict.fromkeys(m["name"] for s in some for m in s.get("metrics", ())))
        rows = []
        for s in some:
            by_name = {m["name"]: m for m in s.get("metrics", ())}
            rows.append(
                (str(s["group"]), shown(s["n"]), *(_with_interval(by_name.get(n)) for n in names), s.get("note", ""))
            )
        tables.append(Table((column, "rows", *names, "note"), tuple(rows)))
    return Section("Groups", tables=tuple(tables))


def _with_interval(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return ""
    return f"{shown(metric.get('value'))} ({shown(metric.get('low'))} to {shown(metric.get('high'))})"


def _fairness(found: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (
            str(f["column"]),
            str(f["metric"]),
            shown(f["value"]),
            shown(f["low"]),
            shown(f["high"]),
            ", ".join(f"{g['group']} ({g['n']})" if isinstance(g, Mapping) else str(g) for g in f.get("groups", ())),
            ", ".join(f.get("too_few", ())),
        )
        for f in found
    )
    head = ("column", "metric", "difference", "from", "to", "groups (rows)", "too few")
    return Section("Fairness", tables=(Table(head, rows),) if rows else ())


def _data(data: Mapping[str, Any]) -> Section:
    words = {
        "learnt from": data["inputs"],
        "evaluated on": data["evaluated_on"],
        "window": data["window"],
        **data["facts"],
    }
    return Section("Data", tables=_pairs(words))


def _training(training: Mapping[str, Any]) -> Section:
    words = {"run": training["run"], "name": training["name"], **training["environment"]}
    tables = [
        *_pairs(words),
        *_pairs(training["params"], "Params"),
        *_pairs(training["metrics"], "Last values of the run"),
    ]
    return Section("Training", tables=(*tables, *_pairs(training["record"], "Record")))


def _signature(made: Mapping[str, Any]) -> Section:
    signature = made["signature"]
    words = {
        "signed by the key": signature and signature["key"],
        "signed at": signature and when(signature["signed"]),
        "bundle": made["forms"]["bundle"],
        "bytes": made["forms"]["size"],
    }
    files = Table(("file", "digest"), tuple(sorted(made["forms"]["files"].items())), "Forms")
    documents = Table(("document", "digest"), tuple(sorted(made["documents"].items())), "Documents")
    approvals = Table(
        ("approval", "asked by", "asked at", "decided by", "decided at"),
        tuple(
            (a["decision"], a["requester"], when(a["requested"]), a["decider"], when(a["decided"]))
            for a in made["approvals"]
        ),
        "Approvals",
    )
    kept = tuple(table for table in (files, documents, approvals) if table.rows)
    return Section("Signature and lineage", tables=(*_pairs(words), *kept))


def _aliases(moves: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (
            when(move["at"]),
            f"@{move['alias']}",
            shown(move["previous"]),
            shown(move["version"]),
            "rolled back" if move["how"] == "roll_back" else "set",
            str(move["by"]),
            str(move["reason"]),
        )
        for move in moves
    )
    head = ("at", "alias", "from version", "to version", "how", "by", "reason")
    return Section("Aliases of the model", tables=(Table(head, rows),) if rows else ())


def _pairs(words: Mapping[str, Any], caption: str = "") -> tuple[Table, ...]:
    rows = tuple((str(key), shown(value)) for key, value in words.items() if shown(value) != "")
    return (Table(("", ""), rows, caption),) if rows else ()
