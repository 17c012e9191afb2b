"""Attacks on what is tracked, over HTTP as they would come, each under the number of its class.

1 to 6 are about the paths of files, 7 and 8 about archives, 9 about names, 10 about links in the store, 11 about the things of
other projects, 20 about shells, 22 about callers without credentials, 36 about sizes, 37 about searches, 38 about numbers.
"""

from __future__ import annotations

import gzip
import http.client
import io
import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

import pytest

from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.errors import LooplineError
from loopline.operations import OPERATIONS, Body
from loopline.tracking.ids import ulid
from loopline.tracking.journal_format import KINDS, LARGEST, frame, pack, run_prefix
from loopline.tracking.working_copy import working_copy

SECRET = b"what nobody may read"
VERBS = ("PUT", "GET", "POST", "DELETE")


class Target:
    """A platform behind a socket, with a run of two files, and a file beside the workspace that is nobody's business."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret.txt"
        self.secret.write_bytes(SECRET)
        self.platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "copies"))
        self.session = self.platform.session()
        self.run = self.session.runs.create("a").id
        self.session.runs.put_artifact(self.run, "plots/a.png", Body(b"png"))
        self.session.runs.put_artifact(self.run, "b.txt", Body(b"text"))
        self.server = ApiServer(self.platform).start()

    def send(
        self, method: str, path: str, body: bytes | None = None, media: str = "application/json", **headers: str
    ) -> tuple[int, bytes]:
        """The answer to a request whose path is sent as it stands."""
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=60)
        sent = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
        try:
            connection.request(method, f"/api/v1/projects/default/{path}", body, sent if body is not None else headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def file(self, method: str, path: str) -> tuple[int, bytes]:
        """The answer to a request about a file of the run; `path` is sent as it stands."""
        body, media = {"PUT": (b"x", "application/octet-stream"), "POST": (b'{"digest": "x"}', "application/json")}.get(
            method, (None, "")
        )
        return self.send(method, f"runs/{self.run}/artifacts/{path}", body, media)

    def names(self) -> set[str]:
        """Every file and folder that there is, databases apart, which make and remove their own."""
        return {str(p) for p in self.folder.rglob("*") if ".db" not in p.name}

    def kept(self) -> list[str]:
        return [file.path for file in self.session.runs.artifacts(self.run)]

    def close(self) -> None:
        self.server.stop()
        self.platform.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    made = Target(tmp_path_factory.mktemp("attacked"))
    yield made
    made.close()


def refused(target: Target, paths: list[str]) -> None:
    """No verb takes one of these paths, and afterwards everything is as it was."""
    files, kept = target.names(), target.kept()
    for path in paths:
        for method in VERBS:
            status, said = target.file(method, path)
            assert status in (400, 404), (method, path, status, said)
            assert SECRET not in said
        plain = unquote(path)
        if "\ufffd" in plain or "\0" in plain:  # JSON and journals are of texts
            continue
        body = json.dumps({"path": plain, "parts": 1}).encode()
        status, said = target.send("POST", f"runs/{target.run}/uploads", body)
        assert status == 400, (path, said)
        entry = json.dumps({"path": plain, "digest": "blake3:" + "0" * 64, "size": 1}).encode()
        batch = pack(frame(KINDS.index("artifact") + 1, run_prefix(target.run) + entry))
        status, said = target.send("PUT", f"journals/{ulid(3)}/1", batch, "application/octet-stream")
        assert status == 400, (path, said)
    assert (target.names(), target.kept()) == (files, kept)
    assert target.secret.read_bytes() == SECRET


def test_01_dots_in_the_path_of_a_file(target: Target) -> None:
    refused(
        target,
        ["../x", "../../../secret.txt", "plots/../../x", "plots/..", "..", "./b.txt", "plots/./a.png", "...", ".%2e/x"],
    )


def test_02_absolute_paths_and_file_addresses(target: Target) -> None:
    there = str(target.secret)
    refused(
        target,
        [there, quote(there, safe=""), "/" + there, "C:/x", "c%3A%2fx", "c:../x", "%2fetc%2fpasswd", "//host/share"],
    )
    for given in (f"file://{there}", f"file:{there}", there):
        body = json.dumps({"inputs": [given]}).encode()
        assert target.send("POST", f"runs/{target.run}/inputs", body)[0] == 400


def test_03_backslashes(target: Target) -> None:
    refused(target, ["%5c..%5cx", "plots%5c..%5c..%5cx", "a%5cb", "%5c%5chost%5cshare", "..%5cx"])


def test_04_paths_that_are_encoded_twice_and_three_times(target: Target) -> None:
    for times in range(1, 5):
        for path in ("../../x", "/etc/passwd", "plots/../../x", "..\\x"):
            for _ in range(times):
                path = "".join(f"%{ord(c):02x}" if c in "./\\%" else c for c in path)
            refused(target, [path])


@pytest.mark.timeout(60)
def test_04_what_is_encoded_very_often_takes_no_time(target: Target) -> None:
    """Decoding it round by round would take hours: each takes off two characters."""
    often = "%" + "25" * 1_000_000 + "2e"
    body = json.dumps({"path": often, "parts": 1}).encode()
    assert target.send("POST", f"runs/{target.run}/uploads", body)[0] == 400
    entry = json.dumps({"path": often, "digest": "blake3:" + "0" * 64, "size": 1}).encode()
    batch = pack(frame(KINDS.index("artifact") + 1, run_prefix(target.run) + entry))
    assert target.send("PUT", f"journals/{ulid(3)}/1", batch, "application/octet-stream")[0] == 400
    assert target.file("PUT", "%" + "25" * 3000)[0] == 400


def test_05_parameters_queries_and_fragments(target: Target) -> None:
    refused(
        target,
        ["a;/../../x", "a;x=1/..%3b/..", "a%3f/../x", "a%23/../../x", "..;/x", "%2e%2e;/x", "a%3b/%2e%2e/%2e%2e/x"],
    )


def test_06_removing_what_is_outside(target: Target) -> None:
    refused(
        target,
        [
            "",
            "%2e",
            "%2e%2e",
            "..%2f..%2f..",
            f"../../{target.run}",
            "plots/a.png/../..",
            quote(str(target.folder), safe=""),
        ],
    )
    assert target.file("DELETE", "nothing/here")[0] == 404


def _archive(members: list[tuple[str, bytes, str]]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, to in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, to
            tar.addfile(member)
    return data.getvalue()


LINKS = [("plots", tarfile.SYMTYPE, "/tmp"), ("plots/pwned", tarfile.REGTYPE, "")]
ODD = [
    ("hard", tarfile.LNKTYPE, "/etc/passwd"), ("device", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""),
    ("/abs/pwned", tarfile.REGTYPE, ""), ("../pwned", tarfile.REGTYPE, ""),
]  # fmt: skip


@pytest.mark.parametrize("members", [LINKS, ODD], ids=["07_a_link_in_an_archive", "08_odd_members_of_an_archive"])
def test_07_and_08_archives(target: Target, members: list[tuple[str, bytes, str]]) -> None:
    """An archive is kept as the bytes that it is: nothing unpacks it. As a model's bundle it is refused."""
    data, before = _archive(members), target.names()
    kept = target.session.runs.put_artifact(target.run, "archive.tar", Body(data))
    assert target.session.runs.artifact(target.run, "archive.tar").read() == data
    status, said = target.send("POST", "models/m/versions", data, "application/octet-stream")
    assert status == 400, said
    target.session.runs.remove_artifact(target.run, "archive.tar")
    digest = kept.digest.partition(":")[2]
    new = {Path(name).name for name in target.names() - before if Path(name).is_file()}
    assert new <= {digest[2:]}
    assert not Path("/tmp/pwned").exists()


