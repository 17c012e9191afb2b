"""MLflow's registry over the platform's own verbs: permissions, history, what is served, other projects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopline.api.mlflow import registry


@pytest.fixture
def made(door: Any) -> Any:
    """A door with a run that kept files, and a model with two versions of them."""
    run = door.run()
    for path, data in (("model/MLmodel", b"flavors: {}"), ("model/weights.bin", b"\x80\x04.")):
        status, _ = door.ask(
            "PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/{path}", data, {"Content-Type": "text/plain"}
        )
        assert status == 200
    assert door.post("registered-models/create", {"name": "Fraud model"})[0] == 200
    for _ in range(2):
        given = {"name": "Fraud model", "source": f"mlflow-artifacts:/0/{run}/artifacts/model", "run_id": run}
        assert door.post("model-versions/create", given)[0] == 200
    door.made = run
    return door


def _delete(door: Any, path: str, given: dict[str, Any], **headers: str) -> tuple[int, Any]:
    body = json.dumps(given).encode()
    return door.ask("DELETE", f"/api/2.0/mlflow/{path}", body, {"Content-Type": "application/json", **headers})


def test_a_version_is_what_its_run_kept(made: Any) -> None:
    (model,) = made.session.models.list()
    assert (model.name, model.title, model.latest) == ("Fraud-model", "Fraud model", 2)
    version = made.session.models.show("Fraud-model", 1)
    assert (version.status, version.servable, version.run) == ("registered", False, f"run:{made.made}")
    assert sorted(version.forms) == ["MLmodel", "weights.bin"]
    assert made.session.models.verify("Fraud-model", 1).ok
    assert f"run:{made.made}" in str(made.session.lineage.trace("model:Fraud-model@1"))


def test_what_mlflow_forgets_is_remembered(made: Any) -> None:
    for version in ("1", "2"):
        given = {"name": "Fraud model", "alias": "champion", "version": version}
        assert made.post("registered-models/alias", given)[0] == 200
    moves = made.session.models.alias_history("Fraud-model", "champion")
    assert _delete(made, "registered-models/delete", {"name": "Fraud model"}) == (200, {})
    assert made.get("registered-models/get", {"name": "Fraud model"})[0] == 404
    made.session.models.restore("Fraud-model")
    found = [move.version for move in made.session.models.alias_history("Fraud-model", "champion")]
    assert found == [*(move.version for move in moves), None] == [1, 2, None]
    assert made.get("model-versions/get", {"name": "Fraud model", "version": "2"})[0] == 200


def test_an_alias_takes_the_permission_to_deploy(made: Any) -> None:
    made.session.access.add_principal("ann")
    made.session.access.grant("ann", "data_scientist")
    token = made.session.access.create_token(principal="ann").secret
    header = {"Authorization": f"Bearer {token}"}
    given = {"name": "Fraud model", "alias": "champion", "version": "1"}
    status, answer = made.post("registered-models/alias", given, **header)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert made.session.models.aliases("Fraud-model") == ()
    assert made.post("registered-models/alias", given)[0] == 200
    status, answer = _delete(made, "registered-models/delete", {"name": "Fraud model"}, **header)
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")
    assert made.get("registered-models/get", {"name": "Fraud model"})[0] == 200
    tagged = {"name": "Fraud model", "key": "k", "value": "v"}
    assert made.post("registered-models/set-tag", tagged, **header) == (200, {})


def test_an_alias_of_mlflows_brings_nothing_to_serve(made: Any) -> None:
    given = {"name": "Fraud model", "alias": "champion", "version": "1"}
    assert made.post("registered-models/alias", given)[0] == 200
    with pytest.raises(Exception, match="holds files, not a bundle"):
        made.session.endpoints.create("fraud", "Fraud-model@champion")


def test_what_an_endpoint_serves_is_not_deleted(made: Any) -> None:
    from loopline.deployment.tables import endpoints

    row = {"project": "default", "name": "e", "model": "Fraud-model", "champion": 1, "salt": "s"}
    with made.platform.database.begin() as tx:
        tx.execute(endpoints.insert().values(**row, passthrough=[], optional=[], policy={}, created=1, updated=1))
    status, answer = _delete(made, "model-versions/delete", {"name": "Fraud model", "version": "1"})
    assert (status, answer["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert made.get("model-versions/get", {"name": "Fraud model", "version": "1"})[0] == 200


def test_models_of_another_project_are_not_there(made: Any) -> None:
    made.session.projects.create("clinic")
    elsewhere = "/clinic.mlflow"
    assert made.get("registered-models/get", {"name": "Fraud model"}, elsewhere)[0] == 404
    assert made.get("registered-models/search", None, elsewhere) == (200, {})
    assert made.get("model-versions/search", None, elsewhere) == (200, {})
    assert made.post("registered-models/create", {"name": "Fraud model"}, elsewhere)[0] == 200
    source = f"mlflow-artifacts:/0/{made.made}/artifacts/model"
    given = {"name": "Fraud model", "source": source, "run_id": made.made}
    status, answer = made.post("model-versions/create", given, elsewhere)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("registered-models/create", {"name": "a\u0000b"}),
        ("registered-models/create", {"name": "a\nb"}),
        ("registered-models/create", {"name": "x" * 100_000}),
        ("registered-models/create", {"name": "n", "tags": [{"key": "k" * 300, "value": "v"}]}),
        ("registered-models/create", {"name": "n", "tags": "none"}),
        ("registered-models/create", {"name": "n", "tags": [{"value": "v"}]}),
        ("model-versions/create", {"name": "Fraud model", "source": "s3://b/" + "x" * 100_000 + "/../y"}),
        ("model-versions/create", {"name": "Fraud model", "source": "models:/%2e%2e/%2e%2e"}),
        ("model-versions/create", {"name": "Fraud model", "source": "runs:/../../etc/passwd", "run_id": ".."}),
        ("model-versions/create", {"name": "Fraud model", "source": "file:///etc/passwd"}),
        ("model-versions/set-tag", {"name": "Fraud model", "version": "1" * 40, "key": "k", "value": "v"}),
        ("model-versions/set-tag", {"name": "Fraud model", "version": "-1", "key": "k", "value": "v"}),
        ("model-versions/transition-stage", {"name": "Fraud model", "version": "1", "stage": "'; DROP TABLE models; --"}),
        ("registered-models/alias", {"name": "Fraud model", "alias": "../x", "version": "1"}),
        ("logged-models", {"experiment_id": "0", "name": "a/../b"}),
        ("logged-models", {"experiment_id": "x" * 1000}),
        ("logged-models/search", {"experiment_ids": ["0"], "filter": "metrics.a >"}),
        ("logged-models/search", {"experiment_ids": ["0"], "max_results": -1}),
        ("logged-models/search", {"experiment_ids": ["0"], "page_token": "AAAA"}),
        ("runs/outputs", {"run_id": "none", "models": [{"model_id": "m-none"}]}),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_never_a_500(made: Any, path: str, given: dict[str, Any]) -> None:
    status, answer = made.post(path, given)
    assert 400 <= status < 500, answer
    assert answer["error_code"] in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
    assert [one.title for one in made.session.models.list()] == ["Fraud model"]


def test_a_stage_is_a_tag_that_clients_do_not_see(made: Any) -> None:
    given = {"name": "Fraud model", "version": "1", "stage": "staging"}
    status, answer = made.post("model-versions/transition-stage", given)
    assert (status, answer["model_version"]["current_stage"]) == (200, "Staging")
    assert "tags" not in answer["model_version"]
    assert made.session.models.show("Fraud-model", 1).tags == {registry.STAGE: "Staging"}
