"""Runs of other systems, and sources of rows: the adapter of each behind its port. With `app.py` the one to name adapters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from loopline.errors import Invalid, did_you_mean
from loopline.hashing import digest_bytes
from loopline.ports.foreign_runs import ForeignPoint, RunSource
from loopline.ports.source import Source
from loopline.ports.stream import Inflow, Outflow
from loopline.tracking.records import Point, Run

ForeignSystem = Literal["mlflow", "tensorboard", "modeldb"]
"""Systems whose runs can be imported."""


def run_source(system: ForeignSystem, place: str) -> RunSource:
    """Where runs of another system are: a folder, a file or a URL. Raises `Invalid` and `NotFound` where there are none."""
    match system:
        case "mlflow":
            if "://" in place:
                from loopline.adapters.mlflow.server import MlflowServer

                return MlflowServer(place)
            from loopline.adapters.mlflow.folder import MlflowFolder

            return MlflowFolder(Path(place))
        case "tensorboard":
            from loopline.adapters.tensorboard.reading import TensorboardFolder

            return TensorboardFolder(Path(place))
        case "modeldb":
            from loopline.adapters.modeldb.export import ModeldbExport

            return ModeldbExport(Path(place))


def write_events(folder: Path, run: Run, points: Iterable[Point]) -> None:
    """Writes a run's metrics as an event file of TensorBoard, into a folder of the run's own."""
    from loopline.adapters.tensorboard.writing import write

    name = re.sub(r"[^\w.+=@,() -]", "_", run.name).strip(" .")[:100]
    place = folder / f"{name or 'run'}-{run.id[-6:]}"
    write(place, run.created, (ForeignPoint(point.key, point.step, point.time, point.number) for point in points))


def row_source(address: str, options: Mapping[str, str], scratch: Path, *, kept: Path | None = None) -> Source:
    """What rows are collected from, by its address: a path, a folder, a pattern, or a URL. `scratch` is a folder for what it
    downloads, `kept` (`scratch` where it is not said) one of the dataset's own for what is nowhere else.

    Raises `Invalid` for a scheme or an option that is not known; nothing is read yet.
    """
    match scheme(address):
        case "" if (Path(address) / "_delta_log").is_dir():  # some of its files are of earlier versions alone
            from loopline.adapters.delta.source import DeltaSource

            return DeltaSource(address, **_options(address, options, whole=_truth, version=int))
        case "":
            from loopline.adapters.folder.source import FolderSource

            return FolderSource(address, **_options(address, options, whole=_truth))
        case "s3":
            from loopline.adapters.s3.source import S3Source

            return S3Source([address], scratch, **_options(address, options, whole=_truth, **_S3))
        case "delta":
            from loopline.adapters.delta.source import DeltaSource

            return DeltaSource(address, **_options(address, options, whole=_truth, version=int, **_S3))
        case "glue":
            from loopline.adapters.glue.source import GlueSource
            from loopline.adapters.s3.source import S3Source

            known = _options(address, options, whole=_truth, catalog=str, **_S3)
            there = {key: value for key, value in known.items() if key != "catalog"}
            return GlueSource(
                address,
                lambda places: S3Source(places, scratch, name=address, **there),
                **{key: value for key, value in known.items() if key != "endpoint"},
            )
        case "kafka":
            from loopline.adapters.kafka.topic import KafkaTopic

            security, said = _security(options)
            given = _options(address, said, format=str, columns=str, schema=str, metadata=str, start=str)
            return KafkaTopic(address, scratch, **given, security=security)
        case "mqtt" | "mqtts":
            from loopline.adapters.mqtt.topics import MqttTopics

            folder = (kept or scratch) / f"mqtt-{digest_bytes(address.encode()).partition(':')[2][:16]}"
            return MqttTopics(
                address,
                scratch,
                folder,
                **_options(address, options, format=str, **_MQTT),
            )
        case "http" | "https":
            from loopline.adapters.http.source import HttpSource

            known = dict.fromkeys(HttpSource.OPTIONS, str)
            return HttpSource(address, scratch, **_options(address, options, **known))
        case found if found in _DATABASES:
            from loopline.adapters.sql.source import SqlSource

            return SqlSource(address, **_options(address, options, table=str, query=str, mark=str))
    raise Invalid(
        f"No source begins with {scheme(address)}://.", code="bad-source", hint=did_you_mean(scheme(address), _SCHEMES)
    )


def inflow(address: str, options: Mapping[str, str], *, group: str, kept: Path) -> Inflow:
    """Where messages come from, by its address: a topic of Kafka, read by `group`, or topics of MQTT.

    `kept` is a folder of this stream's own, for what is nowhere else. Raises `Invalid`, and what is in the way there.
    """
    match scheme(address):
        case "kafka":
            from loopline.adapters.kafka.stream import KafkaInflow

            security, said = _security(options)
            return KafkaInflow(
                address, **{"group": group, **_options(address, said, group=str, start=str)}, security=security
            )
        case "mqtt" | "mqtts":
            from loopline.adapters.mqtt.stream import MqttInflow

            folder = kept / f"mqtt-{digest_bytes(address.encode()).partition(':')[2][:16]}"
            return MqttInflow(address, folder, **_options(address, options, **_MQTT))
    raise _no_stream(address)


def outflow(address: str, options: Mapping[str, str]) -> Outflow:
    """Where messages go, by its address. Raises as `inflow` does."""
    match scheme(address):
        case "kafka":
            from loopline.adapters.kafka.stream import KafkaOutflow

            security, said = _security(options)
            _options(address, said)
            return KafkaOutflow(address, security=security)
        case "mqtt" | "mqtts":
            from loopline.adapters.mqtt.stream import MqttOutflow

            return MqttOutflow(address, **_options(address, options, **_MQTT))
    raise _no_stream(address)


def _no_stream(address: str) -> Invalid:
    return Invalid(
        f"{address.partition('?')[0]!r} is no stream.",
        code="bad-source",
        hint="Streams are kafka://host:port/topic and mqtt://host:port/topic.",
    )


_MQTT = dict.fromkeys(("username", "password", "ca", "certificate", "key"), str)


def _security(options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Options of Kafka: those that librdkafka calls so, which have a dot in their names, and the others."""
    dotted = {name: text for name, text in options.items() if "." in name}
    return dotted, {name: text for name, text in options.items() if name not in dotted}


_DATABASES = (
    "sqlite",
    "postgresql",
    "mysql",
    "mariadb",
    "mssql",
    "oracle",
    "duckdb",
    "snowflake",
    "redshift",
    "bigquery",
)
_SCHEMES = ("http", "https", "s3", "delta+s3", "glue", "kafka", "mqtt", "mqtts", *_DATABASES)

_S3 = dict.fromkeys(("endpoint", "region", "access_key_id", "secret_access_key", "session_token"), str)


def scheme(address: str) -> str:
    """What stands before `://` in an address, without a driver (`postgresql+psycopg`); nothing for a path."""
    before, found, _ = address.partition("://")
    return before.partition("+")[0].lower() if found else ""


def _options(address: str, given: Mapping[str, str], **known: Callable[[str], Any]) -> dict[str, Any]:
    """The options of a source by their names, as what they mean."""
    read: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise Invalid(f"{address} has no option {name!r}.", code="bad-option", hint=did_you_mean(name, known))
        try:
            read[name] = known[name](text)
        except ValueError as e:
            raise Invalid(f"The option {name} of {address} cannot be taken: {e}.", code="bad-option") from e
    return read


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
