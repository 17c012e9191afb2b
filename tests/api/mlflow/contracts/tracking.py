"""Experiments, runs, metrics and search, as MLflow's own server answers them."""

from __future__ import annotations

from contracts.contract import Call, get, post

TEXT = "text/plain"


def _tags(**tags: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _metric(key: str, value: object, timestamp: object = 1, step: object = 0) -> dict[str, object]:
    return {"key": key, "value": value, "timestamp": timestamp, "step": step}


EXPERIMENTS = [
    get("the default experiment", "experiments/get", {"experiment_id": "0"}),
    post("create an experiment", "experiments/create", {"name": "first", "tags": _tags(team="red")}, keep={"first": "experiment_id"}),
    post("a name twice", "experiments/create", {"name": "first"}),
    post("no name", "experiments/create", {}),
    post("an empty name", "experiments/create", {"name": ""}),
    post("a name that is a number", "experiments/create", {"name": 12}),
    post("a name that is too long", "experiments/create", {"name": "x" * 501}),
    post("odd names", "experiments/create", {"name": "/users/ä b/../c"}, keep={"odd": "experiment_id"}),
    post("a tag without a path of its own", "experiments/create", {"name": "tagged", "tags": _tags(**{"../x": "1"})}),
    post("a location of its own", "experiments/create", {"name": "elsewhere", "artifact_location": "s3://bucket/a"}, keep={"far": "experiment_id"}),
    get("read it", "experiments/get", {"experiment_id": "{first}"}),
    get("read where its artifacts are", "experiments/get", {"experiment_id": "{far}"}),
    get("no id", "experiments/get"),
    get("an id that is none", "experiments/get", {"experiment_id": "abc"}),
    get("an id that is not there", "experiments/get", {"experiment_id": "999"}),
    get("by name", "experiments/get-by-name", {"experiment_name": "first"}),
    get("by a name that is not there", "experiments/get-by-name", {"experiment_name": "none"}),
    get("by an odd name", "experiments/get-by-name", {"experiment_name": "/users/ä b/../c"}),
    post("set a tag", "experiments/set-experiment-tag", {"experiment_id": "{first}", "key": "size", "value": "12"}),
    post("set it anew", "experiments/set-experiment-tag", {"experiment_id": "{first}", "key": "size", "value": "13"}),
    post("set one without a value", "experiments/set-experiment-tag", {"experiment_id": "{first}", "key": "empty"}),
    post("set one without a key", "experiments/set-experiment-tag", {"experiment_id": "{first}", "value": "x"}),
    post("set one that is too long", "experiments/set-experiment-tag", {"experiment_id": "{first}", "key": "k", "value": "x" * 20_001}),
    post("set one of an experiment that is not there", "experiments/set-experiment-tag", {"experiment_id": "999", "key": "k", "value": "x"}),
    post("remove a tag", "experiments/delete-experiment-tag", {"experiment_id": "{first}", "key": "empty"}),
    post("remove a tag that is not there", "experiments/delete-experiment-tag", {"experiment_id": "{first}", "key": "empty"}),
    post("rename", "experiments/update", {"experiment_id": "{first}", "new_name": "renamed"}),
    post("rename without a name", "experiments/update", {"experiment_id": "{first}"}),
    get("read the renamed", "experiments/get", {"experiment_id": "{first}"}),
    post("create one to delete", "experiments/create", {"name": "short"}, keep={"short": "experiment_id"}),
    post("a run in it", "runs/create", {"experiment_id": "{short}", "start_time": 5, "run_name": "inside"}, keep={"inside": "run.info.run_id"}),
    post("delete it", "experiments/delete", {"experiment_id": "{short}"}),
    post("delete it again", "experiments/delete", {"experiment_id": "{short}"}),
    get("read the deleted", "experiments/get", {"experiment_id": "{short}"}),
    get("its run is deleted, too", "runs/get", {"run_id": "{inside}"}),
    post("its name is taken", "experiments/create", {"name": "short"}),
    post("a run in a deleted experiment", "runs/create", {"experiment_id": "{short}", "start_time": 5}),
    post("tag a deleted experiment", "experiments/set-experiment-tag", {"experiment_id": "{short}", "key": "k", "value": "x"}),
    post(
        "rename a deleted experiment", "experiments/update", {"experiment_id": "{short}", "new_name": "other"},
        differs="MLflow answers 500, upon which its client tries again for minutes", ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    post("restore it", "experiments/restore", {"experiment_id": "{short}"}),
    post("restore it again", "experiments/restore", {"experiment_id": "{short}"}),
    get("its run is live again", "runs/get", {"run_id": "{inside}"}),
    post("search experiments", "experiments/search", {"max_results": 10, "order_by": ["name"]}),
    get("search by GET", "experiments/search", {"max_results": 10, "order_by": ["name DESC"], "view_type": "ACTIVE_ONLY"}),
    post("search without a size", "experiments/search", {}),
    post("search with a size of 0", "experiments/search", {"max_results": 0}),
    post("search with a size too large", "experiments/search", {"max_results": 50_001}),
    post("search by name", "experiments/search", {"max_results": 10, "filter": "name = 'renamed'"}),
    post("search by LIKE", "experiments/search", {"max_results": 10, "filter": "name LIKE 'rena%'"}),
    post("LIKE looks at the case", "experiments/search", {"max_results": 10, "filter": "name LIKE 'RENA%'"}),
    post("search by ILIKE", "experiments/search", {"max_results": 10, "filter": "attribute.name ILIKE 'RENA%'"}),
    post("search by a tag", "experiments/search", {"max_results": 10, "filter": "tags.team = 'red' AND tag.size != '12'"}),
    post("search for no tag", "experiments/search", {"max_results": 10, "filter": "tags.team IS NULL", "order_by": ["name"]}),
    post("search for a tag", "experiments/search", {"max_results": 10, "filter": "tags.team IS NOT NULL"}),
    post("search by time", "experiments/search", {"max_results": 10, "filter": "creation_time > 0 AND name = 'renamed'"}),
    post("search by id", "experiments/search", {"max_results": 10, "filter": "experiment_id IN ('0')"}),
    post("search by what is no attribute", "experiments/search", {"max_results": 10, "filter": "weight = 'x'"}),
    post("search by what is no entity", "experiments/search", {"max_results": 10, "filter": "metrics.size = 'x'"}),
    post("search with OR", "experiments/search", {"max_results": 10, "filter": "name = 'a' OR name = 'b'"}),
    post("search with a number for a text", "experiments/search", {"max_results": 10, "filter": "name = 1"}),
    post("the first page", "experiments/search", {"max_results": 2, "order_by": ["experiment_id"]}, keep={"page": "next_page_token"}),
    post("the next page", "experiments/search", {"max_results": 2, "order_by": ["experiment_id"], "page_token": "{page}"}),
    post("a page that is none", "experiments/search", {"max_results": 2, "page_token": "evilhax"}),
    post("a page that is no JSON", "experiments/search", {"max_results": 2, "page_token": "aGVsbG8="}),
    post("order by what is no attribute", "experiments/search", {"max_results": 2, "order_by": ["weight"]}),
    post("a run in the default experiment", "runs/create", {"experiment_id": "0", "start_time": 5, "run_name": "plain"}, keep={"plain": "run.info.run_id"}),
    post("delete the default experiment", "experiments/delete", {"experiment_id": "0"}),
    post("delete it twice", "experiments/delete", {"experiment_id": "0"}),
    get("read the deleted default experiment", "experiments/get", {"experiment_id": "0"}),
    get("read it by name", "experiments/get-by-name", {"experiment_name": "Default"}),
    get("its run went with it", "runs/get", {"run_id": "{plain}"}),
    post("a run that names no experiment", "runs/create", {"start_time": 5}),
    post("a run in the deleted default experiment", "runs/create", {"experiment_id": "0", "start_time": 5}),
    post("its name is taken, too", "experiments/create", {"name": "Default"}),
    post("search without it", "experiments/search", {"max_results": 10, "filter": "name = 'Default'"}),
    post("search for deleted ones", "experiments/search", {"max_results": 10, "view_type": "DELETED_ONLY"}),
    post("restore the default experiment", "experiments/restore", {"experiment_id": "0"}),
    get("its run came back with it", "runs/get", {"run_id": "{plain}"}),
]  # fmt: skip

RUNS = [
    post("a group of runs", "experiments/create", {"name": "runs"}, keep={"runs": "experiment_id"}),
    post(
        "create a run", "runs/create",
        {"experiment_id": "{runs}", "user_id": "ann", "start_time": "1700000000000", "run_name": "one", "tags": _tags(**{"mlflow.user": "ann", "team": "red"})},
        keep={"one": "run.info.run_id"},
    ),
    post("create one with nothing said", "runs/create", {"experiment_id": "{runs}"}, keep={"two": "run.info.run_id"}),
    post("create one named by its tag", "runs/create", {"experiment_id": "{runs}", "start_time": 2, "tags": _tags(**{"mlflow.runName": "three"})}, keep={"three": "run.info.run_id"}),
    post("two names", "runs/create", {"experiment_id": "{runs}", "run_name": "a", "tags": _tags(**{"mlflow.runName": "b"})}),
    post("a beginning that is none", "runs/create", {"experiment_id": "{runs}", "start_time": "soon"}),
    post("a run of no experiment", "runs/create", {"experiment_id": "777", "start_time": 1}),
    post("a run of an experiment that is none", "runs/create", {"experiment_id": "x", "start_time": 1}),
    post("a child", "runs/create", {"experiment_id": "{runs}", "start_time": 3, "run_name": "child", "tags": _tags(**{"mlflow.parentRunId": "{one}"})}, keep={"child": "run.info.run_id"}),
    get("read it", "runs/get", {"run_id": "{one}"}),
    get("read it by its old name", "runs/get", {"run_uuid": "{one}"}),
    get("no id", "runs/get"),
    get("an id that is not there", "runs/get", {"run_id": "0" * 32}),
    post("log a metric", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 0.5, "timestamp": 10, "step": 1}),
    post("the same point", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 0.5, "timestamp": 10, "step": 1}),
    post("numbers as texts", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": "0.25", "timestamp": "11", "step": "2"}),
    post("no step", "runs/log-metric", {"run_uuid": "{one}", "key": "plain", "value": 3, "timestamp": 12}),
    post("NaN", "runs/log-metric", {"run_id": "{one}", "key": "nan", "value": "NaN", "timestamp": 13}),
    post("infinity", "runs/log-metric", {"run_id": "{one}", "key": "inf", "value": "Infinity", "timestamp": 14}),
    post("minus infinity", "runs/log-metric", {"run_id": "{one}", "key": "-inf", "value": "-Infinity", "timestamp": 15}),
    post("a negative step", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 1, "timestamp": 16, "step": -3}),
    post("no value", "runs/log-metric", {"run_id": "{one}", "key": "loss", "timestamp": 1}),
    post("no time", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 1}),
    post("no key", "runs/log-metric", {"run_id": "{one}", "value": 1, "timestamp": 1}),
    post("no run", "runs/log-metric", {"key": "loss", "value": 1, "timestamp": 1}),
    post("a value that is none", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": "high", "timestamp": 1}),
    post("a time that is none", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 1, "timestamp": "now"}),
    post("a time below 0", "runs/log-metric", {"run_id": "{one}", "key": "loss", "value": 1, "timestamp": -1}),
    post("a key with odd signs", "runs/log-metric", {"run_id": "{one}", "key": "a;b", "value": 1, "timestamp": 1}),
    post("a key that climbs", "runs/log-metric", {"run_id": "{one}", "key": "../a", "value": 1, "timestamp": 1}),
    post("a key with slashes", "runs/log-metric", {"run_id": "{one}", "key": "train/loss 1:a", "value": 1, "timestamp": 1}),
    post("a key in another script", "runs/log-metric", {"run_id": "{one}", "key": "größe", "value": 1, "timestamp": 1}),
    post("a key that is too long", "runs/log-metric", {"run_id": "{one}", "key": "k" * 251, "value": 1, "timestamp": 1}),
    post("a metric of no run", "runs/log-metric", {"run_id": "0" * 32, "key": "loss", "value": 1, "timestamp": 1}),
    post("log a param", "runs/log-parameter", {"run_id": "{one}", "key": "lr", "value": "0.1"}),
    post("the same again", "runs/log-parameter", {"run_id": "{one}", "key": "lr", "value": "0.1"}),
    post("another value", "runs/log-parameter", {"run_id": "{one}", "key": "lr", "value": "0.2"}),
    post("a param without a value", "runs/log-parameter", {"run_id": "{one}", "key": "none"}),
    post("a param that is a number", "runs/log-parameter", {"run_id": "{one}", "key": "n", "value": 1}),
    post("a param that is too long", "runs/log-parameter", {"run_id": "{one}", "key": "long", "value": "x" * 6001}),
    post("a param without a key", "runs/log-parameter", {"run_id": "{one}", "value": "x"}),
    post("a param with an odd key", "runs/log-parameter", {"run_id": "{one}", "key": "a/../b", "value": "x"}),
    post("set a tag", "runs/set-tag", {"run_id": "{one}", "key": "color", "value": "blue"}),
    post("set it anew", "runs/set-tag", {"run_id": "{one}", "key": "color", "value": "green"}),
    post("set an empty one", "runs/set-tag", {"run_id": "{one}", "key": "empty", "value": ""}),
    post("a tag that is too long", "runs/set-tag", {"run_id": "{one}", "key": "long", "value": "x" * 8001}),
    post("a tag without a key", "runs/set-tag", {"run_id": "{one}", "value": "x"}),
    post("rename by the tag", "runs/set-tag", {"run_id": "{two}", "key": "mlflow.runName", "value": "second"}),
    get("the name is new", "runs/get", {"run_id": "{two}"}),
    post("remove a tag", "runs/delete-tag", {"run_id": "{one}", "key": "color"}),
    post("remove it again", "runs/delete-tag", {"run_id": "{one}", "key": "color"}),
    post("end it", "runs/update", {"run_id": "{one}", "status": "FINISHED", "end_time": 1700000005000}),
    post("rename it", "runs/update", {"run_id": "{one}", "run_name": "uno"}),
    post("resume it", "runs/update", {"run_id": "{one}", "status": "RUNNING"}),
    post("a status by number", "runs/update", {"run_id": "{three}", "status": 4}),
    post("scheduled", "runs/update", {"run_id": "{three}", "status": "SCHEDULED"}),
    post("a status that is none", "runs/update", {"run_id": "{three}", "status": "SLEEPING"}),
    post("an end that is none", "runs/update", {"run_id": "{three}", "end_time": "late"}),
    post("change no run", "runs/update", {"run_id": "0" * 32, "status": "FAILED"}),
    get("all of it", "runs/get", {"run_id": "{one}"}),
    post("delete it", "runs/delete", {"run_id": "{three}"}),
    post("delete it again", "runs/delete", {"run_id": "{three}"}),
    post("delete none", "runs/delete", {"run_id": "0" * 32}),
    get("read the deleted", "runs/get", {"run_id": "{three}"}),
    post("a metric of a deleted run", "runs/log-metric", {"run_id": "{three}", "key": "loss", "value": 1, "timestamp": 1}),
    post("a param of a deleted run", "runs/log-parameter", {"run_id": "{three}", "key": "p", "value": "1"}),
    post("a tag of a deleted run", "runs/set-tag", {"run_id": "{three}", "key": "t", "value": "1"}),
    post("a batch of a deleted run", "runs/log-batch", {"run_id": "{three}", "tags": _tags(a="1")}),
    post("change a deleted run", "runs/update", {"run_id": "{three}", "status": "FAILED"}),
    post("restore it", "runs/restore", {"run_id": "{three}"}),
    post("restore it again", "runs/restore", {"run_id": "{three}"}),
    get("read the restored", "runs/get", {"run_id": "{three}"}),
]  # fmt: skip

