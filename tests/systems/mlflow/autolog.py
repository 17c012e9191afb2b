"""What autologging of a small real fit leaves on a server, as JSON: `python autolog.py FRAMEWORK`, with MLFLOW_TRACKING_URI set.

Ids, times and measures of speed are left out, so that two servers can be compared.
"""

import json
import re
import sys

import mlflow
import numpy as np
import pandas as pd

client = mlflow.MlflowClient()
experiment = mlflow.set_experiment("autologging").experiment_id
random = np.random.default_rng(7)
ROWS = pd.DataFrame(random.normal(size=(120, 4)), columns=["a", "b", "c", "d"])
LABELS = (ROWS["a"] + ROWS["b"] > 0).astype(int)


def sklearn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlflow.sklearn.autolog()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(ROWS, LABELS)
    model.score(ROWS, LABELS)
    mlflow.end_run()
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=3).fit(ROWS, LABELS)
    return model.predict(ROWS)


def lightgbm():
    import lightgbm

    mlflow.lightgbm.autolog()
    data = lightgbm.Dataset(ROWS, LABELS)
    params = {
        "objective": "binary",
        "num_leaves": 4,
        "verbose": -1,
        "metric": ["auc", "binary_logloss"],
        "num_threads": 1,
    }
    return lightgbm.train(params, data, num_boost_round=12, valid_sets=[data], valid_names=["train"]).predict(ROWS)


def xgboost():
    import xgboost

    mlflow.xgboost.autolog()
    data = xgboost.DMatrix(ROWS, LABELS)
    model = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, data, 8, evals=[(data, "train")]
    )
    return model.predict(data)


def pytorch():
    import lightning
    import torch

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, rows):
            return self.layer(rows)

        def training_step(self, batch, _):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0])[:, 0], batch[1])
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(7)
    torch.set_num_threads(1)
    mlflow.pytorch.autolog()
    rows = torch.tensor(ROWS.to_numpy(), dtype=torch.float32)
    data = torch.utils.data.TensorDataset(rows, torch.tensor(LABELS.to_numpy(), dtype=torch.float32))
    net = Net()
    trainer = lightning.Trainer(
        max_epochs=3,
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    trainer.fit(net, torch.utils.data.DataLoader(data, batch_size=40))
    net.eval()
    return net(rows).detach().numpy()


def tensorflow():
    import keras

    keras.utils.set_random_seed(7)
    mlflow.tensorflow.autolog()
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    )
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    model.fit(ROWS.to_numpy(), LABELS.to_numpy(), epochs=3, batch_size=40, verbose=0)
    return model.predict(ROWS.to_numpy(), verbose=0)


def tree(run, path=None):
    """Every file and folder of a run."""
    for file in client.list_artifacts(run, path):
        yield [re.sub(r"tfevents\..*", "tfevents", file.path), file.is_dir]
        if file.is_dir:
            yield from tree(run, file.path)


def plain(text):
    """A text without ids, times and places of this machine."""
    return re.sub(r"m-\w{26,32}|\b\w{26}\b|\b[0-9a-f]{32}\b|\d{10,}|/\S*/", "<>", text)


def of_run(run):
    inputs = [
        [one.dataset.name, one.dataset.digest, one.dataset.source_type, {tag.key: tag.value for tag in one.tags}]
        for one in run.inputs.dataset_inputs
    ]
    history = {key: len(client.get_metric_history(run.info.run_id, key)) for key in sorted(run.data.metrics)}
    return {
        "status": run.info.status,
        "params": {key: plain(value) for key, value in sorted(run.data.params.items())},
        "metrics": history,
        "tags": sorted(run.data.tags),
        "files": sorted(tree(run.info.run_id)),
        "inputs": inputs,
        "outputs": len(run.outputs.model_outputs),
    }


def of_model(model):
    return {
        "name": model.name,
        "type": model.model_type,
        "status": str(model.status),
        "params": sorted(model.params),
        "tags": sorted(model.tags),
        "metrics": sorted((metric.key, metric.dataset_name) for metric in model.metrics or []),
    }


predicted = np.asarray({"sklearn": sklearn, "lightgbm": lightgbm, "xgboost": xgboost, "pytorch": pytorch,
                        "tensorflow": tensorflow}[sys.argv[1]]())  # fmt: skip
runs = client.search_runs([experiment], order_by=["attributes.start_time", "params.C"])
models = client.search_logged_models([experiment], order_by=[{"field_name": "creation_timestamp", "ascending": True}])
first = models[0]
version = mlflow.register_model(first.model_uri, "autologged")
client.set_registered_model_alias("autologged", "champion", version.version)
given = {"pytorch": ROWS.to_numpy().astype("float32"), "tensorflow": ROWS.to_numpy()}.get(sys.argv[1], ROWS)
again = [
    np.asarray(mlflow.pyfunc.load_model(uri).predict(given)) for uri in (first.model_uri, "models:/autologged@champion")
]
found = {
    "runs": sorted((of_run(run) for run in runs), key=json.dumps),
    "models": [of_model(model) for model in models],
    "predicts the same again": [bool(np.allclose(one.ravel(), predicted.ravel(), atol=1e-5)) for one in again],
    "version": [version.name, version.version, version.status],
}
json.dump(found, sys.stdout, sort_keys=True)
