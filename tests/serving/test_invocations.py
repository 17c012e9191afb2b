"""MLflow's scoring protocol and SageMaker's runtime at the same paths: plain requests, and boto3 as it is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loopline.serving.log import read_segment, segments
from loopline.serving.records import BUCKETS, Endpoint, RouteTable
from loopline.serving.supervisor import Supervisor

from .conftest import EXAMPLE, Answer, call, expected, live, table

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]
ROWS: list[dict[str, Any]] = [
    EXAMPLE,
    {"age": None, "visits": 0, "insured": False, "admitted": None, "ward": None},
    {"age": 3.25, "visits": 7, "insured": None, "admitted": "1969-12-31", "ward": "west"},
]
LABELS = ["yes" if expected(row) >= 0.5 else "no" for row in ROWS]
COLUMNS = [*EXAMPLE]
CSV = "age,visits,insured,admitted,ward\n61.5,2,True,2024-05-31,north\n,0,False,NaN,\n3.25,7,,1969-12-31,west\n"


def post(port: int, body: Any, kind: str = "application/json", path: str = "/invocations", **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(port, "POST", path, body, {"Content-Type": kind, **names} if kind else names)


@pytest.fixture
def server(serve: Serve, bundle: Bundle) -> Supervisor:
    return serve(table(1, live(bundle(version=3), 3), passthrough=("patient",)), row_limit=100)


def parquet(rows: list[dict[str, Any]], **more: pa.Array) -> bytes:
    """Rows as pandas keeps them, with an index of its own."""
    table = pa.Table.from_pylist(rows, schema=None if rows else pa.schema([(name, pa.float64()) for name in COLUMNS]))
    for name, column in more.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    buffer = io.BytesIO()
    pq.write_table(table.append_column("__index_level_0__", pa.array([f"i{n}" for n in range(len(rows))])), buffer)
    return buffer.getvalue()


FORMS: dict[str, tuple[Any, str]] = {
    "records": ({"dataframe_records": ROWS}, "application/json"),
    "split": ({"dataframe_split": {"columns": COLUMNS, "data": [[*r.values()] for r in ROWS]}}, "application/json"),
    "split with an index": (
        {"dataframe_split": {"index": [4, 5, 6], "columns": COLUMNS, "data": [[*r.values()] for r in ROWS]}},
        "application/json; charset=UTF-8",
    ),
    "split in another order": (
        {"dataframe_split": {"columns": COLUMNS[::-1], "data": [[*r.values()][::-1] for r in ROWS]}},
        "application/json",
    ),
    "instances": ({"instances": ROWS}, "application/json"),
    "instances by position": ({"instances": [[*r.values()] for r in ROWS]}, "application/json"),
    "inputs": ({"inputs": {name: [row[name] for row in ROWS] for name in COLUMNS}}, "application/json"),
    "inputs by position": ({"inputs": [[*r.values()] for r in ROWS], "params": {"x": 1}}, "application/json"),
    "inputs of one value each": (
        {"inputs": {name: [[row[name]] for row in ROWS] for name in COLUMNS}}, "application/json",
    ),
    "csv": (CSV.encode(), "text/csv"),
    "csv with pandas' index": (
        "\n".join(f"{'' if n == 0 else n},{line}" for n, line in enumerate(CSV.split("\n")[:-1])).encode(), "text/csv",
    ),
    "csv with a mark": (b"\xef\xbb\xbf" + CSV.encode(), "text/csv; charset=utf-8"),
    "csv without names": (CSV.partition("\n")[2].encode(), "text/csv"),
    "parquet": (parquet(ROWS), "application/vnd.apache.parquet"),
    "parquet with times": (
        parquet(ROWS, admitted=pa.array([row["admitted"] for row in ROWS]).cast(pa.timestamp("ns"))),
        "application/vnd.apache.parquet",
    ),
    "a plain list": (ROWS, "application/json"),
    "lines": ("\n".join(map(json.dumps, ROWS)).encode(), "application/jsonlines"),
}  # fmt: skip


def test_every_form_is_scored_alike_and_logged(server: Supervisor, folder: Path) -> None:
    ids = []
    for form, (body, kind) in FORMS.items():
        answer = post(server.port, body, kind)
        assert answer.status == 200, (form, answer.body)
        assert answer.json["predictions"] == LABELS, form
        about = answer.json["loopline"]
        assert [p["yes"] for p in about["probabilities"]] == pytest.approx([expected(row) for row in ROWS], rel=1e-4)
        assert (about["model"], about["version"], about["variant"]) == ("model:risk@3", "3", "champion")
        ids += about["ids"]
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [r.id for r in records] == ids
    assert [{name: (r.row or {})[name] for name in COLUMNS} for r in records] == ROWS * len(FORMS)
    assert [(r.output or {})["label"] for r in records] == LABELS * len(FORMS)


def test_mlflow_s_own_server_answers_the_same(serve: Serve, bundle: Bundle) -> None:
    """Held against what `mlflow models serve` answered for this very model (test_mlflow_scoring.py keeps it)."""
    port = serve(table(1, live(bundle()))).port
    golden = json.loads(Path(__file__).with_name("mlflow_scoring.json").read_text())
    assert len(golden) > 15
    for name, said in golden.items():
        body = said["body"].encode(errors="surrogateescape") if isinstance(said["body"], str) else said["body"]
        answer = post(port, body, said["type"])
        assert answer.status == said["status"], (name, answer.body)
        assert answer.json.get("predictions") == said["predictions"], name
        assert "error_code" not in said or answer.json["error_code"] == said["error_code"], name


def test_other_tasks(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle(task="regression", bias=0.5))))
    answer = post(server.port, {"dataframe_records": [EXAMPLE]})
    assert answer.json["predictions"] == pytest.approx([0.02 * 61.5 + 0.8 - 0.5 + 1.9874 + 0.5 + 0.5], rel=1e-5)
    assert "probabilities" not in answer.json["loopline"]
    other = serve(table(1, live(bundle(task="multiclass"))))
    answer = post(other.port, {"dataframe_records": [EXAMPLE]})
    (probabilities,) = answer.json["loopline"]["probabilities"]
    assert answer.json["predictions"] == [max(probabilities, key=probabilities.__getitem__)]


def test_what_no_model_reads_is_left_aside_and_told(server: Supervisor, folder: Path) -> None:
    answer = post(server.port, {"dataframe_records": [{**EXAMPLE, "colour": "red", "patient": "p7"}]})
    assert answer.status == 200
    assert answer.json["loopline"]["ignored"] == ["colour"]
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert records[0].row == {**EXAMPLE, "patient": "p7"}


BAD: list[tuple[Any, str, int, str]] = [
    ([1], "application/json", 400, "Row 0 is not an object"),
    (b"{", "application/json", 400, "not JSON"),
    (b"\xff{}", "application/json", 400, "not JSON"),
    (b"7", "application/json", 400, "exactly one of"),
    ({}, "application/json", 400, "exactly one of"),
    ({"messages": []}, "application/json", 400, "exactly one of"),
    ({"instances": [], "inputs": []}, "application/json", 400, "exactly one of"),
    ({"instances": []}, "application/json", 400, "0 rows"),
    ({"inputs": {}}, "application/json", 400, "0 rows"),
    ({"instances": {"age": 1}}, "application/json", 400, "not a list"),
    ({"inputs": {"age": 1}}, "application/json", 400, "'age' is not a list"),
    ({"inputs": {"age": [1], "visits": [1, 2]}}, "application/json", 400, "2 values"),
    ({"dataframe_split": {}}, "application/json", 400, "not a table"),
    ({"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}}, "application/json", 400, "given twice"),
    ({"dataframe_split": {"columns": [1], "data": [[1]]}}, "application/json", 400, "list of texts"),
    ({"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, "application/json", 400, "Row 0 has 2 values"),
    ({"dataframe_split": {"columns": ["age"], "data": [1]}}, "application/json", 400, "'visits' is missing"),
    ({"dataframe_records": [1]}, "application/json", 400, "Row 0 is not an object"),
    ({"dataframe_records": [{**EXAMPLE, "age": "old"}]}, "application/json", 400, "a number is wanted"),
    ({"dataframe_records": [{**EXAMPLE, "visits": None}]}, "application/json", 400, "missing"),
    ({"dataframe_records": [{"agee": 1, **ROWS[1]}] * 101}, "application/json", 413, "at most 100"),
    ({"inputs": [[1, 2, 3]]}, "application/json", 400, "Row 0 has 3 values"),
    ({"instances": ROWS, "params": 7}, "application/json", 400, "'params' is not an object"),
    (b'{"inputs": {"age": [NaN]}}', "application/json", 400, "NaN"),
    (b"age,visits\n1", "text/csv", 400, "Row 0 has 1 cells"),
    (b"age,age\n1,2", "text/csv", 400, "given twice"),
    (b"", "text/csv", 400, "0 rows"),
    (b'age\n"1', "text/csv", 400, "not CSV"),
    (b"\xff\xfe", "text/csv", 400, "not CSV"),
    (b"1,2\n", "text/csv", 400, "Row 0 has 2 cells"),
    (b"x" * 200_000, "text/csv", 400, "not CSV"),
    (b"old,2,True,,north", "text/csv", 400, "a number is wanted"),
    (b"inf,2,True,,north", "text/csv", 400, "too large"),
    (b'{"age": 1', "application/jsonlines", 400, "not JSON"),
    (b"\n\n", "application/jsonlines", 400, "0 rows"),
    (b"x", "application/vnd.apache.parquet", 400, "not a Parquet file"),
    (parquet(ROWS)[:-9], "application/vnd.apache.parquet", 400, "not a Parquet file"),
    (parquet(ROWS)[:90] + b"\xff" * 40 + parquet(ROWS)[130:], "application/vnd.apache.parquet", 400, ""),
    (parquet([]), "application/vnd.apache.parquet", 400, "0 rows"),
    (parquet(ROWS * 50), "application/vnd.apache.parquet", 413, "at most 100"),
    (parquet([{**ROWS[0], "age": "old"}]), "application/vnd.apache.parquet", 400, "a number is wanted"),
    (parquet([{**ROWS[0], "age": float("inf")}]), "application/vnd.apache.parquet", 400, "a number is wanted"),
    (parquet([{**ROWS[0], "ward": ["a"]}]), "application/vnd.apache.parquet", 400, "ward"),
    (b"{}", "application/json; charset=latin-1", 415, "charset"),
    (b"{}", "application/json; version=2", 415, "version"),
    (b"{}", "text/plain", 415, "text/csv"),
]


def test_bad_input_is_named_in_mlflow_s_shape_and_never_a_500(server: Supervisor) -> None:
    for body, kind, status, words in BAD:
        answer = post(server.port, body, kind)
        assert answer.status == status, (body, answer.body)
        assert words in answer.json["message"], (body, answer.json)
        code = "INVALID_PARAMETER_VALUE" if "' is missing" in words else "BAD_REQUEST"
        assert answer.json["error_code"] == code
    assert call(server.port, "GET", "/invocations").status == 405
    assert post(server.port, {"instances": ROWS}).status == 200


def test_a_column_that_is_spelled_wrong_is_not_just_left_aside(server: Supervisor) -> None:
    row = {("agee" if name == "age" else name): value for name, value in EXAMPLE.items()}
    answer = post(server.port, {"dataframe_records": [row]})
    assert answer.status == 400
    assert "'age' is missing" in answer.json["message"]
    assert "Did you mean 'agee'" in answer.json["message"]


def test_what_a_client_looks_at_first(server: Supervisor) -> None:
    assert call(server.port, "GET", "/ping").status == 200
    assert call(server.port, "GET", "/health").status == 200
    version = call(server.port, "GET", "/version")
    assert (version.status, version.body.count(b".")) == (200, 2)


def test_with_several_endpoints_the_path_names_one(serve: Serve, bundle: Bundle) -> None:
    folder = bundle()
    names = ("risk", "other")
    endpoints = {name: Endpoint(name=name, variants=(live(folder),)) for name in names}
    server = serve(RouteTable(epoch=1, endpoints=endpoints))
    for name in names:
        assert post(server.port, {"instances": ROWS}, path=f"/endpoints/{name}/invocations").status == 200
    answer = post(server.port, {"instances": ROWS})
    assert answer.status == 404
    assert "/endpoints/NAME/invocations" in answer.json["message"]
    answer = post(server.port, {"instances": ROWS}, path="/endpoints/rusk/invocations")
    assert answer.status == 404
    assert (answer.json["error_code"], "Did you mean 'risk'" in answer.json["message"]) == (
        "RESOURCE_DOES_NOT_EXIST",
        True,
    )


def test_before_there_is_a_table(serve: Serve) -> None:
    port = serve(RouteTable(epoch=0)).port
    assert call(port, "GET", "/ping").status == 503
    assert post(port, {"instances": ROWS}).status == 503


def test_the_same_answer_under_another_server(plain_asgi: Callable[..., int], bundle: Bundle) -> None:
    port = plain_asgi(table(1, live(bundle())))
    assert post(port, {"instances": ROWS}).json["predictions"] == LABELS


def test_variants_by_weight_and_by_key(serve: Serve, bundle: Bundle, folder: Path) -> None:
    first, second = bundle(version=1), bundle(version=2, bias=-9.0)
    server = serve(
        table(1, live(first, 1, BUCKETS // 2), live(second, 2, BUCKETS // 2, "challenger"), route_key="ward")
    )
    rows = [{**EXAMPLE, "ward": ward} for ward in ("east", "north", "west", "a", "b", "c", "d", "e")]
    about = post(server.port, {"dataframe_records": rows}).json["loopline"]
    assert set(about["variants"]) == {"champion", "challenger"}
    bias = {"champion": 0.0, "challenger": -9.0}
    assert [p["yes"] for p in about["probabilities"]] == pytest.approx(
        [expected(row, bias[name]) for row, name in zip(rows, about["variants"], strict=True)], rel=1e-3
    )
    for row, name in zip(rows, about["variants"], strict=True):
        answer = post(server.port, {"dataframe_records": [row]})
        assert answer.headers["x-amzn-invoked-production-variant"] == name


def test_errors_are_logged_and_counted_too(server: Supervisor, folder: Path) -> None:
    assert post(server.port, b"{").status == 400
    assert post(server.port, {}, path="/endpoints/rusk/invocations").status == 404
    text = call(server.port, "GET", "/metrics").body.decode()
    assert 'loopline_requests_total{endpoint="risk",variant="",version="",status="400"} 1' in text
    server.stop()
    records, _ = read_segment(segments(folder / "log")[0])
    assert [(r.status, r.error) for r in records] == [(400, "not-json"), (404, "no-endpoint")]


# ---------------------------------------------------------------------- SageMaker


def runtime(port: int, **headers: str) -> Any:
    """boto3's client, pointed at this server; `headers` are put on each request before it is signed."""
    client = boto3.client(
        "sagemaker-runtime",
        region_name="eu-central-1",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="example",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )

    def add(request: Any, **_: Any) -> None:
        for name, value in headers.items():
            request.headers[name] = value

    client.meta.events.register("before-send.sagemaker-runtime", add)
    return client