BATCHES = [
    post("a run for batches", "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "batched"}, keep={"run": "run.info.run_id"}),
    post(
        "a batch", "runs/log-batch",
        {
            "run_id": "{run}", "metrics": [_metric("a", 1, 1, 0), _metric("a", 2, 1, 1), _metric("b", "NaN"), _metric("a", 2, 1, 1)],
            "params": _tags(p="1", q="x"), "tags": _tags(t="1"),
        },
    ),
    post("an empty batch", "runs/log-batch", {"run_id": "{run}"}),
    post("a batch without a run", "runs/log-batch", {"metrics": [_metric("a", 1)]}),
    post("a run's id that is none", "runs/log-batch", {"run_id": "../x", "metrics": [_metric("a", 1)]}),
    post("a run that is not there", "runs/log-batch", {"run_id": "0" * 32, "metrics": [_metric("a", 1)]}),
    post("a point without a key", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("a", 1), {"value": 1, "timestamp": 1}]}),
    post("a point without a value", "runs/log-batch", {"run_id": "{run}", "metrics": [{"key": "a", "timestamp": 1}]}),
    post("a point without a time", "runs/log-batch", {"run_id": "{run}", "metrics": [{"key": "a", "value": 1}]}),
    post("a param without a key", "runs/log-batch", {"run_id": "{run}", "params": [{"value": "1"}]}),
    post("a tag without a key", "runs/log-batch", {"run_id": "{run}", "tags": [{"value": "1"}]}),
    post("metrics that are none", "runs/log-batch", {"run_id": "{run}", "metrics": "foo"}),
    post("tags that are none", "runs/log-batch", {"run_id": "{run}", "tags": {"a": 1}}),
    post("a bad key behind good ones", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("c", 1), _metric("../c", 1)]}),
    post("a bad param behind good metrics", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("c", 1)], "params": _tags(**{"x;y": "1"})}),
    post("a long param", "runs/log-batch", {"run_id": "{run}", "params": _tags(long="x" * 6001)}),
    post("a long tag", "runs/log-batch", {"run_id": "{run}", "tags": _tags(long="x" * 8001)}),
    post("too many metrics", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("m", n, 1, n) for n in range(1001)]}),
    post("too many params", "runs/log-batch", {"run_id": "{run}", "params": [{"key": f"p{n}", "value": "1"} for n in range(101)]}),
    post("too many tags", "runs/log-batch", {"run_id": "{run}", "tags": [{"key": f"t{n}", "value": "1"} for n in range(101)]}),
    post("too much in all", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("m", n, 1, n) for n in range(990)], "tags": [{"key": f"t{n}", "value": "1"} for n in range(11)]}),
    post("a param twice", "runs/log-batch", {"run_id": "{run}", "params": [*_tags(z="1"), *_tags(z="1")]}),
    post("a tag twice", "runs/log-batch", {"run_id": "{run}", "tags": [*_tags(z="1"), *_tags(z="2")]}),
    post("params that are set", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("never", 1)], "params": _tags(p="2", new="1")}),
    post("rename in a batch", "runs/log-batch", {"run_id": "{run}", "tags": _tags(**{"mlflow.runName": "renamed"})}),
    get("what is there of it", "runs/get", {"run_id": "{run}"}),
    Call(
        "no JSON", "POST", "runs/log-batch", raw=b"{", headers={"Content-Type": "application/json"},
        differs="MLflow answers 500", ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    Call("no JSON elsewhere", "POST", "runs/set-tag", raw=b"{", headers={"Content-Type": "application/json"}),
    Call("no media type", "POST", "runs/set-tag", raw=b"{}"),
    Call("another media type", "POST", "runs/set-tag", raw=b"{}", headers={"Content-Type": "text/plain"}),
    Call("JSON in a text", "POST", "runs/set-tag", raw=b'"{\\"run_id\\": \\"0\\", \\"key\\": \\"k\\"}"', headers={"Content-Type": "application/json"}),
    post(
        "a value of a batch that is none", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("a", "abc")]},
        differs="MLflow takes the point, as 0", ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    post(
        "a step beyond 64 bits", "runs/log-metric", {"run_id": "{run}", "key": "far", "value": 1, "timestamp": 1, "step": 2**63},
        differs="MLflow takes the point, at step 0", ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    post("the largest step", "runs/log-metric", {"run_id": "{run}", "key": "far", "value": 1, "timestamp": 1, "step": 2**63 - 1}),
    post(
        "datasets", "runs/log-inputs",
        {
            "run_id": "{run}",
            "datasets": [
                {"tags": _tags(**{"mlflow.data.context": "training"}), "dataset": {"name": "d", "digest": "1a", "source_type": "local", "source": "{}", "schema": "s", "profile": "p"}},
                {"dataset": {"name": "e", "digest": "2b", "source_type": "local", "source": "x"}},
            ],
        },
    ),
    post("a dataset again", "runs/log-inputs", {"run_id": "{run}", "datasets": [{"dataset": {"name": "d", "digest": "1a", "source_type": "local", "source": "{}"}}]}),
    post("a dataset with a long digest", "runs/log-inputs", {"run_id": "{run}", "datasets": [{"dataset": {"name": "d", "digest": "1" * 37, "source_type": "a", "source": "b"}}]}),
    post("a dataset with a long name", "runs/log-inputs", {"run_id": "{run}", "datasets": [{"dataset": {"name": "d" * 501, "digest": "1", "source_type": "a", "source": "b"}}]}),
    post("datasets of no run", "runs/log-inputs", {"datasets": []}),
    get("the run with its datasets", "runs/get", {"run_id": "{run}"}),
    post("search datasets", "/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["0"]}),
    post("search no datasets", "/ajax-api/2.0/mlflow/experiments/search-datasets", {}),
    post("search datasets by the path that is declared", "/api/2.0mlflow/experiments/search-datasets", {"experiment_ids": ["0"]},
         differs="MLflow declares the path so, and does not answer there", ours=(200, "")),
    post("search datasets by the path that was meant", "/api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["0"]},
         differs="MLflow answers its own page alone", ours=(200, "")),
    post(
        "a model's description", "runs/log-model",
        {"run_id": "{run}", "model_json": '{"artifact_path": "m", "flavors": {"a": {"b": 1}}, "utc_time_created": "2024", "run_id": "x", "more": 1}'},
    ),
    post("a description that is no JSON", "runs/log-model", {"run_id": "{run}", "model_json": "oops"}),
    post("a description without parts", "runs/log-model", {"run_id": "{run}", "model_json": '{"artifact_path": "m", "flavors": {}, "run_id": "x"}'}),
    get("the run with the description", "runs/get", {"run_id": "{run}"}),
]  # fmt: skip

METRICS = [
    post("a run with a history", "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "long"}, keep={"run": "run.info.run_id"}),
    post("another", "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "other"}, keep={"other": "run.info.run_id"}),
    post("ten points", "runs/log-batch", {"run_id": "{run}", "metrics": [_metric("m", n * 1.5, 100 - n, n) for n in range(10)]}),
    post("points of the other", "runs/log-batch", {"run_id": "{other}", "metrics": [_metric("m", n, n, n // 2) for n in range(7)]}),
    get("the history", "metrics/get-history", {"run_id": "{run}", "metric_key": "m"}),
    get("a page of it", "metrics/get-history", {"run_id": "{run}", "metric_key": "m", "max_results": 4}, keep={"page": "next_page_token"}),
    get("the next page", "metrics/get-history", {"run_id": "{run}", "metric_key": "m", "max_results": 6, "page_token": "{page}"}),
    get("no points at once", "metrics/get-history", {"run_id": "{run}", "metric_key": "m", "max_results": 0}),
    get("a history that is not there", "metrics/get-history", {"run_id": "{run}", "metric_key": "none"}),
    get("a history of no run", "metrics/get-history", {"run_id": "0" * 32, "metric_key": "m"},
        differs="MLflow answers that there are no points", ours=(404, "RESOURCE_DOES_NOT_EXIST")),
    get("no key", "metrics/get-history", {"run_id": "{run}"}),
    get("several runs", "metrics/get-history-bulk-interval", {"run_ids": ["{run}", "{other}"], "metric_key": "m", "max_results": 4}),
    get("between steps", "metrics/get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "start_step": 3, "end_step": 6}),
    get("one step alone", "metrics/get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "start_step": 3}),
    get("steps the wrong way round", "metrics/get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "start_step": 3, "end_step": 2}),
    get("no runs", "metrics/get-history-bulk-interval", {"metric_key": "m"}),
    get("too many points", "metrics/get-history-bulk-interval", {"run_ids": ["{run}"], "metric_key": "m", "max_results": 2501}),
    get("too many runs", "metrics/get-history-bulk-interval", {"run_ids": ["{run}"] * 101, "metric_key": "m"}),
    get("histories for the page", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", {"run_id": ["{run}"], "metric_key": "m"}),
    get("histories of no run", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", {"metric_key": "m"}),
    get("histories of no metric", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", {"run_id": ["{run}"]}),
]  # fmt: skip

_VALUES = {"a": ("1", "x", "red"), "b": ("2", "Xy", "blue"), "c": ("10", "z", "Red"), "d": ("NaN", "x", "")}


def _made() -> list[Call]:
    """Runs to look for."""
    calls = [post("an experiment to search", "experiments/create", {"name": "search"}, keep={"exp": "experiment_id"})]
    for place, (name, (number, param, tag)) in enumerate(_VALUES.items()):
        calls.append(
            post(
                f"the run {name}", "runs/create",
                {"experiment_id": "{exp}", "start_time": 1000 + place, "run_name": f"run {name}", "tags": _tags(color=tag, **{"odd key": name})},
                keep={f"run_{name}": "run.info.run_id"},
            )
        )  # fmt: skip
        batch = {
            "run_id": f"{{run_{name}}}", "metrics": [_metric("m", number)] if name != "d" else [_metric("m", "NaN")],
            "params": _tags(p=param, n=number, **({"only": "1"} if name == "b" else {})),
        }  # fmt: skip
        calls.append(post(f"what the run {name} logged", "runs/log-batch", batch))
    calls += [
        post("a run without anything", "runs/create", {"experiment_id": "{exp}", "start_time": 1004, "run_name": "bare"}, keep={"run_e": "run.info.run_id"}),
        post("one ended", "runs/update", {"run_id": "{run_a}", "status": "FINISHED", "end_time": 5000}),
        post("one failed", "runs/update", {"run_id": "{run_b}", "status": "FAILED", "end_time": 6000}),
        post("what one read", "runs/log-inputs", {"run_id": "{run_c}", "datasets": [{"tags": _tags(**{"mlflow.data.context": "train"}), "dataset": {"name": "data one", "digest": "abc", "source_type": "l", "source": "s"}}]}),
        post("one deleted", "runs/create", {"experiment_id": "{exp}", "start_time": 1005, "run_name": "gone"}, keep={"run_f": "run.info.run_id"}),
        post("it is deleted", "runs/delete", {"run_id": "{run_f}"}),
    ]  # fmt: skip
    return calls


_FILTERS = [
    "metrics.m > 1", "metrics.m >= 2", "metrics.m != 1", "metric.m = 10", "metrics.m < 10", "metrics.m <= 1.0", "metrics.`m` = 2",
    "metrics.m = -1.5e3", "params.p = 'x'", "params.p != 'x'", "params.p LIKE 'X%'", "params.p ILIKE 'X%'", "param.n = '10'",
    "parameter.n = \"10\"", "parameters.p LIKE '%'", "params.only IS NULL", "params.only IS NOT NULL", "tags.color = 'red'",
    "tag.color != 'red'", "tags.color ILIKE 'RED'", "tags.`odd key` = 'b'", "tags.\"odd key\" = 'c'", "tags.color IS NULL",
    "attributes.status = 'FINISHED'", "status != 'RUNNING'", "attribute.status LIKE 'F%'", "run_name = 'run a'",
    "attributes.run_name LIKE 'run %'", "run_id IN ('{run_a}', '{run_c}')", "attributes.run_id NOT IN ('{run_a}', '{run_c}')",
    "run_id = '{run_b}'", "start_time > 1001", "attr.start_time <= 1001", "end_time = 5000", "created >= 1003", "user_id = 'x'",
    "dataset.name = 'data one'", "datasets.digest LIKE 'a%'", "dataset.context = 'train'", "dataset.name != 'data one'",
    "dataset.name IN ('data one', 'b')", "metrics.m > 1 AND params.p = 'Xy' and tags.color = 'blue'", "params.p = 'x;y'",
    "tags.mlflow.runName = 'run a'", "metrics.m > 0 AND metrics.m < 5", "", "  ", "params.p = 'it''s'",
    "status = 'finished'", "status = 'NONE'",
]  # fmt: skip
"""Filters that are right."""

_WRONG = [
    "metrics.m > 1 OR metrics.m < 0", "metrics.m > 'x'", "params.p = 1", "tags.color > 'a'", "metrics.m LIKE 'x'", "params.p IN ('x')",
    "status IN ('FINISHED')", "start_time = 'x'", "weight = 'x'", "things.x = 'y'", "metrics.m", "metrics.m >", "params.p = x",
    "params.p = `x`", "metrics.m IS NULL", "status IS NULL", "dataset.size = 'x'", "dataset.name = 1", "run_id IN ()", "run_id IN (1)",
    "params.p == 'x'", "status > 'a'", "start_time LIKE '1'", "NOT params.p = 'x'", "metrics.m > 1; DROP TABLE runs", "params.p BETWEEN 'a' AND 'b'",
    "(params.p = 'x')", "metrics.m <> 1",
]  # fmt: skip
"""Filters that are not."""

_ORDERS: list[list[str]] = [
    [], ["metrics.m"], ["metrics.m DESC"], ["metrics.m ASC", "start_time"], ["params.p"], ["params.p DESC", "params.n"], ["params.n"],
    ["tags.color"], ["tags.color DESC"], ["attributes.start_time"], ["start_time DESC"], ["end_time"], ["end_time DESC"],
    ["attribute.status", "run_name DESC"], ["tags.`odd key` DESC"], ["run_name"], ["metrics.none"], ["created DESC"],
    ["weight"], ["metrics.m SIDEWAYS"], ["things.m"], ["dataset.name"], [""],
]  # fmt: skip

SEARCH = [
    *_made(),
    *(
        post(f"filter {n}: {text}", "runs/search", {"experiment_ids": ["{exp}"], "filter": text})
        for n, text in enumerate(_FILTERS)
    ),
    *(
        post(f"wrong filter {n}: {text}", "runs/search", {"experiment_ids": ["{exp}"], "filter": text})
        for n, text in enumerate(_WRONG)
    ),
    *(
        post(f"order {n}: {order}", "runs/search", {"experiment_ids": ["{exp}"], "order_by": order})
        for n, order in enumerate(_ORDERS)
    ),
    post(
        "the same order twice",
        "runs/search",
        {"experiment_ids": ["{exp}"], "order_by": ["metrics.m", "metrics.m DESC"]},
        differs="MLflow answers 500",
        ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    post("no experiment", "runs/search", {}),
    post("an experiment that is not there", "runs/search", {"experiment_ids": ["999"]}),
    post("an experiment that is none", "runs/search", {"experiment_ids": ["x"]}),
    post("deleted ones", "runs/search", {"experiment_ids": ["{exp}"], "run_view_type": "DELETED_ONLY"}),
    post("all of them", "runs/search", {"experiment_ids": ["{exp}"], "run_view_type": "ALL"}),
    post("a view by number", "runs/search", {"experiment_ids": ["{exp}"], "run_view_type": 2}),
    post(
        "the first page",
        "runs/search",
        {"experiment_ids": ["{exp}"], "max_results": 2},
        keep={"page": "next_page_token"},
    ),
    post(
        "the next page",
        "runs/search",
        {"experiment_ids": ["{exp}"], "max_results": 2, "page_token": "{page}"},
        keep={"page2": "next_page_token"},
    ),
    post("the last page", "runs/search", {"experiment_ids": ["{exp}"], "max_results": 2, "page_token": "{page2}"}),
    post("a page that is none", "runs/search", {"experiment_ids": ["{exp}"], "page_token": "evilhax"}),
    post("no results", "runs/search", {"experiment_ids": ["{exp}"], "max_results": 0}),
    post("too many results", "runs/search", {"experiment_ids": ["{exp}"], "max_results": 50_001}),
    post("experiments that are none", "runs/search", {"experiment_ids": "{exp}"}),
    post("a filter that is none", "runs/search", {"experiment_ids": ["{exp}"], "filter": 12}),
    post("orders that are none", "runs/search", {"experiment_ids": ["{exp}"], "order_by": [1]}),
]

TOPICS: dict[str, list[Call]] = {
    "experiments": EXPERIMENTS, "runs": RUNS, "batches": BATCHES, "metrics": METRICS, "search": SEARCH,
}  # fmt: skip
