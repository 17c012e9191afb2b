"""An object of another project, by every operation whose path can name one: not found, nothing of it shown, nothing changed.

One object of each kind is made in the project `clinic`. The caller has every role there and in the default project, so that only
the object's own project can refuse. A new operation whose place has no value here makes this fail.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from loopline.api.routing import PREFIX
from loopline.data.files.adding import add
from loopline.data.files.pack import packed
from loopline.data.manifest import Manifest
from loopline.data.records import LabelColumn
from loopline.database import metadata
from loopline.deployment.records import Plan, Stage
from loopline.errors import NotFound
from loopline.evaluation.gates import gate
from loopline.hashing import digest_bytes
from loopline.loop.table import Table, linear
from loopline.monitoring.alerts import AlertsService
from loopline.operations import OPERATIONS, Body, Operation
from loopline.outcomes.records import Label
from loopline.packaging.bundle import write_bundle
from loopline.registry.bundle_tar import pack
from loopline.serving.log import Frame, Part, PredictionLog, encode
from loopline.store.service import Store
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import KINDS, frame, run_prefix
from loopline.tracking.journal_format import pack as pack_frames

HERE, ELSEWHERE = "default", "clinic"
MODEL, DATA = f"model:{ELSEWHERE}/secret-model@1", f"data:{ELSEWHERE}/secret-data@1"
SENDER = ulid(1)
KEY = "sha256:" + "0" * 64
ROWS = b"x,y,d\n" + b"".join(b"%d,%s,2020-01-%02d\n" % (n, b"yes" if n % 3 else b"no", 1 + n % 28) for n in range(300))
VIEW = {
    "name": "secret-view",
    "source": "secret-data",
    "entity": "y",
    "time": "x",
    "features": [{"name": "n", "by": "count"}],
}

LABEL = LabelColumn(column="y", time="d", matures="1d")
STEPS = [{"step": "clip", "columns": ["x"]}]
CONTRACT = {"rules": [{"rule": "between", "column": "x", "low": 1}]}

FILES = {"files.add": Manifest().encoded(), "files.put": packed([(digest_bytes(b"x"), b"x")])}

CREATES = {
    "datasets.add", "endpoints.create", "features.define", "files.add", "files.missing", "files.put", "loops.declare",
    "models.add", "models.draft", "monitors.declare", "pipelines.start", "runs.save_search", "sources.collect",
}  # fmt: skip
"""They make an object of that name in the project of the call, as far as they find there what it is made from."""

NAMED = sorted(
    (op.name for op in OPERATIONS.values() if op.scope == "project" and op.placed),
    key=lambda name: (name in CREATES, name),
)
"""Those that create come last: what they make here has the name of what is there."""

EMPTY = {
    "pipelines.known", "predictions.list", "predictions.read", "predictions.traffic",
}  # fmt: skip
"""They answer that there is nothing, as they do for a name that is nowhere."""

OPEN = {"datasets.cleaning": {"name": "secret-data.clean"}, "datasets.files": {"name": "secret-data.train"}}
"""What can be asked in its own project, where some rows of the object are sealed."""

GIVEN: dict[str, dict[str, Any]] = {
    "alerts.change": {"status": "closed"},
    "datasets.clean": {"steps": STEPS},
    "datasets.drop": {"reason": "test"},
    "datasets.release": {"reason": "test"},
    "datasets.split": {"label": "y"},
    "datasets.tag": {"version": "1"},
    "datasets.withdraw": {"reason": "test"},
    "endpoints.create": {"model": "secret-model@1"},
    "endpoints.roll_back_threshold": {"reason": "test"},
    "endpoints.set_threshold": {"value": 0.3, "reason": "test"},
    "endpoints.set_policy": {"policy": {"rate": 5}},
    "evaluations.judge": {"gates": KEY},
    "scores.make": {"model": "secret-model@1"},
    "features.define": {"declaration": VIEW},
    "files.missing": {"digests": [digest_bytes(b"secret")]},
    "files.objects": {"digests": [digest_bytes(b"secret")]},
    "features.join": {"dataset": "data:secret-data@1", "time": "x", "into": "joined"},
    "groups.change": {"note": "test"},
    "groups.tag": {"tags": {"a": "b"}},
    "labels.add": {"labels": [{"prediction": "secret-prediction", "value": "yes"}]},
    "loops.declare": {"path": "/x.py", "declaration": {}},
    "loops.settle": {"status": "failed"},
    "models.attach": {"document": {}},
    "models.comment": {"text": "test"},
    "models.describe": {"text": "test"},
    "models.rename": {"title": "test"},
    "models.set_alias": {"version": 1},
    "models.tag": {"tags": {"a": "b"}},
    "models.withdraw": {"reason": "test"},
    "monitors.declare": {"reference": "data:secret-data@1", "label": "y", "task": "binary"},
    "pipelines.end": {"status": "finished"},
    "pipelines.start": {"key": KEY},
    "pipelines.step": {"key": KEY, "outputs": {}, "seconds": 1.0},
    "rollouts.decide": {"decision": "roll_back", "reason": "test"},
    "rollouts.start": {"challenger": "secret-model@2", "plan": {"stages": [{"kind": "shadow", "rows": 1}]}},
    "predictions.expire": {"before": 1},
    "runs.complete_upload": {"parts": ["blake3:" + "0" * 64] * 2},
    "runs.copy_artifact": {"digest": "blake3:" + "0" * 64},
    "runs.correct": {"params": {"a": 1}, "reason": "test"},
    "runs.log": {"metrics": [{"key": "loss", "value": 1.0, "step": 0, "time": 1}]},
    "runs.measure": {"by": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "measures": [{"key": "loss", "value": 1.0}]},
    "runs.note": {"text": "test"},
    "runs.params": {"params": {"a": 1}},
    "runs.save_search": {"filter": "name = 'a'"},
    "runs.skip_batches": {"number": 5},
    "runs.start_upload": {"path": "large.bin", "parts": 2},
    "runs.tag": {"tags": {"a": "b"}},
    "sources.schedule": {"every": "1h"},
    "runs.use": {"datasets": [{"name": "test", "digest": "1"}]},
}
"""What a call needs besides its places."""


class Other:
    """The platform with one object of each kind in ELSEWHERE; `values` are what stands for them in a path, by group."""

    def __init__(self, served: Any, folder: Any) -> None:
        self.served = served
        self.platform = served.platform
        owner = self.platform.session()
        owner.projects.create(ELSEWHERE)
        owner.access.add_principal("ann")
        for project in (HERE, ELSEWHERE):
            self.platform.session(project=project).access.grant("ann", "approver")
        self.approver = owner.access.create_token(principal="ann").secret
        there = self.platform.session(project=ELSEWHERE)
        there.access.grant("ann", "viewer")
        run = there.runs.create(
            "secret-run", tags={"a": "b"}, inputs=("source:secret-file",), environment={"python": "3"}
        ).id
        there.runs.set_retention(12_345_678)
        there.datasets.set_retention(23_456_789)
        self.logged = there.runs.create("secret-logged", kind="model").id
        there.runs.measure(self.logged, run, [{"key": "loss", "value": 1.0, "step": 0, "time": 1}])
        there.datasets.add(
            "secret-data", Body(ROWS, name="x.csv"), contract=CONTRACT, inputs=[f"run:{run}"], labels=(LABEL,)
        )
        there.datasets.split("secret-data", "y")
        there.datasets.tag("secret-data", "1", "secret-tag")
        there.datasets.clean("secret-data", STEPS)
        there.features.define("secret-view", VIEW)
        there.features.materialize("secret-view")
        (folder / "secret.csv").write_bytes(ROWS)
        (folder / "secrets").mkdir()
        (folder / "secrets" / "secret.txt").write_bytes(b"secret")
        add(there.files, "secret-files", folder / "secrets", states=folder / "states" / "folders")
        self.sources = [{"address": str(folder / "secret.csv")}]
        there.sources.collect("secret-source", self.sources)
        there.sources.schedule("secret-source", every="1h")
        there.datasets.drop("secret-data", "1", "test")
        there.inbox.post("secret-data", Body(ROWS, name="x.csv", media="text/csv"))
        group = there.groups.create("secret-group").number
        there.runs.put_artifact(run, "notes.txt", Body(b"secret", name="notes.txt"))
        upload = there.runs.start_upload(run, "large.bin", 2).id
        there.runs.log(run, [{"key": "loss", "value": 1.0, "step": 0, "time": 1}])
        there.runs.use(run, [{"name": "secret-table", "digest": "1"}])
        there.runs.params(run, {"a": 1})
        there.runs.correct(run, {"a": 2}, "test")
        printed = run_prefix(run) + b'{"text": "secret", "time": 1}'
        there.runs.send(SENDER, 1, Body(pack_frames(frame(1 + KINDS.index("console"), printed))))
        there.runs.save_search("secret-search", "name = 'secret-run'")
        there.runs.finish(run)
        pipeline = there.pipelines.start("secret-pipeline", key=KEY).id
        there.pipelines.step(pipeline, "fit", KEY, {}, 1.0)
        self._model(there, folder, run)
        there.models.comment("secret-model", "secret")
        there.models.set_alias("secret-model", "champion", 1)
        there.models.set_alias("secret-model", "champion", 2)
        there.models.set_alias("secret-model", "champion", 1)
        request = there.models.request_approval("secret-model", 2).id
        there.endpoints.create("secret-endpoint", "secret-model@1")
        there.endpoints.set_threshold("secret-endpoint", 0.4, "secret")
        plan = Plan(stages=(Stage(kind="shadow", rows=1),))
        rollout = there.rollouts.start("secret-endpoint", "secret-model@2", plan).id
        there.monitors.declare("secret-endpoint", "data:secret-data@1", "y", "binary", rows=50, look=1)
        self._answers()
        there.labels.add("secret-endpoint", [Label(prediction="secret-prediction", value="yes")])
        there.monitors.look("secret-endpoint")
        with self.platform.database.begin(project=ELSEWHERE) as tx:
            alert = AlertsService(tx).raise_alert("secret-endpoint", "quality", "secret", (), 0).rpartition("/")[2]
        gates = there.evaluations.declare([msgspec.to_builtins(gate.at_least("roc_auc", 0.1))])
        measured = there.evaluations.measure("secret-model@1", "secret-data.test@1", "y")
        there.evaluations.judge(measured.id, gates.digest)
        there.loops.declare("secret-loop", "/x.py", {})
        asked = there.loops.request("secret-loop").id
        self.values: dict[str, dict[str, str]] = {
            "access": {"principal": "ann", "role": "viewer"},
            "alerts": {"alert": alert},
            "datasets": {"name": "secret-data", "version": "1", "tag": "secret-tag"},
            "endpoints": {"name": "secret-endpoint"},
            "evaluations": {"evaluation": measured.id, "plot": next(iter(measured.plots), "calibration")},
            "features": {"name": "secret-view"},
            "files": {"name": "secret-files", "version": "1"},
            "groups": {"group": str(group), "name": "secret-group"},
            "inbox": {"name": "secret-data"},
            "scores": {"name": "secret-data", "version": "1"},
            "labels": {"endpoint": "secret-endpoint"},
            "loops": {"name": "secret-loop", "request": asked},
            "models": {
                "name": "secret-model", "version": "1", "alias": "champion", "request": request, "kind": "parity",
            },
            "monitors": {"endpoint": "secret-endpoint"},
            "pipelines": {"run": pipeline, "name": "secret-pipeline", "step": "fit", "key": KEY},
            "predictions": {"endpoint": "secret-endpoint", "prediction": "secret-prediction"},
            "sources": {"name": "secret-source"},
            "rollouts": {"rollout": rollout, "endpoint": "secret-endpoint"},
            "runs": {
                "run": run, "path": "notes.txt", "key": "loss", "sender": SENDER, "number": "2", "name": "secret-search",
                "upload": upload,
            },
        }  # fmt: skip

    def _model(self, there: Any, folder: Any, run: str) -> None:
        x = np.random.default_rng(1).normal(size=300)
        rows = pl.DataFrame({"x": x, "y": np.where(x > 0, "yes", "no")})
        model = linear(Table(rows[:200], rows[200:], label="y"))
        for version in (1, 2):
            write_bundle(
                model, folder / str(version), name="secret-model", version=version, example={"x": 0.5},
                validation_frame=rows[200:], created=version,
            )  # fmt: skip
            self.bundle = pack(folder / str(version))
            there.models.draft("secret-model", Body(self.bundle, name="bundle.tar"), run=run)
            there.models.register("secret-model", version)

    def _answers(self) -> None:
        now = self.platform.clock.now() + 1000
        log = PredictionLog(
            self.platform.settings.workspace / "serving" / "log",
            0,
            segment_bytes=1 << 20,
            segment_age_ms=1 << 40,
            now=now,
        )
        ids = ["secret-prediction", *(f"secret-{n}" for n in range(99))]
        answer = Frame(
            time_ms=now, request="r1", endpoint=f"{ELSEWHERE}~secret-endpoint",
            parts=[Part(f"model:{ELSEWHERE}/secret-model@1", "champion", "live", 1.0)], status=200, latency_us=1, form="list",
            sent=msgspec.json.encode([{"x": n} for n in range(100)]),
            answered=msgspec.json.encode([{"id": id, "probability": 0.5, "label": "no"} for id in ids]),
        )  # fmt: skip
        log.append([encode(answer)], now)
        log.close()
        self.platform.session().predictions.collect()

    def ask(self, op: Operation, project: str, values: dict[str, str]) -> Any:
        path = op.path.replace("{project}", project)
        for place in op.placed:
            path = re.sub(rf"{{{place}(:path)?}}", quote(values[place], safe=""), path)
        headers = {"x-loopline-peer": "127.0.0.1:50000", "x-loopline-peer-uid": str(os.getuid())}
        if op.action == "approve":  # an owner is no approver
            headers["Authorization"] = f"Bearer {self.approver}"
        if op.body:
            data = {"models.draft": self.bundle, "datasets.add": ROWS, **FILES}.get(op.name, b"x")
            headers["Content-Type"] = "application/octet-stream"
            return self.served.ask(op.method, PREFIX + path, body=data, headers=headers)
        if op.name == "sources.collect":
            return self.served.ask(op.method, PREFIX + path, headers=headers, json={"sources": self.sources})
        given = {"json": GIVEN[op.name]} if op.name in GIVEN else {"json": {}} if op.mutates else {}
        return self.served.ask(op.method, PREFIX + path, headers=headers, **given)

    def kept(self) -> list[tuple[Any, ...]]:
        """All rows of the other project."""
        found: list[tuple[Any, ...]] = []
        with self.platform.database.snapshot() as connection:
            for table in metadata.sorted_tables:
                if "project" in table.c and not table.name.startswith("ledger_"):
                    rows = connection.execute(sa.select(table).where(table.c.project == ELSEWHERE))
                    found += sorted((table.name, *map(repr, row)) for row in rows)
        return found


@pytest.fixture(scope="module")
def other(controlled: Any, tmp_path_factory: pytest.TempPathFactory) -> Other:
    return Other(controlled, tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("name", NAMED)
def test_an_object_of_another_project_is_not_found_by_its_name(other: Other, name: str) -> None:
    op = OPERATIONS[name]
    values = other.values[op.group]
    before = other.kept()
    reply = other.ask(op, HERE, values)
    assert other.kept() == before, "a call in one project changed another"
    if name in CREATES:
        assert reply.status in (200, 204, 404), reply.content
        assert reply.status != 404 or b"secret-model" in reply.content or b"secret-data" in reply.content
    elif name in EMPTY:
        absent = other.ask(
            op, HERE, {place: "nowhere" if place in ("endpoint", "name") else v for place, v in values.items()}
        )
        assert reply.status in (200, 204), reply.content
        assert reply.content.replace(b"secret-endpoint", b"nowhere") == absent.content
    else:
        assert reply.status == 404, reply.content
        assert any(values[place] in reply.json["error"]["message"] for place in op.placed), reply.content
    if op.method == "GET":
        there = other.ask(op, ELSEWHERE, values | OPEN.get(name, {}))
        assert there.status in (200, 204), there.content
        # A worker, as which this asks, is told the file that holds the content.
        assert there.content not in (b"", b"null", b"[]") or there.headers["x-loopline-file"]


LISTS = [
    op.name
    for op in sorted(OPERATIONS.values(), key=lambda op: op.name)
    if op.scope == "project"
    and not op.placed
    and op.method == "GET"
    and op.name
    not in (
        "projects.show",
        "datasets.unsound",
        "lineage.openlineage",
        "lineage.trace",
        "runs.compare",
        "runs.last",
        "runs.measures",
        "runs.plot",
    )
]


UNNAMED = {
    "runs.used": "secret-table",
    "access.grants": '"viewer"',
    "runs.retention": "12345678",
    "datasets.retention": "23456789",
}
"""What lists show of ELSEWHERE that show none of its names."""


@pytest.mark.parametrize("name", LISTS)
def test_a_list_shows_its_own_project_alone(other: Other, name: str) -> None:
    op = OPERATIONS[name]
    marks = {
        value for group in other.values.values() for value in group.values() if len(value) > 20 or "secret" in value
    }
    marks -= {KEY}
    shown = {project: other.ask(op, project, {}).content.decode() for project in (HERE, ELSEWHERE)}
    if name in UNNAMED:
        assert UNNAMED[name] in shown[ELSEWHERE]
        assert UNNAMED[name] not in shown[HERE]
        return
    assert any(mark in shown[ELSEWHERE] for mark in marks), shown[ELSEWHERE]
    # What calls that create left here has the same names, and none of the same refs.
    assert f"{ELSEWHERE}/" not in shown[HERE]


def test_what_is_asked_for_by_many_ids_is_of_its_own_project_alone(other: Other) -> None:
    here, there = (other.platform.session(project=project).runs for project in (HERE, ELSEWHERE))
    run = other.values["runs"]["run"]
    assert there.last((run,))
    assert there.measures((other.logged,))
    for ask in (lambda: here.last((run,)), lambda: here.measures((other.logged,))):
        with contextlib.suppress(NotFound):
            assert not ask()


def test_what_rests_on_withdrawn_data_is_told_of_its_own_project_alone(other: Other) -> None:
    here, there = (other.platform.session(project=project).datasets for project in (HERE, ELSEWHERE))
    bad = there.add("secret-spare", Body(b"x\n1\n", name="spare.csv")).ref
    there.withdraw("secret-spare", "1", "wrong")
    assert there.unsound((bad,)) == {bad: bad}
    assert here.unsound((bad, "data:secret-spare@1")) == {}


REFS: dict[str, Callable[[Any], Any]] = {
    "lineage": lambda session: session.lineage.trace(MODEL),
    "events of lineage": lambda session: session.lineage.openlineage(ref=MODEL),
    "evaluation": lambda session: session.evaluations.measure(MODEL, "data:secret-data@1", "y"),
    "comparison": lambda session: session.runs.compare(tuple(f"run:{ELSEWHERE}/{ulid(n)}" for n in (1, 2))),
    "endpoint": lambda session: session.endpoints.create("mine", MODEL),
    "monitor": lambda session: session.monitors.declare("mine", DATA, "y", "binary"),
}


@pytest.mark.parametrize("what", REFS)
def test_a_ref_of_another_project_leads_nowhere(other: Other, what: str) -> None:
    with pytest.raises(NotFound):
        REFS[what](other.platform.session())


OF_NO_BYTES = {
    "idempotency", "ledger_cursors", "ledger_nodes", "rollout_decisions", "run_purged",
}  # fmt: skip
"""Tables that may be empty here: none of their columns holds the digest of bytes in the store, or names a run."""

LOOKED_AT = ("run", "ledger_", "store_", "steps", "dataset_contracts", "quarantine_decisions", "idempotency")
"""Tables whose refs a purge looks at by itself, or that name what was, and need nothing."""

POINTS = {"run_points_hot", "run_points_folded"}  # in a database file of their own


def test_whatever_holds_a_digest_keeps_its_bytes_and_whatever_names_a_run_keeps_it(other: Other) -> None:
    """Looks at every text of every table, so that a new one cannot be forgotten: its rows have to be made above first."""
    platform = other.platform
    blobs = {blob.digest for blob in platform.blobs.list()}
    empty, loose, unnamed, holders = set(), [], [], set()
    with platform.database.begin(lazy=True) as tx:
        store = Store(tx, platform.blobs)
        for table in metadata.sorted_tables:
            rows = tx.rows(sa.select(table))
            if not rows:
                empty.add(table.name)
            for row in rows:
                for column, value in zip(table.c, row, strict=True):
                    text = str(value) if isinstance(value, str | dict | list) else ""
                    held = set(re.findall(r"blake3:[0-9a-f]{64}", text)) & blobs
                    holders |= {table.name} if held else set()
                    loose += [(table.name, column.name, digest) for digest in held if not store.owners(digest)]
                    if re.search(r"\brun:|(^|['\"])data:[^ '\"]+@\d+($|['\"])", text) and not table.name.startswith(
                        LOOKED_AT
                    ):
                        unnamed += [(table.name, column.name)] * ("names" not in column.info)
    assert empty - POINTS - OF_NO_BYTES == set(), "make a row of it above, or say in OF_NO_BYTES why none is needed"
    assert holders >= {
        "run_artifacts",
        "model_versions",
        "dataset_versions",
        "evaluations",
        "monitors",
        "prediction_segments",
    }
    assert loose == []
    assert unnamed == [], "say `info=names(...)` with the column, so that no purge takes what it names"
