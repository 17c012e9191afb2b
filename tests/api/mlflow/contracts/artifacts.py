"""Files of runs, as MLflow's own server keeps and lists them."""

from __future__ import annotations

from typing import Any

from contracts.contract import Call, get, post

PROXY = "/api/2.0/mlflow-artifacts"
HERE = f"{PROXY}/artifacts/0/{{run}}/artifacts"
MPU = f"{PROXY}/mpu"
ROOT = "0/{run}/artifacts"
TEXT = {"Content-Type": "text/plain"}


def put(name: str, path: str, content: bytes = b"x", **more: Any) -> Call:
    """A file that is brought; `path` is sent as it stands."""
    return Call(name, "PUT", f"{HERE}/{path}", raw=content, headers=TEXT, **more)


def fetch(name: str, path: str, **more: Any) -> Call:
    """A file that is fetched."""
    return Call(name, "GET", f"{HERE}/{path}", **more)


def remove(name: str, path: str, **more: Any) -> Call:
    """A file or a folder that is removed."""
    return Call(name, "DELETE", f"{HERE}/{path}", raw=b"", **more)


UNSAFE = {
    "dots": "../x", "dots in between": "sub/../../x", "encoded dots": "%2e%2e/x", "dots encoded twice": "%252e%252e/x",
    "dots and an encoded slash": "..%2fx", "a fragment": "a%23/../../x",
}  # fmt: skip