def test_boto3_as_it_is(server: Supervisor) -> None:
    client = runtime(server.port)
    for body, kind in FORMS.values():
        answer = client.invoke_endpoint(
            EndpointName="risk", ContentType=kind, Body=body if isinstance(body, bytes) else json.dumps(body)
        )
        assert json.loads(answer["Body"].read())["predictions"] == LABELS
        assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "champion")
    for accept, text in (
        ("text/csv", "\n".join(LABELS) + "\n"),
        ("application/jsonlines", "\n".join(map(json.dumps, LABELS)) + "\n"),
    ):
        answer = client.invoke_endpoint(
            EndpointName="risk", ContentType="text/csv", Accept=accept, Body=CSV.partition("\n")[2]
        )
        assert answer["Body"].read().decode() == text
        assert answer["ContentType"].startswith(accept)


def test_errors_as_boto3_tells_them(server: Supervisor) -> None:
    client = runtime(server.port)
    with pytest.raises(client.exceptions.ClientError, match="'age' is missing") as caught:
        client.invoke_endpoint(EndpointName="risk", ContentType="application/json", Body=b'{"instances": [{}]}')
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(client.exceptions.ClientError, match="no endpoint 'rusk'") as caught:
        client.invoke_endpoint(EndpointName="rusk", Body=b"{}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(client.exceptions.ClientError, match="do not choose the variant"):
        client.invoke_endpoint(EndpointName="risk", TargetVariant="champion", Body=json.dumps(ROWS))


def test_a_signature_is_no_token_and_a_token_may_take_its_place(serve: Serve, bundle: Bundle) -> None:
    import hashlib

    digest = hashlib.sha256(b"secret").hexdigest()
    server = serve(table(1, live(bundle())), {"risk": (digest,)})
    body = json.dumps({"instances": ROWS})
    # Signed, by this user of this machine: let in for that, whatever the signature is.
    runtime(server.port).invoke_endpoint(EndpointName="risk", ContentType="application/json", Body=body)
    # Signed, and not of this machine: nothing lets it in.
    far = runtime(server.port, **{"X-Forwarded-For": "192.0.2.7"})
    with pytest.raises(far.exceptions.ClientError, match="not known") as caught:
        far.invoke_endpoint(EndpointName="risk", ContentType="application/json", Body=body)
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
    known = runtime(server.port, **{"X-Forwarded-For": "192.0.2.7", "Authorization": "Bearer secret"})
    known.invoke_endpoint(EndpointName="risk", ContentType="application/json", Body=body)
    wrong = runtime(server.port, Authorization="Bearer other")
    with pytest.raises(wrong.exceptions.ClientError, match="not known"):
        wrong.invoke_endpoint(EndpointName="risk", ContentType="application/json", Body=body)
