"""What an unmodified MLflow client sees of a server, as JSON: run by the environments of MLflow, with MLFLOW_TRACKING_URI set.

Ids and times are left out, so that two servers can be compared.
"""

import json
import math
import sys

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

seen = {}
client = mlflow.MlflowClient()
PLAIN = {"source", "mlflow.source.name", "mlflow.source.git.commit", "mlflow.user"}


def refused(call, *args, **more):
    """The code of the error that a call ends in."""
    try:
        call(*args, **more)
    except MlflowException as e:
        return e.error_code
    return "no error"


def number(value):
    return value if math.isfinite(value) else str(value)


def shown(run):
    return {
        "name": run.info.run_name, "status": run.info.status, "lifecycle": run.info.lifecycle_stage,
        "ended": run.info.end_time is not None, "params": run.data.params,
        "metrics": {key: number(value) for key, value in sorted(run.data.metrics.items())},
        "tags": {key: value for key, value in sorted(run.data.tags.items()) if key not in PLAIN and "Id" not in key},
        "datasets": [
            {"name": one.dataset.name, "digest": one.dataset.digest, "schema": one.dataset.schema, "profile": one.dataset.profile,
             "tags": {tag.key: tag.value for tag in one.tags}}
            for one in run.inputs.dataset_inputs
        ],
        "uri": run.info.artifact_uri.replace(run.info.run_id, "RUN"),
    }  # fmt: skip


# the fluent interface
experiment = mlflow.set_experiment("fluent ä/1")
with mlflow.start_run(run_name="outer", tags={"team": "red"}, description="What it is.") as outer:
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"depth": 3, "name": "größe", "none": None})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (1 + step), step=step)
    mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "-inf": -math.inf}, step=1)
    mlflow.log_metric("sync", 1.0, synchronous=False).wait()
    mlflow.log_params({"later": "1"}, synchronous=False).wait()
    mlflow.set_tags({"a": "1", "empty": ""})
    frame = pd.DataFrame({"x": np.arange(4.0), "y": ["a", "b", "c", "d"]})
    mlflow.log_input(mlflow.data.from_pandas(frame, source="http://x/data.csv", name="frame"), context="training")
    mlflow.log_input(mlflow.data.from_numpy(np.zeros((3, 2)), name="zeros"), tags={"k": "v"})
    with mlflow.start_run(run_name="inner", nested=True) as inner:
        mlflow.log_metric("loss", 0.0)
    mlflow.set_tag("gone", "x")
    mlflow.delete_tag("gone")
seen["outer"] = shown(client.get_run(outer.info.run_id))
seen["inner"] = shown(client.get_run(inner.info.run_id))
seen["nested"] = client.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
with mlflow.start_run(run_id=outer.info.run_id):
    mlflow.log_metric("loss", 9, step=9)
seen["resumed"] = shown(client.get_run(outer.info.run_id))
seen["history"] = [(point.step, point.value) for point in client.get_metric_history(outer.info.run_id, "loss")]
seen["failed"] = []
try:
    with mlflow.start_run(run_name="failing"):
        raise ValueError
except ValueError:
    seen["failed"] = mlflow.search_runs(filter_string="status = 'FAILED'")["tags.mlflow.runName"].tolist()
frame = mlflow.search_runs(order_by=["metrics.loss DESC"])
seen["frame"] = {
    "columns": sorted(frame.columns),
    "names": frame["tags.mlflow.runName"].tolist(),
    "loss": frame["metrics.loss"].astype(str).tolist(),
}
seen["same value again"] = refused(client.log_param, outer.info.run_id, "lr", 0.1)
seen["another value"] = refused(client.log_param, outer.info.run_id, "lr", 0.2)

# batches, synchronous and not
run = client.create_run(experiment.experiment_id, run_name="batches").info.run_id
client.log_batch(run, [Metric("m", n / 3, n, n) for n in range(1000)], tags=[RunTag("t", "1")])
client.log_batch(run, [], [Param(f"p{n}", str(n)) for n in range(100)], synchronous=False).wait()
client.set_terminated(run, "KILLED")
seen["batches"] = shown(client.get_run(run))
seen["thousand"] = len(client.get_metric_history(run, "m"))
plain = client.create_run(experiment.experiment_id)
seen["plain"] = {"user": plain.info.user_id, "name": len(plain.info.run_name.split("-")), "status": plain.info.status}