def test_09_names_that_are_no_names(target: Target) -> None:
    refused(
        target,
        ["a%00b", "%00", "a%c0%af..%c0%afx", "%c0%ae%c0%ae/x", "%e0%80%ae/x", "%ed%a0%80", "%ff", "%ef%bc%8e%ef%bc%8e/x",
         "%e2%80%a5/x", "a.", "a%20/b", "a../b", "a%0ab", "a%e2%80%aeb", "x" * 5000, "y" * 300],
    )  # fmt: skip
    runs = target.session.runs
    for path, data in (("case/A.txt", b"upper"), ("case/a.txt", b"lower")):
        runs.put_artifact(target.run, path, Body(data))
    assert [runs.artifact(target.run, f"case/{name}.txt").read() for name in "Aa"] == [b"upper", b"lower"]
    runs.remove_artifact(target.run, "case/a.txt")
    assert runs.artifact(target.run, "case/A.txt").read() == b"upper"
    runs.remove_artifact(target.run, "case")
    for name in ("", "\0", "a\0b", "x" * 5000):
        status, said = target.send("POST", "runs", json.dumps({"name": name}).encode())
        assert status == 400, said


def test_10_links_that_are_put_into_the_store(tmp_path: Path) -> None:
    target = Target(tmp_path)
    try:
        digest = target.session.runs.artifacts(target.run)[0].digest
        blob = target.platform.blobs.path(digest)
        blob.unlink()
        blob.symlink_to(target.secret)
        status, said = target.file("GET", "b.txt")
        assert status == 404, said
        assert SECRET not in said
        target.session.runs.put_artifact(target.run, "b.txt", Body(b"text"))
        assert not blob.is_symlink(), "the same bytes mend it"
        assert target.file("GET", "b.txt") == (200, b"text")
        aside = tmp_path / "aside"
        blob.parent.rename(aside)
        blob.parent.symlink_to(aside)
        assert target.file("GET", "b.txt")[0] == 404
        with pytest.raises(LooplineError, match="is a link"):
            target.session.runs.put_artifact(target.run, "c.txt", Body(b"text"))
        assert target.secret.read_bytes() == SECRET
    finally:
        target.close()


