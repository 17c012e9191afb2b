"""Registered models, model versions, aliases and logged models, as MLflow's own server answers them."""

from __future__ import annotations

from contracts.contract import Call, get, post


def patch(name: str, path: str, given: object = None, **more: object) -> Call:
    """A call by PATCH."""
    return Call(name, "PATCH", path, {} if given is None else given, **more)  # type: ignore[arg-type]


def delete(name: str, path: str, given: object = None, **more: object) -> Call:
    """A call by DELETE, which has a JSON body, too."""
    return Call(name, "DELETE", path, {} if given is None else given, **more)  # type: ignore[arg-type]


def _tags(**tags: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _version(name: str, source: str, **more: object) -> Call:
    return post(name, "model-versions/create", {"name": "M 1", "source": source, **more})


MODELS = [
    post("create", "registered-models/create", {"name": "M 1", "tags": _tags(a="b", z="y"), "description": "what it is"}),
    post("create it again", "registered-models/create", {"name": "M 1"}),
    post("no name", "registered-models/create", {}),
    post("an empty name", "registered-models/create", {"name": ""}),
    post("a blank name", "registered-models/create", {"name": " "}),
    post("a name with a slash", "registered-models/create", {"name": "a/b"}),
    post("a name with a colon", "registered-models/create", {"name": "a:b"}),
    post("a name that climbs", "registered-models/create", {"name": ".."}),
    post("a name of another type", "registered-models/create", {"name": [1]}),
    post("an odd name", "registered-models/create", {"name": "größe (neu) 100%"}),
    get("read it", "registered-models/get", {"name": "M 1"}),
    get("read the odd one", "registered-models/get", {"name": "größe (neu) 100%"}),
    get("read what is not there", "registered-models/get", {"name": "none"}),
    get("read nothing", "registered-models/get"),
    patch("describe", "registered-models/update", {"name": "M 1", "description": "better"}),
    patch("describe what is not there", "registered-models/update", {"name": "none", "description": "better"}),
    post("set a tag", "registered-models/set-tag", {"name": "M 1", "key": "k", "value": "v"}),
    post("set it anew", "registered-models/set-tag", {"name": "M 1", "key": "k", "value": "w"}),
    post("set one without a value", "registered-models/set-tag", {"name": "M 1", "key": "empty"}),
    post("set one without a key", "registered-models/set-tag", {"name": "M 1", "value": "v"}),
    post("set one of an odd key", "registered-models/set-tag", {"name": "M 1", "key": "k%", "value": "v"}),
    post("set one of a long key", "registered-models/set-tag", {"name": "M 1", "key": "k" * 251, "value": "v"}),
    post("set one too long", "registered-models/set-tag", {"name": "M 1", "key": "k", "value": "v" * 100_001}),
    post("set one of what is not there", "registered-models/set-tag", {"name": "none", "key": "k", "value": "v"}),
    delete("remove a tag", "registered-models/delete-tag", {"name": "M 1", "key": "empty"}),
    delete("remove a tag that is not there", "registered-models/delete-tag", {"name": "M 1", "key": "empty"}),
    get("read its tags", "registered-models/get", {"name": "M 1"}),
    post("another one", "registered-models/create", {"name": "other", "tags": _tags(k="x")}),
    post("a prompt", "registered-models/create", {"name": "ask", "tags": _tags(**{"mlflow.prompt.is_prompt": "true"})}),
    post("a model of a prompt's name", "registered-models/create", {"name": "ask"}),
    post("a prompt of a model's name", "registered-models/create", {"name": "M 1", "tags": _tags(**{"mlflow.prompt.is_prompt": "true"})}),
    get("all", "registered-models/search"),
    get("a page", "registered-models/search", {"max_results": 1}),
    get("too large a page", "registered-models/search", {"max_results": 1001}),
    get("a page of nothing", "registered-models/search", {"max_results": 0},
        differs="nobody goes on behind nothing: there is no next page", ours=(200, "")),
    get("a token that is none", "registered-models/search", {"page_token": "abc"}),
    *(
        get(f"search: {filter}", "registered-models/search", {"filter": filter})
        for filter in (
            "name = 'M 1'", "name LIKE 'M%'", "name ILIKE 'm%'", "name like 'm%'", "name != 'other'", "name IN ('M 1', 'x')",
            "name NOT IN ('M 1')", "tags.k = 'x'", "tag.k != 'x'", "tags.`k` LIKE '%'", "name = 'M 1' AND tags.k = 'w'",
            "attribute.name = 'other'", "tags.`mlflow.prompt.is_prompt` = 'true'", "tags.`mlflow.prompt.is_prompt` != 'true'",
            "name = 'a' OR name = 'b'", "name = 3", "name = M", "name > 'a'", "name", "foo = 'x'", "params.x = '1'", "tags.k = 1",
            "tags.k > 'a'", "name IN ()",
        )
    ),
    *(
        get(f"order: {order}", "registered-models/search", {"order_by": order})
        for order in ("name", "name DESC", "name ASC", "timestamp", "creation_timestamp", "foo", "name FOO")
    ),
    post("rename", "registered-models/rename", {"name": "other", "new_name": "another"}),
    get("its old name", "registered-models/get", {"name": "other"}),
    get("its new name", "registered-models/get", {"name": "another"}),
    post("the old name is free", "registered-models/create", {"name": "other"}),
    post("rename to a taken name", "registered-models/rename", {"name": "other", "new_name": "another"}),
    post("rename to nothing", "registered-models/rename", {"name": "other"}),
    post("rename to what cannot be", "registered-models/rename", {"name": "other", "new_name": "a/b"}),
    post("rename what is not there", "registered-models/rename", {"name": "none", "new_name": "b"}),
    delete("delete", "registered-models/delete", {"name": "another"}),
    delete("delete it again", "registered-models/delete", {"name": "another"}),
    delete("delete nothing", "registered-models/delete"),
    get("read the deleted", "registered-models/get", {"name": "another"}),
    post("its name is free", "registered-models/create", {"name": "another"}),
]  # fmt: skip

VERSIONS = [
    post("a model", "registered-models/create", {"name": "M 1"}),
    post("a run", "runs/create", {"experiment_id": "0", "start_time": 5, "user_id": "me"}, keep={"run": "run.info.run_id", "root": "run.info.artifact_uri"}),
    get("no version yet", "registered-models/get-latest-versions", {"name": "M 1"}),
    _version("somewhere else", "s3://bucket/model"),
    _version("of a run's files", "{root}/model", run_id="{run}"),
    _version("by the run", "runs:/{run}/model", run_id="{run}"),
    _version("of another version", "models:/M 1/1"),
    _version("with all that may be said", "dbfs:/x/y", run_id="nobody-knows", run_link="http://somewhere", description="said", tags=_tags(t="u")),
    _version("of a path", "/tmp/model"),
    _version("of a relative path", "model"),
    _version("of a path and a run", "file:///tmp/model", run_id="{run}"),
    _version("of a run's files without the run", "{root}/model"),
    _version("of another run's files", "mlflow-artifacts:/0/other/artifacts/model", run_id="{run}"),
    _version("by a run that is not named", "runs:/{run}/model"),
    _version("by another run", "runs:/other/model", run_id="{run}"),
    _version("of a logged model that is not named", "models:/m-123"),
    _version("of a version that is not there", "models:/M 1/99"),
    _version("of an alias that is not there", "models:/M 1@none"),
    _version("of what is not there", "models:/none/1"),
    _version("of a path that climbs", "s3://bucket/../model"),
    _version("of a path that climbs by escapes", "s3://bucket/%2e%2e/model"),
    _version("of a path that climbs doubly escaped", "mlflow-artifacts:/0/{run}/artifacts/%252e%252e/x", run_id="{run}"),
    _version("of a bucket alone", "s3://bucket"),
    _version(
        "over HTTP", "http://host/api/2.0/mlflow-artifacts/artifacts/x",
    )._replace(differs="MLflow's hint names a variable of its server", ours=(400, "INVALID_PARAMETER_VALUE")),
    _version("of nothing", ""),
    _version("a tag that cannot be", "s3://bucket/model", tags=_tags(**{"k%": "v"})),
    post("of a model that is not there", "model-versions/create", {"name": "none", "source": "s3://bucket/model"}),
    post("without a source", "model-versions/create", {"name": "M 1"}),
    get("read one", "model-versions/get", {"name": "M 1", "version": "1"}),
    get("read the one of which all was said", "model-versions/get", {"name": "M 1", "version": "5"}),
    get("read one that is not there", "model-versions/get", {"name": "M 1", "version": "99"}),
    get("read one of another model", "model-versions/get", {"name": "none", "version": "1"}),
    get("read one that is no number", "model-versions/get", {"name": "M 1", "version": "abc"}),
    get("read no one", "model-versions/get", {"name": "M 1"}),
    get("where its files are", "model-versions/get-download-uri", {"name": "M 1", "version": "1"}),
    get("where the files of a run are", "model-versions/get-download-uri", {"name": "M 1", "version": "2"}),
    get("where the files of another version are", "model-versions/get-download-uri", {"name": "M 1", "version": "4"}),
    patch("describe", "model-versions/update", {"name": "M 1", "version": "1", "description": "told"}),
    patch("describe what is not there", "model-versions/update", {"name": "M 1", "version": "99", "description": "told"}),
    post("set a tag", "model-versions/set-tag", {"name": "M 1", "version": "1", "key": "k", "value": "v"}),
    post("set a tag that cannot be", "model-versions/set-tag", {"name": "M 1", "version": "1", "key": "../k", "value": "v"}),
    post("set a tag of what is not there", "model-versions/set-tag", {"name": "M 1", "version": "99", "key": "k", "value": "v"}),
    post("set a tag of no number", "model-versions/set-tag", {"name": "M 1", "version": "x", "key": "k", "value": "v"}),
    delete("remove a tag that is not there", "model-versions/delete-tag", {"name": "M 1", "version": "1", "key": "none"}),
    get("read its tag", "model-versions/get", {"name": "M 1", "version": "1"}),
    delete("remove a tag", "model-versions/delete-tag", {"name": "M 1", "version": "1", "key": "k"}),
    post("a stage", "model-versions/transition-stage", {"name": "M 1", "version": "1", "stage": "production"}),
    post("the same stage", "model-versions/transition-stage", {"name": "M 1", "version": "2", "stage": "Production", "archive_existing_versions": False}),
    post("a stage, the others into the archive", "model-versions/transition-stage", {"name": "M 1", "version": "3", "stage": "Production", "archive_existing_versions": True}),
    get("which was there", "model-versions/get", {"name": "M 1", "version": "1"}),
    post("a stage that is none", "model-versions/transition-stage", {"name": "M 1", "version": "1", "stage": "Foo"}),
    post("no stage", "model-versions/transition-stage", {"name": "M 1", "version": "1"}),
    post("a stage of what is not there", "model-versions/transition-stage", {"name": "M 1", "version": "99", "stage": "Staging"}),
    post(
        "archiving for no stage", "model-versions/transition-stage", {"name": "M 1", "version": "1", "stage": "None", "archive_existing_versions": True},
        differs="MLflow answers 500, upon which its client tries again for minutes", ours=(400, "INVALID_PARAMETER_VALUE"),
    ),
    get("the newest of each stage", "registered-models/get-latest-versions", {"name": "M 1"}),
    post("the newest of some", "registered-models/get-latest-versions", {"name": "M 1", "stages": ["production", "staging"]}),
    post("the newest of a stage that is none", "registered-models/get-latest-versions", {"name": "M 1", "stages": ["x"]}),
    get("the model with them", "registered-models/get", {"name": "M 1"}),
    get("all models with them", "registered-models/search"),
    post("an alias", "registered-models/alias", {"name": "M 1", "alias": "champion", "version": "1"}),
    post("another one", "registered-models/alias", {"name": "M 1", "alias": "Blue-2", "version": "1"}),
    *(
        post(f"an alias {alias!r}", "registered-models/alias", {"name": "M 1", "alias": alias, "version": "1"})
        for alias in ("latest", "Latest", "v3", "V3", "a.b", "a b", "", "x" * 256)
    ),
    *(
        post(f"an alias {alias!r}", "registered-models/alias", {"name": "M 1", "alias": alias, "version": "1"},
             differs="it cannot stand in a ref", ours=(400, "INVALID_PARAMETER_VALUE"))
        for alias in ("7", "_x", "-", "größe", "x" * 129)
    ),
    post("an alias of what is not there", "registered-models/alias", {"name": "M 1", "alias": "champion", "version": "99"}),
    post("an alias of no number", "registered-models/alias", {"name": "M 1", "alias": "champion", "version": "x"}),
    post("an alias of nothing", "registered-models/alias", {"name": "M 1", "alias": "champion"}),
    get("by alias", "registered-models/alias", {"name": "M 1", "alias": "Blue-2"}) ._replace(
        differs="the aliases that Loopline does not take are not there", ours=(200, "")),
    get("the newest by its alias", "registered-models/alias", {"name": "M 1", "alias": "latest"}),
    get("by an alias that is not there", "registered-models/alias", {"name": "M 1", "alias": "none"}),
    get("by an alias of what is not there", "registered-models/alias", {"name": "none", "alias": "none"}),
    _version("of an alias", "models:/M 1@champion"),
    post("move it", "registered-models/alias", {"name": "M 1", "alias": "champion", "version": "2"}),
    get("where it is", "registered-models/alias", {"name": "M 1", "alias": "champion"}),
    delete("remove it", "registered-models/alias", {"name": "M 1", "alias": "champion"}),
    delete("remove it again", "registered-models/alias", {"name": "M 1", "alias": "champion"}),
    get("it is gone", "registered-models/alias", {"name": "M 1", "alias": "champion"}),
    post("another model", "registered-models/create", {"name": "B"}),
    post("with a version", "model-versions/create", {"name": "B", "source": "s3://bucket/b", "tags": _tags(k="v")}),
    *(
        get(f"search: {filter}", "model-versions/search", {"filter": filter, "order_by": ["name", "version_number"]})
        for filter in (
            "", "name = 'B'", "name != 'B'", "name LIKE 'M%'", "version_number > 2", "version_number = 1", "version_number <= '2'",
            "run_id = '{run}'", "run_id IN ('{run}')", "run_id = ''", "source_path = 's3://bucket/b'", "source_path LIKE 's3%'",
            "tags.k = 'v'", "tags.k != 'v'", "name = 'B' AND tags.k = 'v'", "version_number > 1.5", "version_number LIKE '1'",
            "source_path IN ('a')", "foo = 1", "creation_timestamp > 1", "name = 'a' OR name = 'b'", "tags.k > 'v'",
        )
    ),
    get("a page", "model-versions/search", {"max_results": 2, "order_by": ["version_number ASC", "name DESC"]}),
    get("too large a page", "model-versions/search", {"max_results": 200_001}),
    get("an order that is none", "model-versions/search", {"order_by": "foo"}),
    delete("delete one", "model-versions/delete", {"name": "M 1", "version": "2"}),
    delete("delete it again", "model-versions/delete", {"name": "M 1", "version": "2"}),
    get("it is gone", "model-versions/get", {"name": "M 1", "version": "2"}),
    delete("delete the newest", "model-versions/delete", {"name": "M 1", "version": "6"}),
    _version("its number is not given again", "s3://bucket/model"),
    delete("delete one that has aliases", "model-versions/delete", {"name": "M 1", "version": "1"}),
    get("they are gone", "registered-models/alias", {"name": "M 1", "alias": "Blue-2"}),
    delete("delete the model", "registered-models/delete", {"name": "M 1"}),
    get("its versions are gone", "model-versions/get", {"name": "M 1", "version": "3"}),
    post("make it again", "registered-models/create", {"name": "M 1"}),
    _version("its numbers begin anew", "s3://bucket/model"),
]  # fmt: skip

LOGGED = [
    post("an experiment", "experiments/create", {"name": "logged"}, keep={"exp": "experiment_id"}),
    post("a run", "runs/create", {"experiment_id": "{exp}", "start_time": 5, "user_id": "me"}, keep={"run": "run.info.run_id"}),
    post("create", "logged-models", {"experiment_id": "{exp}", "name": "first", "model_type": "tree", "source_run_id": "{run}",
         "params": _tags(rate="0.1"), "tags": _tags(team="red")}, keep={"model": "model.info.model_id"}),
    post("create one that says nothing", "logged-models", {"experiment_id": "{exp}"}, keep={"plain": "model.info.model_id"}),
    post("create one of a run that is not there", "logged-models", {"experiment_id": "{exp}", "name": "orphan", "source_run_id": "nobody-knows"}, keep={"orphan": "model.info.model_id"}),
    post("create without an experiment", "logged-models", {"name": "x"}),
    post("create in one that is not there", "logged-models", {"experiment_id": "999", "name": "x"}),
    *(post(f"create {name!r}", "logged-models", {"experiment_id": "{exp}", "name": name}) for name in ("a/b", "a:b", "a.b", "a%b", "a'b")),
    get("read", "logged-models/{model}"),
    get("read what is not there", "logged-models/m-none"),
    patch("ready", "logged-models/{model}", {"model_id": "{model}", "status": "LOGGED_MODEL_READY"}),
    patch("failed", "logged-models/{orphan}", {"model_id": "{orphan}", "status": 3}),
    patch("finish what is not there", "logged-models/m-none", {"model_id": "m-none", "status": "LOGGED_MODEL_READY"}),
    post("set params", "logged-models/{model}/params", {"model_id": "{model}", "params": _tags(depth="3")}),
    patch("set tags", "logged-models/{model}/tags", {"model_id": "{model}", "tags": _tags(team="blue", size="1")}),
    delete("remove a tag", "logged-models/{model}/tags/size"),
    delete("remove a tag that is not there", "logged-models/{model}/tags/size"),
    post("a metric of it", "runs/log-metric", {"run_id": "{run}", "key": "loss", "value": 0.25, "timestamp": 7, "step": 1, "model_id": "{model}",
         "dataset_name": "train", "dataset_digest": "d1"}),
    post("metrics of it", "runs/log-batch", {"run_id": "{run}", "metrics": [
        {"key": "acc", "value": 0.5, "timestamp": 8, "step": 0, "model_id": "{model}", "dataset_name": "test", "dataset_digest": "d2"},
        {"key": "acc", "value": 0.75, "timestamp": 9, "step": 1, "model_id": "{model}"},
        {"key": "acc", "value": 0.125, "timestamp": 9, "step": 1, "model_id": "{plain}"},
        {"key": "own", "value": 1.0, "timestamp": 9, "step": 1},
    ]}),
    get("read all of it", "logged-models/{model}"),
    get("the run has its own", "runs/get", {"run_id": "{run}"}),
    post("the run made it", "runs/outputs", {"run_id": "{run}", "models": [{"model_id": "{model}", "step": 3}]}),
    post("another run", "runs/create", {"experiment_id": "{exp}", "start_time": 6, "user_id": "me"}, keep={"reader": "run.info.run_id"}),
    post("reads it", "runs/log-inputs", {"run_id": "{reader}", "models": [{"model_id": "{model}"}]}),
    get("what the run made", "runs/get", {"run_id": "{run}"}),
    get("what the other read", "runs/get", {"run_id": "{reader}"}),
    post("runs are no logged models", "runs/search", {"experiment_ids": ["{exp}"], "order_by": ["start_time ASC"]}),
    *(
        post(f"search: {filter}", "logged-models/search", {"experiment_ids": ["{exp}"], "filter": filter, "order_by": [{"field_name": "creation_timestamp"}]})
        for filter in (
            "", "name = 'first'", "name LIKE 'firs%'", "name IN ('first', 'x')", "params.rate = '0.1'", "params.rate != '0.1'", "tags.team = 'blue'",
            "metrics.acc > 0.6", "metrics.acc < 0.6 AND name = 'first'", "metrics.loss = 0.25", "metrics.none > 0", "model_type = 'tree'",
            "source_run_id = '{run}'", "creation_timestamp > 5",
        )
    ),
    post("search by data", "logged-models/search", {"experiment_ids": ["{exp}"], "datasets": [{"dataset_name": "test"}]},
         differs="MLflow's own server finds nothing without a digest", ours=(200, "")),
    post("search by data and digest", "logged-models/search", {"experiment_ids": ["{exp}"], "datasets": [{"dataset_name": "test", "dataset_digest": "none"}]}),
    post("search by a metric on data", "logged-models/search", {"experiment_ids": ["{exp}"], "filter": "metrics.acc > 0.6", "datasets": [{"dataset_name": "test", "dataset_digest": "d2"}]}),
    post("search by data without a name", "logged-models/search", {"experiment_ids": ["{exp}"], "datasets": [{"dataset_digest": "d2"}]}),
    post("order by a metric", "logged-models/search", {"experiment_ids": ["{exp}"], "order_by": [{"field_name": "metrics.acc", "ascending": False}, {"field_name": "creation_timestamp"}]}),
    post("order by a metric, rising", "logged-models/search", {"experiment_ids": ["{exp}"], "order_by": [{"field_name": "metrics.acc"}, {"field_name": "creation_timestamp"}]}),
    post("order by what is none", "logged-models/search", {"experiment_ids": ["{exp}"], "order_by": [{"field_name": "foo"}]},
         differs="the class of the error is told as for any other", ours=(400, "INVALID_PARAMETER_VALUE")),
    post("order by a param", "logged-models/search", {"experiment_ids": ["{exp}"], "order_by": [{"field_name": "params.rate"}]}),
    post("a page", "logged-models/search", {"experiment_ids": ["{exp}"], "max_results": 1, "order_by": [{"field_name": "creation_timestamp", "ascending": True}]}),
    post("search nowhere", "logged-models/search", {}),
    post("a model of it", "registered-models/create", {"name": "M"}),
    post("a version of it", "model-versions/create", {"name": "M", "source": "models:/{model}", "run_id": "{run}", "model_id": "{model}"}),
    post("a version of it, without the run", "model-versions/create", {"name": "M", "source": "models:/{model}", "model_id": "{model}"}),
    post("a version of another", "model-versions/create", {"name": "M", "source": "models:/{model}", "model_id": "{plain}"}),
    get("where its files are", "model-versions/get-download-uri", {"name": "M", "version": "1"}),
    get("it says so", "logged-models/{model}"),
    get("no files yet", "logged-models/{model}/artifacts/directories"),
    delete("delete", "logged-models/{plain}"),
    get("read the deleted", "logged-models/{plain}"),
    get("read the deleted all the same", "logged-models/{plain}", {"allow_deleted": "true"}),
    delete("delete what is not there", "logged-models/m-none"),
    post("the deleted is not found", "logged-models/search", {"experiment_ids": ["{exp}"], "order_by": [{"field_name": "creation_timestamp"}]}),
]  # fmt: skip

TOPICS = {"registered_models": MODELS, "model_versions": VERSIONS, "logged_models": LOGGED}
