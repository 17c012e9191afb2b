"""A program of KServe's environment: its clients ask a server in each of their protocols. URL, gRPC address, rows as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

NAME = "risk"
KINDS = {"age": "FP64", "visits": "FP64", "insured": "BOOL"}


async def main(url: str, address: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    said["v1 ready"] = await first.is_model_ready(url, NAME)
    said["v1"] = (await first.infer(url, {"instances": rows}, model_name=NAME))["predictions"]
    second = InferenceRESTClient(RESTConfig(protocol="v2"))
    rpc = InferenceGRPCClient(address, use_ssl=False)
    said["v2 ready"] = [
        await second.is_server_live(url),
        await second.is_server_ready(url),
        await second.is_model_ready(url, NAME),
    ]
    said["grpc ready"] = [await rpc.is_server_live(), await rpc.is_server_ready(), await rpc.is_model_ready(NAME)]
    inputs = [
        InferInput(name, [len(rows), 1], KINDS.get(name, "BYTES"), data=[row[name] for row in rows]) for name in rows[0]
    ]
    asked = InferRequest(NAME, inputs)
    for way, answer in (("v2", await second.infer(url, asked, model_name=NAME)), ("grpc", await rpc.infer(asked))):
        said[way] = {
            output.name: output.as_numpy().tolist() for output in answer.outputs if output.name == "probabilities"
        }
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