def test_11_files_of_another_project(target: Target) -> None:
    target.session.projects.create("clinic")
    there = target.platform.session(project="clinic")
    foreign = there.runs.create("theirs").id
    file = there.runs.put_artifact(foreign, "a.txt", Body(SECRET))
    for run in (foreign, f"run:{foreign}", f"run:clinic/{foreign}", f"clinic/{foreign}", f"../clinic/{foreign}"):
        for method in ("GET", "PUT", "DELETE"):
            status, said = target.send(
                method, f"runs/{quote(run, safe='')}/artifacts/a.txt", b"x" if method == "PUT" else None,
                "application/octet-stream",
            )  # fmt: skip
            assert status in (400, 404), (run, method, said)
            assert SECRET not in said
    body = json.dumps({"digest": file.digest}).encode()
    assert target.send("POST", f"runs/{target.run}/artifacts/stolen", body)[0] == 404
    assert there.runs.artifact(foreign, "a.txt").read() == SECRET


def test_20_what_a_shell_would_run(target: Target, tmp_path: Path) -> None:
    runs = target.session.runs
    words = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "| touch pwned",
        "&& touch pwned",
        "--output=pwned",
        "a' OR '1",
    ]
    run = runs.create(
        words[0], params={f"p{n} {word}": word for n, word in enumerate(words)}, tags={word: word for word in words}
    )
    assert set(runs.show(run.id).params.values()) == set(words)
    repository = tmp_path / "repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository)]
    subprocess.run(["git", "init", "-q", repository], check=True)
    (repository / "a.py").write_text("1\n")
    for arguments in (["add", "."], ["commit", "-qm", "a"], ["checkout", "-qb", "x;touch${IFS}pwned"]):
        subprocess.run([*git, *arguments], check=True)
    for name in ("$(touch pwned).py", "--output=pwned", "`touch pwned`"):
        (repository / name).write_text("2\n")
    (repository / "a.py").write_text("3\n")
    found = working_copy(repository)
    assert found.facts["branch"] == "x;touch${IFS}pwned"
    assert list(tmp_path.rglob("pwned")) == []
    assert not Path("pwned").exists()


def test_22_callers_without_credentials(target: Target) -> None:
    proxied = {"X-Forwarded-For": "10.0.0.9"}  # as through a proxy: nobody is the own user then
    for op in OPERATIONS.values():
        if op.group in ("runs", "groups"):
            path = op.path.replace("/projects/{project}/", "").replace("{run}", target.run)
            for place, value in (("path:path", "b.txt"), ("key:path", "loss"), ("sender", ulid(1)), ("number", "1"),
                                 ("name", "x"), ("group", "0")):  # fmt: skip
                path = path.replace("{" + place + "}", value)
            body = None if op.method == "GET" else b"{}"
            for more in ({}, {"Authorization": "Bearer ll_" + "A" * 43}, {"Authorization": "Basic !!!"}):
                status, said = target.send(op.method, path, body, **proxied, **more)
                assert status == 401, (op.name, said)
    assert target.kept() == ["b.txt", "plots/a.png"]


