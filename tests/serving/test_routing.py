"""Tables, variants, hot swaps: nobody notices one, and a broken bundle never comes into force."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.features.records import Field
from loopline.serving.log import read_on, read_segment, segments
from loopline.serving.records import ControlMessage, Endpoint, PredictionRecord, RouteTable
from loopline.serving.supervisor import Supervisor, listen

from .conftest import EXAMPLE, FIELDS, Load, call, expected, live, table, tensors
from .test_oip import GOOD

Bundle = Callable[..., Path]
Serve = Callable[..., Supervisor]


def records(folder: Path) -> list[PredictionRecord]:
    return [r for path in segments(folder / "log") for r in read_segment(path)[0]]


def test_not_one_request_fails_in_100_hot_swaps(serve: Serve, bundle: Bundle) -> None:
    bundles = [bundle(version=n, bias=n / 10) for n in (1, 2, 3)]
    server = serve(table(1, live(bundles[0], 1)))
    with Load(server.port) as load:
        swap(server, bundles)
        load.wait(50)
    assert Counter(status for status, _ in load.answers) == {200: len(load.answers)}
    assert len(load.answers) > 200
    assert server.restarts == 0
    assert "loopline_route_epoch 101" in call(server.port, "GET", "/metrics").body.decode()


def swap(server: Supervisor, bundles: list[Path]) -> None:
    for epoch in range(2, 102):
        assert server.push(table(epoch, live(bundles[epoch % 3], epoch % 3 + 1))) == epoch


JSON = {"content-type": "application/json"}
CSV = ",".join(EXAMPLE).encode() + b"\n61.5,2,true,2024-05-31,north\n"
EVENT = {"specversion": "1.0", "id": "7", "source": "/here", "type": "visit", "data": EXAMPLE}
PROTOCOLS: list[tuple[str, Any, dict[str, str]]] = [
    ("/predict/risk", [EXAMPLE], {}),
    ("/v2/models/risk/infer", {"inputs": [*GOOD.values()]}, {}),
    ("/invocations", {"dataframe_split": {"columns": [*EXAMPLE], "data": [[*EXAMPLE.values()]]}}, JSON),
    ("/invocations", CSV, {"content-type": "text/csv"}),
    ("/endpoints/risk/invocations", json.dumps(EXAMPLE).encode(), {"content-type": "application/jsonlines"}),
    ("/v1/models/risk:predict", {"instances": [EXAMPLE]}, JSON),
    ("/predictions/risk", EXAMPLE, JSON),
    ("/score", {"input_data": [EXAMPLE]}, JSON),
    ("/events/risk", EVENT, {"content-type": "application/cloudevents+json"}),
]


def test_nor_one_of_any_protocol(serve: Serve, bundle: Bundle) -> None:
    import tritonclient.grpc
    import tritonclient.http

    bundles = [bundle(version=n, bias=n / 10) for n in (1, 2, 3)]
    server = serve(table(1, live(bundles[0], 1)), grpc_port=0)
    binary = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}")
    rpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    over_rpc = tensors(tritonclient.grpc, [EXAMPLE], (1, 1))
    asked = [*PROTOCOLS, lambda: rpc.infer("risk", over_rpc) and None]
    with Load(server.port, asked=asked) as load:
        swap(server, bundles)
        for _ in range(5):  # gevent's, which other threads may not use
            binary.infer("risk", tensors(tritonclient.http, [EXAMPLE], (1, 1)))
        load.wait(100)
    assert {one for one in load.answers if one[0] != 200} == set()
    assert server.restarts == 0
    rpc.close()
    binary.close()


def test_what_cannot_be_served_never_comes_into_force(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    server = serve(table(1, live(bundle(version=1))))
    wrong_golden = bundle(version=2, golden={"probabilities": {"no": 0.877, "yes": 0.123}, "label": "no"})
    cut = bundle(version=2)
    (cut / "model.onnx").write_bytes((cut / "model.onnx").read_bytes()[:-20])
    bad: list[tuple[RouteTable, type[LooplineError]]] = [
        (table(2, live(tmp_path / "nowhere")), NotFound),
        (table(2, live(wrong_golden)), Invalid),
        (table(2, live(cut)), LooplineError),
        (table(2, live(bundle(), weight=9_999)), Invalid),
        (table(2, live(bundle(), weight=5_000), live(bundle(task="regression"), weight=5_000, name="b")), Invalid),
        (table(1, live(bundle())), Conflict),
    ]
    for broken, error in bad:
        with pytest.raises(error):
            server.push(broken)
        answer = call(server.port, "POST", "/predict/risk", [EXAMPLE])
        assert (answer.status, answer.json["version"]) == (200, 1)
    assert server.push(table(2, live(bundle(version=2), 2))) == 2
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).json["version"] == 2
    server.push(RouteTable(epoch=3))
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).status == 404


def test_weights_are_kept_and_keys_stick(serve: Serve, bundle: Bundle, folder: Path) -> None:
    a, b = bundle(version=1), bundle(version=2, bias=1.0)
    server = serve(table(1, live(a, 1, 7_500), live(b, 2, 2_500, "challenger"), salt="s"))
    seen = {}
    for n in range(400):
        answer = call(server.port, "POST", "/predict/risk", [EXAMPLE], {"x-loopline-route-key": f"key-{n}"})
        seen[f"key-{n}"] = answer.json["variant"]
    assert 60 <= sum(v == "challenger" for v in seen.values()) <= 140  # 100 expected, sd 8.7
    for key in list(seen)[:50]:
        answer = call(server.port, "POST", "/predict/risk", {"rows": [EXAMPLE], "route_key": key})
        assert answer.json["variant"] == seen[key]
    # More weight moves keys to the challenger, none away from it.
    server.push(table(2, live(a, 1, 5_000), live(b, 2, 5_000, "challenger"), salt="s"))
    for key in list(seen)[:100]:
        answer = call(server.port, "POST", "/predict/risk", [EXAMPLE], {"x-loopline-route-key": key})
        assert answer.json["variant"] == "challenger" or seen[key] == "champion"
    server.stop()
    logged = records(folder)
    assert {(r.variant, r.propensity) for r in logged[:400]} == {("champion", 0.75), ("challenger", 0.25)}
    assert {r.route_key: r.variant for r in logged[:400]} == seen


def test_a_column_can_be_the_key_row_by_row(serve: Serve, bundle: Bundle, folder: Path) -> None:
    a, b = bundle(version=1), bundle(version=2, bias=1.0)
    server = serve(
        table(1, live(a, 1, 5_000), live(b, 2, 5_000, "challenger"), route_key="patient", passthrough=("patient",))
    )
    rows = [{**EXAMPLE, "patient": n % 20} for n in range(64)]
    said = call(server.port, "POST", "/predict/risk", rows).json["predictions"]
    by_patient: dict[int, set[str]] = {}
    for row, prediction in zip(rows, said, strict=True):
        by_patient.setdefault(row["patient"], set()).add(prediction["variant"])
    assert all(len(variants) == 1 for variants in by_patient.values())
    assert len({p["probability"] for p in said}) == 2
    alone = [call(server.port, "POST", "/predict/risk", [row]).json for row in rows[:20]]
    assert [a["variant"] for a in alone] == [p["variant"] for p in said[:20]]
    assert [a["predictions"][0]["probability"] for a in alone] == [p["probability"] for p in said[:20]]
    server.stop()
    logged = records(folder)[:64]
    assert [r.variant for r in logged] == [p["variant"] for p in said]
    assert [r.route_key for r in logged] == [str(r["patient"]) for r in rows]
    assert [r.row for r in logged] == rows


def test_shadows_are_scored_after_the_answer_under_its_ids(serve: Serve, bundle: Bundle, folder: Path) -> None:
    more = bundle(version=2, bias=1.0, fields=(*FIELDS, Field(name="extra", kind="number", nullable=False)))
    server = serve(table(1, live(bundle(version=1)), live(more, 2, name="challenger", mode="shadow")))
    assert call(server.port, "POST", "/predict/risk", [EXAMPLE, EXAMPLE]).json["variant"] == "champion"
    assert call(server.port, "POST", "/predict/risk", [{**EXAMPLE, "extra": 1}]).status == 200
    wanted = 'loopline_shadow_total{endpoint="risk",variant="challenger",result="scored"} 2'
    deadline = time.monotonic() + 10
    while wanted not in call(server.port, "GET", "/metrics").body.decode():
        assert time.monotonic() < deadline
    server.stop()
    logged = records(folder)
    answered = {r.id: r.output for r in logged if r.mode == "live"}
    shadowed = {r.id: r.output for r in logged if r.mode == "shadow"}
    assert answered.keys() == shadowed.keys()
    assert len(answered) == 3
    for key, output in answered.items():
        other = shadowed[key]
        assert output is not None
        assert other is not None
        assert other["probability"] > output["probability"]


def test_shadows_are_dropped_first(serve: Serve, bundle: Bundle) -> None:
    server = serve(
        table(1, live(bundle(version=1)), live(bundle(version=2), 2, name="challenger", mode="shadow")), shadow_limit=0
    )
    for _ in range(3):
        assert call(server.port, "POST", "/predict/risk", [EXAMPLE]).status == 200
    text = call(server.port, "GET", "/metrics").body.decode()
    assert 'loopline_shadow_total{endpoint="risk",variant="challenger",result="dropped"} 3' in text


def test_variants_with_clashing_columns_are_refused(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle())))
    fields = tuple(msgspec.structs.replace(f, kind="text") if f.name == "admitted" else f for f in FIELDS)
    with pytest.raises(LooplineError):
        server.push(table(2, live(bundle(), 1, 5000), live(bundle(fields=fields), 2, 5000, "b")))


def test_a_dead_worker_is_started_again_with_the_newest_table(serve: Serve, bundle: Bundle) -> None:
    server = serve(table(1, live(bundle(version=1))), workers=2)
    server.push(table(2, live(bundle(version=2), 2)))
    killed = server.pids
    os.kill(killed[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while server.restarts < 1 or len(server.pids) < 2 or not all(w.ready.is_set() for w in server._workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed[1], signal.SIGKILL)  # now only the new one answers
    answer = call(server.port, "POST", "/predict/risk", [EXAMPLE])
    assert (answer.status, answer.json["version"]) == (200, 2)
    while len(server.pids) < 2 or not all(w.ready.is_set() for w in server._workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.push(table(3, live(bundle(version=3), 3))) == 3
    assert {call(server.port, "POST", "/predict/risk", [EXAMPLE]).json["version"] for _ in range(10)} == {3}


def test_a_port_in_use_is_said_before_anything_starts(serve: Serve, bundle: Bundle, folder: Path) -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    server = Supervisor(folder / "s", log=folder / "log", port=port)
    with pytest.raises(Conflict, match=str(port)) as caught:
        server.start(table(1, live(bundle())))
    assert caught.value.code == "port-in-use"
    assert server.pids == []
    taken.close()


def test_a_worker_that_cannot_start_says_why(folder: Path, bundle: Bundle) -> None:
    server = Supervisor(folder / "s", log=folder / "log", port=0)
    misnamed = table(1, live(bundle())).endpoints["risk"]
    with pytest.raises(Unavailable, match="nowhere"):
        server.start(RouteTable(epoch=1, endpoints={"nowhere": misnamed}))
    assert server.pids == []


def test_an_endpoint_that_cannot_be_served_keeps_no_other_down(
    serve: Serve, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def both(epoch: int, folder: Path) -> RouteTable:
        other = table(epoch, live(folder), name="other").endpoints
        return RouteTable(epoch=epoch, endpoints={**table(epoch, live(bundle())).endpoints, **other})

    server = serve(both(1, tmp_path / "nowhere"))
    assert "nowhere" in caplog.text

    def answers() -> list[int]:
        return [call(server.port, "POST", f"/predict/{name}", [EXAMPLE]).status for name in ("risk", "other")]

    assert answers() == [200, 503]
    answer = call(server.port, "POST", "/predict/other", [EXAMPLE])
    assert answer.error["code"] == "endpoint-down"
    assert str(tmp_path) not in answer.body.decode(), "callers are told nothing of the server's folders"
    assert call(server.port, "GET", "/v2/models/other").status == 503
    server.push(both(2, tmp_path / "nowhere"))  # it failed before, and holds up no table
    assert answers() == [200, 503]
    server.push(both(3, bundle()))
    assert answers() == [200, 200]
    with pytest.raises(NotFound):  # it is served, and stays so
        server.push(both(4, tmp_path / "nowhere"))
    assert answers() == [200, 200]


def test_sigterm_drains_and_sighup_reads_the_table_again(serve: Serve, bundle: Bundle, folder: Path) -> None:
    server = serve(table(1, live(bundle(version=1))))
    (pid,) = server.pids
    message = ControlMessage(table=table(2, live(bundle(version=2), 2)))
    (folder / "s0" / "routes.json").write_bytes(msgspec.json.encode(message))
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + 10
    while call(server.port, "POST", "/predict/risk", [EXAMPLE]).json["version"] != 2:
        assert time.monotonic() < deadline
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    body = json.dumps([EXAMPLE]).encode()
    connection.putrequest("POST", "/predict/risk")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:5])
    time.sleep(0.2)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    connection.send(body[5:])
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("connection") == "close"
    assert json.loads(response.read())["version"] == 2
    connection.close()


def test_the_threshold_is_changed_with_the_table_and_answers_say_which(
    serve: Serve, bundle: Bundle, folder: Path
) -> None:
    made = bundle(threshold=0.9)
    server = serve(table(1, live(made)))

    def label(**wanted: Any) -> str:
        answer = call(server.port, "POST", "/predict/risk", [EXAMPLE]).json
        assert {k: answer[k] for k in wanted} == wanted
        (one,) = answer["predictions"]
        assert one.get("threshold_number", 0) == wanted["threshold_number"]
        found: str = one["label"]
        return found

    probability = expected(EXAMPLE)
    assert probability > 0.5
    assert label(threshold=0.9, threshold_number=0) == ("yes" if probability >= 0.9 else "no")
    for number, value in enumerate((0.0625, 1.0, 0.5), 1):
        variant = msgspec.structs.replace(live(made), threshold=value, threshold_number=number)
        server.push(table(1 + number, variant))
        assert label(threshold=value, threshold_number=number) == ("yes" if probability >= value else "no")
    tensors = {"inputs": [{"name": k, "shape": [1, 1], "datatype": d, "data": [v]} for k, d, v in (
        ("age", "FP32", 61.5), ("visits", "INT64", 2), ("insured", "BOOL", True), ("admitted", "BYTES", "2024-05-31"),
        ("ward", "BYTES", "north"),
    )]}  # fmt: skip
    said = call(server.port, "POST", "/v2/models/risk/infer", tensors).json["parameters"]
    assert (said["threshold"], said["threshold_number"]) == (0.5, 3)
    kept = [r.output for _, _, found in read_on(folder / "log", {}) for r in found if r.output]
    assert [output.get("threshold_number") for output in kept] == [None, 1, 2, 3, 3]


def test_models_come_and_go_under_load_and_no_request_fails(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    steady = Endpoint(name="risk", variants=(live(bundle()),))
    coming = [Endpoint(name="guest", variants=(live(bundle(version=n, bias=n / 10), n),)) for n in (1, 2, 3)]
    server = serve(RouteTable(epoch=1, endpoints={"risk": steady}))
    epoch = 1
    with Load(server.port) as load:
        for turn in range(30):
            epoch += 1
            server.push(RouteTable(epoch=epoch, endpoints={"risk": steady, "guest": coming[turn % 3]}))
            assert call(server.port, "POST", "/predict/guest", [EXAMPLE]).json["version"] == turn % 3 + 1
            epoch += 1
            server.push(RouteTable(epoch=epoch, endpoints={"risk": steady}))
            assert call(server.port, "POST", "/predict/guest", [EXAMPLE]).status == 404
            with pytest.raises(LooplineError):
                server.push(RouteTable(epoch=epoch + 1, endpoints={"risk": steady, "guest": missing(tmp_path)}))
            load.wait(3)
    assert Counter(status for status, _ in load.answers) == {200: len(load.answers)}


def missing(folder: Path) -> Endpoint:
    return Endpoint(name="guest", variants=(live(folder / "nothing"),))
