"""Ray Serve with one replica.

python serve_ray.py FILE PORT
"""

import signal
import sys

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100, logging_config={"enable_access_log": False})
class Bench:
    """Rows as lists of numbers in, probabilities out."""

    def __init__(self, file: str) -> None:
        self.model = joblib.load(file)

    async def __call__(self, request: Request) -> list[list[float]]:
        """Probabilities of each row."""
        rows = (await request.json())["rows"]
        return self.model.predict_proba(np.array(rows, np.float32)).tolist()


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, _node_ip_address="127.0.0.1")
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[2])}, logging_config={"enable_access_log": False}
    )
    serve.run(Bench.bind(sys.argv[1]))
    signal.sigwait([signal.SIGTERM])
    ray.shutdown()
