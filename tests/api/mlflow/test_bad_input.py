"""What cannot be is refused whole, by MLflow's code for it, and nothing is ever a 500 (its clients would try again for minutes)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.api.mlflow.endpoints import ENDPOINTS
from loopline.api.mlflow.filters import like
from loopline.api.mlflow.names import generated
from loopline.operations import Body

BAD = "INVALID_PARAMETER_VALUE"


def metric(key: Any, value: Any = 1.0, timestamp: Any = 1, step: Any = 0) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": timestamp, "step": step}


@pytest.mark.parametrize(
    "bad",
    [
        metric("../up"), metric("a;b"), metric("k" * 251), metric(""), metric(None), metric(7), metric("m", "abc"), metric("m", None),
        metric("m", True), metric("m", [1]), metric("m", 1, -1), metric("m", 1, 2**63), metric("m", 1, 1, 2**63), metric("m", 1, 1, -(2**63) - 1),
        metric("m", 1, 1, 0.5), metric("m", 1, "now"), {"key": "m"}, [], "m", 3,
    ],
)  # fmt: skip
def test_a_batch_with_one_bad_point_leaves_nothing(door: Any, bad: Any) -> None:
    run = door.run()
    points = [metric("m", n, 1, n) for n in range(999)]
    points.insert(500, bad)
    status, answer = door.post(
        "runs/log-batch",
        {
            "run_id": run,
            "metrics": points,
            "params": [{"key": "p", "value": "1"}],
            "tags": [{"key": "t", "value": "1"}],
        },
    )
    assert (status, answer["error_code"]) == (400, BAD)
    kept = door.session.runs.show(run)
    assert (kept.metrics, kept.params, kept.tags) == ({}, {}, {})
    assert door.session.runs.history(run, "m") == ()


def test_a_batch_with_one_bad_param_leaves_nothing(door: Any) -> None:
    run = door.run()
    door.post("runs/log-parameter", {"run_id": run, "key": "lr", "value": "1"})
    given = {
        "run_id": run, "metrics": [metric("m")], "params": [{"key": "new", "value": "1"}, {"key": "lr", "value": "2"}],
        "tags": [{"key": "t", "value": "1"}, {"key": "mlflow.runName", "value": "another"}],
    }  # fmt: skip
    before = door.session.runs.show(run).name
    status, answer = door.post("runs/log-batch", given)
    assert (status, answer["error_code"]) == (400, BAD)
    kept = door.session.runs.show(run)
    assert (kept.name, kept.metrics, kept.params, kept.tags) == (before, {}, {"lr": "1"}, {})


def test_a_batch_that_renames_is_one_change(door: Any) -> None:
    run = door.run()
    entries = len(door.session.ledger.entries(limit=1000))
    tags = [{"key": "t", "value": "1"}, {"key": "mlflow.runName", "value": "another"}]
    given = {"run_id": run, "metrics": [metric("m")], "params": [{"key": "lr", "value": "1"}], "tags": tags}
    assert door.post("runs/log-batch", given) == (200, {})
    kept = door.session.runs.show(run)
    assert (kept.name, kept.params, kept.tags) == ("another", {"lr": "1"}, {"t": "1"})
    assert len(door.session.ledger.entries(limit=1000)) == entries + 1
    assert door.post("runs/log-batch", {"run_id": run, "tags": [{"key": "mlflow.runName", "value": "third"}]})[0] == 200
    assert door.session.runs.show(run).name == "third"


@pytest.mark.parametrize("key", ["NaN", "nan", "Infinity", "null", "ключ", "鍵", "a b", "a:b", "a/b.c-d:e_f"])
def test_a_key_may_be_any_name(door: Any, key: str) -> None:
    run = door.run()
    door.post("runs/log-metric", {"run_id": run, **metric(key, "NaN")})
    door.post("runs/log-parameter", {"run_id": run, "key": key, "value": key})
    assert door.post("runs/set-tag", {"run_id": run, "key": key, "value": key}) == (200, {})
    kept = door.session.runs.show(run)
    assert (kept.metrics, kept.params, kept.tags) == ({key: "NaN"}, {key: key}, {key: key})
    found = door.post(
        "runs/search", {"experiment_ids": ["0"], "filter": f"params.`{key}` = '{key}' AND tags.`{key}` = '{key}'"}
    )
    assert [one["info"]["run_id"] for one in found[1]["runs"]] == [run]


def test_a_key_that_is_another_path_is_refused(door: Any) -> None:
    run = door.run()
    for key in (
        "..", "../../etc/passwd", "/etc/passwd", "a/../b", "a//b", "./a", "a/", ".", "a\\b", "a\nb", "a%2e", "a#b", "a?b",
    ):  # fmt: skip
        for path, sent in (
            ("runs/log-metric", metric(key)), ("runs/log-parameter", {"key": key, "value": "1"}), ("runs/set-tag", {"key": key, "value": "1"}),
        ):  # fmt: skip
            status, answer = door.post(path, {"run_id": run, **sent})
            assert (status, answer["error_code"]) == (400, BAD), (path, key)
    kept = door.session.runs.show(run)
    assert (kept.metrics, kept.params, kept.tags) == ({}, {}, {})


def test_ten_megabytes_of_a_param_are_cut_as_mlflow_cuts_them(door: Any) -> None:
    run = door.run()
    value = "x" * 10_000_000
    for _ in range(2):  # the same again is the same
        assert door.post("runs/log-parameter", {"run_id": run, "key": "big", "value": value}) == (200, {})
    assert door.session.runs.show(run).params == {"big": "x" * 6000}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"[" * 100_000, b'{"run_id": ' * 1000, b'{"run_id": "a\\u0000b", "key": "k"}',
        b'{"run_id": "\\ud800", "key": "k"}', b"\xff\xfe", b'{"run_id": 1}', b'{"run_id": {"a": 1}, "key": []}', b'{"run_id": NaN}',
        b'{"run_id": "a", "run_id": "b"}', b'{"run_id": 1e999}', b'{"run_id": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_a_bad_request(shared: Any, body: bytes) -> None:
    for path in (
        "runs/log-batch",
        "runs/log-metric",
        "runs/set-tag",
        "runs/create",
        "runs/search",
        "experiments/create",
    ):
        status, answer = shared.post(path, body)
        if path in ("runs/create", "runs/search") and status == 200:
            continue  # of these nothing needs to be said
        assert status in (400, 404), (path, answer)
        assert answer["error_code"] in (BAD, "RESOURCE_DOES_NOT_EXIST"), (path, answer)


def test_a_nul_stands_nowhere(door: Any) -> None:
    run = door.run()
    for path, sent in (
        ("runs/log-parameter", {"key": "p", "value": "a\0b"}), ("runs/set-tag", {"key": "t", "value": "\0"}),
        ("runs/update", {"run_name": "a\0"}), ("runs/log-batch", {"tags": [{"key": "t", "value": "\0"}]}),
        ("runs/log-inputs", {"datasets": [{"dataset": {"name": "a\0", "digest": "1"}}]}),
    ):  # fmt: skip
        status, answer = door.post(path, {"run_id": run, **sent})
        assert (status, answer["error_code"]) == (400, BAD), path
    assert door.get("runs/get", {"run_id": "a\0b"})[0] == 400
    assert door.post("runs/search", {"experiment_ids": ["0"], "filter": "params.p = 'a\0'"})[0] == 400


@pytest.mark.parametrize(
    "text",
    [
        "params.p = 'x' OR 1=1", "params.p = ''; DROP TABLE runs; --'", "params.p = 'x''); DELETE FROM runs; --'",
        "params.`p\" = '1' OR \"1` = '1'", "tags.\"a' OR '1'='1\" = 'x'", "params.p = 'x' -- comment", "run_id IN ('a') UNION SELECT 1",
        "params.p LIKE '%' ESCAPE '%'", "name = 'x' AND (SELECT 1)", "metrics.m > 1/0", "metrics.m > 1e999999",
    ],
)  # fmt: skip
def test_a_filter_reaches_nothing_else(door: Any, text: str) -> None:
    run = door.run()
    door.post("runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})
    status, answer = door.post("runs/search", {"experiment_ids": ["0"], "filter": text})
    assert status == 400 or answer == {}, answer
    assert door.get("runs/get", {"run_id": run})[0] == 200


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "A" * 1_000_000,
        "bnVsbA==",
        "eyJvZmZzZXQiOiAtMX0=",
        "eyJvZmZzZXQiOiAiYSJ9",
        "eyJvZmZzZXQiOiAxZTk5OX0=",
        "=",
        "é",
    ],
)
def test_a_page_token_that_is_none_is_told(shared: Any, token: str) -> None:
    run = shared.run()
    for answer in (
        shared.post("runs/search", {"experiment_ids": ["0"], "page_token": token}),
        shared.post("experiments/search", {"max_results": 5, "page_token": token}),
    ):
        assert answer[0] == 400
        assert answer[1]["error_code"] == BAD
    status, _ = shared.get("metrics/get-history", {"run_id": run, "metric_key": "m", "page_token": token[:4000]})
    assert status == 400


def test_ids_beyond_all_numbers_are_those_of_nothing(door: Any) -> None:
    run = door.run()
    many = [str(n) for n in range(1, 400_000)]
    for ids in ([str(2**31)], [str(2**70)], ["-1"], many):
        for path in ("runs/search", "logged-models/search"):
            assert door.post(path, {"experiment_ids": ids}) == (200, {}), (path, ids[:1])
        assert door.post("experiments/search-datasets", {"experiment_ids": ids[:20]}) == (200, {})
    found = door.post("runs/search", {"experiment_ids": [*many, str(2**70), "0"]})[1]["runs"]
    assert [one["info"]["run_id"] for one in found] == [run]
    for ids in (str(2**31), str(2**70), "-1"):
        assert door.get("experiments/get", {"experiment_id": ids})[0] == 404
        assert door.post("runs/create", {"experiment_id": ids})[0] == 404


@pytest.mark.parametrize("time", [-5, 2**62, -(2**63)])
def test_a_run_at_no_time_is_refused_by_its_time(door: Any, time: int) -> None:
    run = door.run()
    for path, sent in (("runs/create", {"start_time": time}), ("runs/update", {"run_id": run, "end_time": time})):
        status, answer = door.post(path, sent)
        assert (status, answer["error_code"]) == (400, BAD)
        assert str(time) in answer["message"]


@pytest.mark.parametrize("said", ["", "x", "[1]", '{"a": "b"}', "[" * 32_000, "null"])
def test_what_people_write_into_the_tags_of_clients_breaks_nothing(shared: Any, said: str) -> None:
    run = shared.run()
    made = shared.post("logged-models", {"experiment_id": "0", "name": "made"})[1]["model"]["info"]["model_id"]
    assert shared.post("runs/outputs", {"run_id": run, "models": [{"model_id": made, "step": 3}]})[0] == 200
    for name in ("loopline.model_steps", "mlflow.log-model.history", "mlflow.modelVersions"):
        shared.session.runs.tag(run, {name: said})
        shared.session.runs.tag(made.removeprefix("m-"), {name: said})
    status, answer = shared.get("runs/get", {"run_id": run})
    assert (status, answer["run"]["outputs"]["model_outputs"]) == (200, [{"model_id": made, "step": 0}])
    assert shared.post("runs/search", {"experiment_ids": ["0"]})[0] == 200
    described = json.dumps({"artifact_path": "a", "flavors": {}, "utc_time_created": "x", "run_id": run})
    assert shared.post("runs/log-model", {"run_id": run, "model_json": described}) == (200, {})
    assert shared.post("runs/outputs", {"run_id": run, "models": [{"model_id": made, "step": 4}]}) == (200, {})
    assert shared.get("runs/get", {"run_id": run})[1]["run"]["outputs"]["model_outputs"][0]["step"] == 4
    given = {"name": "made", "source": f"models:/{made}", "model_id": made}
    if shared.get("registered-models/get", {"name": "made"})[0] == 404:
        assert shared.post("registered-models/create", {"name": "made"})[0] == 200
    shared.session.runs.put_artifact(made.removeprefix("m-"), "MLmodel", Body(b"x"))
    assert shared.post("model-versions/create", given)[0] == 200


def test_many_params_are_kept(door: Any) -> None:
    run = door.run()
    for start in range(0, 10_000, 100):
        params = [{"key": f"p{n}", "value": str(n)} for n in range(start, start + 100)]
        assert door.post("runs/log-batch", {"run_id": run, "params": params})[0] == 200
    kept = door.get("runs/get", {"run_id": run})[1]["run"]["data"]["params"]
    assert {pair["key"]: pair["value"] for pair in kept} == {f"p{n}": str(n) for n in range(10_000)}


def test_infinities_are_kept_and_shown_as_mlflow_shows_them(door: Any) -> None:
    run = door.run()
    for value in ("Infinity", "-Infinity", "NaN"):
        door.post("runs/log-metric", {"run_id": run, **metric(value, value)})
    shown = {one["key"]: one["value"] for one in door.get("runs/get", {"run_id": run})[1]["run"]["data"]["metrics"]}
    assert shown == {"Infinity": 1.7976931348623157e308, "-Infinity": -1.7976931348623157e308, "NaN": "NaN"}
    assert door.session.runs.show(run).metrics == {value: value for value in shown}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_is_a_server_error(shared: Any, data: Any) -> None:
    endpoint = data.draw(
        st.sampled_from([one for one in ENDPOINTS if one.takes == "json" and one.path.startswith("/api/")])
    )
    fields = [name for name in endpoint.kind.__struct_fields__ if name != "run_uuid"]
    likely = st.sampled_from(
        ["0", "1", 0, 1.5, "NaN", "a", shared.run(), "ACTIVE_ONLY", [], [{}], ["0"], [{"key": "k", "value": "v"}]]
    )
    given = {name: data.draw(likely | _JSON) for name in fields if data.draw(st.booleans())}
    path = re.sub(r"{\w+(:path)?}", "x", endpoint.path)
    if endpoint.method == "GET":
        plain = {name: value for name, value in given.items() if isinstance(value, str | int | float | list)}
        status, answer = (
            shared.get(path.removeprefix("/api/2.0/mlflow/"), plain) if "2.0/mlflow/" in path else (200, {})
        )
    else:
        status, answer = shared.ask(
            endpoint.method, path, json.dumps(given).encode(), {"Content-Type": "application/json"}
        )
    assert status < 500 or status == 501, (path, given, answer)


@given(text=st.text("abA%_\n", max_size=8), pattern=st.text("abA%_", max_size=8))
def test_like_is_what_a_regular_expression_says(text: str, pattern: str) -> None:
    expected = "".join({"%": ".*", "_": "."}.get(c) or re.escape(c) for c in pattern)
    assert like(text, pattern) == (re.fullmatch(expected, text, re.DOTALL) is not None)


def test_no_pattern_takes_for_ever() -> None:
    assert not like("a" * 20_000, "%a" * 200 + "b")


def test_names_are_an_adjective_an_animal_and_a_number() -> None:
    names = {generated() for _ in range(200)}
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    assert len(names) > 150