ARTIFACTS = [
    post("a run", "runs/create", {
        "experiment_id": "0", "start_time": 5, "run_name": "files", "user_id": "ann", "tags": [{"key": "mlflow.user", "value": "ann"}],
    }, keep={"run": "run.info.run_id"}),
    get("an empty run", "artifacts/list", {"run_id": "{run}"}),
    put("a file", "a.txt", b"hello"),
    put("a file in a folder", "sub/deep/b.json", b'{"a": 1}'),
    put("an empty file", "sub/empty", b""),
    put("a name with spaces and letters", "sub/%C3%BC%20b.bin", b"\0\1"),
    put("a file anew", "a.txt", b"hello!"),
    fetch("fetch it", "a.txt"),
    fetch("fetch from a folder", "sub/deep/b.json"),
    fetch("fetch a name with spaces and letters", "sub/%C3%BC%20b.bin"),
    fetch("fetch what is not there", "none.txt"),
    fetch("fetch a folder", "sub", differs="MLflow says it in another form there", ours=(400, "INVALID_PARAMETER_VALUE")),
    get("list a run", "artifacts/list", {"run_id": "{run}"}),
    get("list a run by its old name", "artifacts/list", {"run_uuid": "{run}"}),
    get("list a folder", "artifacts/list", {"run_id": "{run}", "path": "sub"}),
    get("list a folder of a folder", "artifacts/list", {"run_id": "{run}", "path": "sub/deep"}),
    get("list a file", "artifacts/list", {"run_id": "{run}", "path": "a.txt"}),
    get("list what is not there", "artifacts/list", {"run_id": "{run}", "path": "none"}),
    get("list above the run", "artifacts/list", {"run_id": "{run}", "path": "../x"}),
    get("list by an absolute path", "artifacts/list", {"run_id": "{run}", "path": "/etc"}),
    get("list without a run", "artifacts/list", {}),
    get("list a run that is not there", "artifacts/list", {"run_id": "none"}),
    get("list through the proxy", f"{PROXY}/artifacts", {"path": ROOT}),
    get("list a folder through the proxy", f"{PROXY}/artifacts", {"path": f"{ROOT}/sub"}),
    get("list a file through the proxy", f"{PROXY}/artifacts", {"path": f"{ROOT}/a.txt"}),
    get("list what is not there through the proxy", f"{PROXY}/artifacts", {"path": f"{ROOT}/none"}),
    get("list dots through the proxy", f"{PROXY}/artifacts", {"path": f"{ROOT}/../../x"}),
    get("a page asks", "/get-artifact", {"run_id": "{run}", "path": "a.txt"}),
    get("a page asks by the old name", "/get-artifact", {"run_uuid": "{run}", "path": "sub/deep/b.json"}),
    get("a page asks for what is not there", "/get-artifact", {"run_id": "{run}", "path": "none"}),
    get("a page asks for dots", "/get-artifact", {"run_id": "{run}", "path": "../x"}),
    get("a page asks about a run that is not there", "/get-artifact", {"run_id": "none", "path": "x"}),
    Call("a page brings a file", "POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=pages/c.json", raw=b"{}",
         headers={"Content-Type": "application/json"}),
    Call("a page brings nothing", "POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=pages/c.json", raw=b""),
    Call("a page brings a file for no run", "POST", "/ajax-api/2.0/mlflow/upload-artifact?path=c", raw=b"x"),
    Call("a page brings a file without a path", "POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}", raw=b"x"),
    Call("a page brings a file for dots", "POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=../c", raw=b"x"),
    *(put(f"bring to {name}", path) for name, path in UNSAFE.items()),
    *(fetch(f"fetch by {name}", path) for name, path in UNSAFE.items()),
    *(remove(f"remove by {name}", path) for name, path in UNSAFE.items()),
    Call("bring to an absolute path", "PUT", f"{PROXY}/artifacts//etc/passwd", raw=b"x", headers=TEXT),
    Call("bring to no run", "PUT", f"{PROXY}/artifacts/whatever/x", raw=b"x", headers=TEXT,
         differs="a file belongs to a run", ours=(400, "INVALID_PARAMETER_VALUE")),
    Call("bring to a run that is not there", "PUT", f"{PROXY}/artifacts/0/01AAAAAAAAAAAAAAAAAAAAAAAA/artifacts/x", raw=b"x", headers=TEXT,
         differs="a file belongs to a run", ours=(404, "RESOURCE_DOES_NOT_EXIST")),
    remove("remove what is not there", "none"),
    remove("remove a file", "a.txt"),
    remove("remove a folder", "sub/deep"),
    get("what is left", "artifacts/list", {"run_id": "{run}"}),
    get("what is left in the folder", "artifacts/list", {"run_id": "{run}", "path": "sub"}),
    put("a name with a colon", "a:b", b"colon"),
    put("a folder with a colon", "c%3Ax/y:z.json", b"{}"),
    fetch("fetch a name with a colon", "a%3Ab"),
    fetch("fetch from a folder with a colon", "c:x/y:z.json"),
    get("list names with a colon", "artifacts/list", {"run_id": "{run}"}),
    get("list a folder with a colon", f"{PROXY}/artifacts", {"path": f"{ROOT}/c:x"}),
    get("a page asks for a name with a colon", "/get-artifact", {"run_id": "{run}", "path": "a:b"}),
    remove("remove a name with a colon", "a:b"),
    remove("remove a folder with a colon", "c:x"),
    put("a drive's root", "c:/x", differs="it is another place on some of the clients' systems", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("the folder above on a drive", "c:../x", differs="it is a way up on some of the clients' systems", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("a dot at the end", "a.", differs="some of the clients' systems leave it out", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("a space at the end", "a%20/b", differs="some of the clients' systems leave it out", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("dots alone", "a/.../b", differs="some of the clients' systems leave them out", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("a sign that turns the text round", "a%E2%80%AEb", differs="it shows another name", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("a backslash", "a%5cb", differs="it is a way up on some of the clients' systems", ours=(400, "INVALID_PARAMETER_VALUE")),
    put("a NUL", "a%00b", differs="no file has such a name", ours=(400, "INVALID_PARAMETER_VALUE")),
    post("begin a file in parts", f"{MPU}/create/{ROOT}", {"path": "f", "num_parts": 3},
         differs="parts are taken here wherever files are kept", ours=(200, "")),
    post("begin without a path", f"{MPU}/create/{ROOT}", {"num_parts": 3}),
    post("complete a file in parts", f"{MPU}/complete/{ROOT}", {"path": "f", "upload_id": "1", "parts": []},
         differs="parts are taken here wherever files are kept", ours=(404, "RESOURCE_DOES_NOT_EXIST")),
    post("abort a file in parts", f"{MPU}/abort/{ROOT}", {"path": "f", "upload_id": "1"},
         differs="parts are taken here wherever files are kept", ours=(404, "RESOURCE_DOES_NOT_EXIST")),
    get("an address to fetch from", f"{PROXY}/presigned/{ROOT}/sub/empty"),
    post("an address to send to", "artifacts/presigned-upload-url", {"path": "f", "run_id": "{run}"}),
    post("an address to send to, of nothing", "artifacts/presigned-upload-url", {"path": "f"}),
    post("an address to send to, of dots", "artifacts/presigned-upload-url", {"path": "../f", "run_id": "{run}"}),
    post("an address to fetch a file from", "artifacts/presigned-download-url", {"path": "f", "run_id": "{run}"}),
    post("an address to fetch a file from, of no run", "artifacts/presigned-download-url", {"path": "f"}),
]  # fmt: skip

TOPICS = {"artifacts": ARTIFACTS}