def test_36_sizes(target: Target) -> None:
    path = f"runs/{target.run}/params"
    cases = {
        "33 MB of JSON": (b'{"params": {"a": "' + b"x" * (33 << 20) + b'"}}', {}),
        "a million params": (json.dumps({"params": {f"p{n}": n for n in range(1_000_000)}}).encode(), {}),
        "a value of 10 MB": (b'{"params": {"a": "' + b"x" * (10 << 20) + b'"}}', {}),
        "nested 100,000 deep": (b'{"params": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, {}),
        "lists 100,000 deep": (b'{"params": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", {}),
        "compressed zeros": (gzip.compress(bytes(64 << 20)), {"Content-Encoding": "gzip"}),
        "a number of a million digits": (b'{"params": {"a": ' + b"9" * 1_000_000 + b"}}", {}),
        "a boundary of 1 MB": (b"--" + b"b" * (1 << 20), {"Content-Type": "multipart/form-data; boundary=b"}),
    }  # fmt: skip
    for what, (body, headers) in cases.items():
        status, said = target.send("POST", path, body, **headers)
        assert 400 <= status < 500, (what, status, said[:200])
    assert target.session.runs.show(target.run).params == {}
    bomb = b"\1" + zlib.compress(bytes(16 * LARGEST), 9)
    status, said = target.send("PUT", f"journals/{ulid(2)}/1", bomb, "application/octet-stream")
    assert status in (400, 413), said


@pytest.mark.timeout(120)
def test_37_searches(target: Target) -> None:
    runs = target.session.runs
    runs.tag(target.run, {"text": "a" * 5000, "o'clock": "x"})
    began = target.session.runs.list().runs
    for filter in (
        "tags.text ~ '^(a+)+$b'", "tags.text ~ '(a|a)*b'", "tags.text ~ '(.*)*x(.*)*y'", "tags.text ~ '(a{1,100}){1,100}b'",
        "tags.text ~ '" + "(" * 500 + "a" + ")*" * 500 + "'", "tags.text LIKE '" + "%a" * 2000 + "b'",
        "name = 'x'; DROP TABLE runs", "name = 'x' OR 1=1 --", "name = '' UNION SELECT * FROM tokens", "name = 'x'' OR ''1''=''1'",
        "tags.\"o'clock\" = 'x'; DELETE FROM runs", "params.`a` = 1) OR (1=1", "NOT " * 50_000 + "name = 'a'",
        "(" * 50_000 + "name = 'a'",
        "name IN (" + ", ".join(["'x'"] * 100_000) + ")",
    ):  # fmt: skip
        query = urlencode({"filter": filter})
        status, said = target.send("GET", f"run-search?{query}")
        assert status in (200, 400, 414, 431), (filter[:80], status, said[:200])
        assert status != 200 or target.run not in said.decode() or "DROP" not in filter, filter
    for order in ("name; DROP TABLE runs", "(SELECT 1)", "params.a) DESC, (SELECT 1", "name DESC --"):
        query = urlencode({"order": json.dumps([order])})
        assert target.send("GET", f"run-search?{query}")[0] == 400, order
    assert target.session.runs.list().runs == began


def test_38_numbers(target: Target) -> None:
    path = f"runs/{target.run}/metrics"
    fine = {"key": "fine", "value": 1.0, "step": 0, "time": 1}
    for bad in (
        '{"key": "m", "value": 1, "step": 9223372036854775808, "time": 1}', '{"key": "m", "value": 1, "step": 1.5, "time": 1}',
        '{"key": "m", "value": 1, "step": 0, "time": -2}', '{"key": "m", "value": 1, "step": 0, "time": 9223372036854775808}',
        '{"key": "m", "value": NaN, "step": 0, "time": 1}', '{"key": "m", "value": 1e999, "step": 0, "time": 1}',
        '{"key": "m", "value": "nan", "step": 0, "time": 1}', '{"key": null, "value": 1, "step": 0, "time": 1}',
        '{"key": "", "value": 1, "step": 0, "time": 1}', '{"key": "NaN\\u0000", "value": 1, "step": 0, "time": 1}',
        '{"key": "m", "value": true, "step": 0, "time": 1}', '{"key": "m", "value": null, "step": 0, "time": 1}',
    ):  # fmt: skip
        body = f'{{"metrics": [{json.dumps(fine)}, {bad}]}}'.encode()
        status, said = target.send("POST", path, body)
        assert status == 400, (bad, said)
    assert target.session.runs.show(target.run).metrics == {}, "not half of a batch"
    for name in ("null", "1", "true", '["a"]', '{"a": 1}'):
        assert target.send("POST", "runs", f'{{"name": {name}}}'.encode())[0] == 400
