"""What a user of MLflow does with models, by an unmodified client; prints what it found as JSON.

It runs in the environment of a peer and is told the address by MLFLOW_TRACKING_URI alone; nothing in it knows whose server it is.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any


def main() -> dict[str, Any]:
    """All that is done, with what it gave."""
    import mlflow
    import numpy as np
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sklearn.linear_model import LogisticRegression

    mlflow.set_experiment("registry")
    client = MlflowClient()
    found: dict[str, Any] = {}

    rows = np.arange(20, dtype=float).reshape(10, 2)
    labels = np.array([0, 1] * 5)
    fitted = LogisticRegression().fit(rows, labels)
    with mlflow.start_run(run_name="fit") as run:
        logged = mlflow.sklearn.log_model(
            fitted, name="model", registered_model_name="fraud", params={"C": 1.0}, input_example=rows[:2]
        )
        mlflow.log_metric("acc", 0.75, model_id=logged.model_id)
        mlflow.log_metric("acc", 0.5, step=1, model_id=logged.model_id)
    made = client.get_model_version("fraud", "1")
    found["version"] = [made.version, made.status, made.run_id == run.info.run_id, made.current_stage]
    again = mlflow.register_model(f"models:/{logged.model_id}", "fraud", tags={"by": "hand"})
    found["again"] = [again.version, again.tags]
    of_run = mlflow.register_model(f"runs:/{run.info.run_id}/model", "fraud of a run")
    found["of a run"] = [of_run.version, of_run.name, of_run.run_id == run.info.run_id]

    client.set_registered_model_alias("fraud", "champion", "1")
    client.set_registered_model_alias("fraud", "challenger", "2")
    found["alias"] = client.get_model_version_by_alias("fraud", "champion").version
    found["aliases"] = dict(sorted(client.get_registered_model("fraud").aliases.items()))
    loaded = mlflow.pyfunc.load_model("models:/fraud@champion")
    found["predicted"] = [int(x) for x in loaded.predict(rows)] == [int(x) for x in fitted.predict(rows)]
    native = mlflow.sklearn.load_model("models:/fraud/2")
    found["coefficients"] = bool(np.allclose(native.coef_, fitted.coef_))
    client.set_registered_model_alias("fraud", "champion", "2")
    found["moved"] = client.get_model_version_by_alias("fraud", "champion").version
    client.delete_registered_model_alias("fraud", "champion")
    try:
        client.get_model_version_by_alias("fraud", "champion")
    except MlflowException as e:
        found["removed"] = [e.error_code, e.message]

    client.set_registered_model_tag("fraud", "team", "claims")
    client.set_model_version_tag("fraud", "1", "checked", "yes")
    client.update_registered_model("fraud", "finds fraud")
    client.update_model_version("fraud", "1", "the first")
    model = client.get_registered_model("fraud")
    found["said"] = [model.description, model.tags, client.get_model_version("fraud", "1").description]
    client.delete_registered_model_tag("fraud", "team")
    client.transition_model_version_stage("fraud", "1", "Production")
    client.transition_model_version_stage("fraud", "2", "Production", archive_existing_versions=True)
    found["stages"] = [[v.version, v.current_stage] for v in client.get_latest_versions("fraud")]
    found["loaded by stage"] = mlflow.pyfunc.load_model("models:/fraud/Production").metadata.run_id == run.info.run_id

    found["models"] = [m.name for m in client.search_registered_models("name LIKE 'fraud%'", order_by=["name DESC"])]
    found["tagged"] = [[v.name, v.version] for v in client.search_model_versions("tags.checked = 'yes'")]
    found["of the run"] = sorted(
        [v.name, v.version] for v in client.search_model_versions(f"run_id = '{run.info.run_id}'")
    )
    found["pages"] = [m.name for m in client.search_registered_models(max_results=1)]
    client.rename_registered_model("fraud of a run", "renamed")
    found["renamed"] = [v.version for v in client.search_model_versions("name = 'renamed'")]
    client.delete_model_version("fraud", "1")
    found["left"] = [v.version for v in client.search_model_versions("name = 'fraud'")]
    client.delete_registered_model("renamed")

    mlflow.set_logged_model_tags(logged.model_id, {"quality": "good"})
    kept = client.get_logged_model(logged.model_id)
    found["logged"] = [kept.name, str(kept.status), kept.params.get("C"), kept.tags.get("quality")]
    found["registered as"] = json.loads(kept.tags["mlflow.modelVersions"])
    found["metrics"] = sorted((m.key, m.value, m.step) for m in kept.metrics or ())
    found["outputs"] = [m.model_id == logged.model_id for m in client.get_run(run.info.run_id).outputs.model_outputs]
    mlflow.create_external_model(name="elsewhere", params={"kind": "api"})
    table = mlflow.search_logged_models(order_by=[{"field_name": "name", "ascending": True}])
    found["logged models"] = list(table["name"])
    better = mlflow.search_logged_models(filter_string="metrics.acc > 0.6", output_format="list")
    found["better"] = [m.name for m in better]
    mlflow.delete_logged_model_tag(logged.model_id, "quality")
    found["untagged"] = client.get_logged_model(logged.model_id).tags.get("quality")
    files = mlflow.artifacts.list_artifacts(f"models:/{logged.model_id}")
    found["files"] = sorted(f.path.rpartition("/")[2] for f in files)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(mlflow.artifacts.download_artifacts("models:/fraud/2", dst_path=folder))
        found["downloaded"] = (there / "MLmodel").exists()
    client.delete_logged_model(logged.model_id)
    found["deleted"] = [m.name for m in mlflow.search_logged_models(output_format="list")]
    return found


if __name__ == "__main__":
    print(json.dumps(main(), sort_keys=True))
