"""LitServe with one worker.

python serve_litserve.py FILE PORT
"""

import sys

import joblib
import litserve
import numpy as np


class Bench(litserve.LitAPI):
    """Rows as lists of numbers in, probabilities out."""

    def setup(self, device):  # type: ignore[no-untyped-def]
        """Opens the model."""
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The rows."""
        return np.array(request["rows"], np.float32)

    def predict(self, x):  # type: ignore[no-untyped-def]
        """Probabilities."""
        return self.model.predict_proba(x)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """As JSON."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Bench(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