# every comparator
exp = client.create_experiment("search", tags={"kind": "test"})
ids = {}
for name, (value, text, status) in {
    "a": (1.0, "one", "FINISHED"),
    "b": (2.0, "Two", "FAILED"),
    "c": (3.0, "three", "KILLED"),
}.items():
    made = client.create_run(exp, run_name=name, start_time=ord(name), tags={"odd key": text})
    ids[name] = made.info.run_id
    client.log_metric(ids[name], "v", value)
    client.log_param(ids[name], "p", text)
    client.set_terminated(ids[name], status, ord(name) + 1)
client.log_param(ids["a"], "only", "x")
FILTERS = [
    *(f"metrics.v {sign} 2" for sign in ("=", "!=", "<", "<=", ">", ">=")),
    *(f"{field} {sign} 'Two'" for field in ("params.p", "tags.`odd key`") for sign in ("=", "!=", "LIKE", "ILIKE")),
    "params.p ILIKE 't%'", "params.p LIKE 't%'", "params.only IS NULL", "params.only IS NOT NULL", "status IN ('FAILED')",
    "attributes.status = 'FAILED'", "status != 'FAILED'", "run_name LIKE '_'", "run_name != 'a'", "start_time > 97", "end_time <= 98",
    f"run_id IN ('{ids['a']}', '{ids['b']}')", f"run_id NOT IN ('{ids['a']}')", f"run_id = '{ids['c']}'", "metrics.v > 1 AND params.p = 'three'",
    "metrics.v = 1 OR metrics.v = 2", "dataset.name = 'x'", "metrics.v > 'x'", "nothing.v > 1",
]  # fmt: skip
seen["filters"] = {}
for text in FILTERS:
    label = text
    for name, value in ids.items():
        label = label.replace(value, name)
    try:
        seen["filters"][label] = [
            one.info.run_name for one in client.search_runs([exp], text, order_by=["attributes.run_name"])
        ]
    except MlflowException as e:
        seen["filters"][label] = [e.error_code]
seen["orders"] = {
    order: [one.info.run_name for one in client.search_runs([exp], order_by=[order])]
    for order in ("metrics.v DESC", "params.p", "params.only", "start_time", "tags.`odd key` DESC", "end_time DESC")
}
pages, token = [], None
while True:
    page = client.search_runs([exp], max_results=2, page_token=token)
    pages.append([one.info.run_name for one in page])
    token = page.token
    if not token:
        break
seen["pages"] = pages

# deletion
client.delete_run(ids["a"])
seen["deleted"] = [
    [one.info.run_name for one in client.search_runs([exp], run_view_type=view)]
    for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL)
]
seen["writing to it"] = refused(client.log_metric, ids["a"], "v", 1.0)
client.restore_run(ids["a"])
client.delete_experiment(exp)
seen["experiment"] = [client.get_experiment(exp).lifecycle_stage, client.get_run(ids["b"]).info.lifecycle_stage]
seen["its name"] = refused(client.create_experiment, "search")
client.restore_experiment(exp)
client.rename_experiment(exp, "renamed")
client.set_experiment_tag(exp, "k", "v")
found = client.search_experiments(filter_string="tags.kind = 'test' AND name LIKE 'ren%'")
seen["experiments"] = [(one.name, one.tags, one.artifact_location, one.lifecycle_stage) for one in found]
seen["all"] = sorted(one.name for one in client.search_experiments(max_results=2))
seen["absent"] = [
    refused(client.get_run, "0" * 32),
    refused(client.get_experiment, "12345"),
    str(client.get_experiment_by_name("x")),
]
seen["bad"] = [
    refused(client.log_metric, run, "a;b", 1.0), refused(client.log_batch, run, [Metric("../x", 1.0, 1, 1)]),
    refused(client.set_tag, run, "../x", "1"), refused(client.create_experiment, ""), refused(client.search_runs, ["x"]),
    refused(client.search_runs, [exp], max_results=100_000),
]  # fmt: skip
json.dump(seen, sys.stdout, default=str)
