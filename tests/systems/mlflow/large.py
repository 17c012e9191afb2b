"""A large file up and down by an unmodified MLflow client: `python large.py FILE`; prints whether it came back as it was."""

import hashlib
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts

file = Path(sys.argv[1])
with mlflow.start_run() as active, tempfile.TemporaryDirectory(dir=file.parent) as folder:
    mlflow.log_artifact(str(file), "large")
    again = Path(download_artifacts(run_id=active.info.run_id, artifact_path=f"large/{file.name}", dst_path=folder))
    digests = []
    for path in (file, again):
        with path.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
print(digests[0] == digests[1])
