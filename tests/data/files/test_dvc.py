"""What DVC's files may say, and what is made of it. The program itself: tests/systems/test_dvc.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import Place
from tests.data.files.test_adding import added, filled

from loopline.data.files.dvc import export_dvc, import_dvc
from loopline.errors import Conflict, Invalid, NotFound


def put(remote: Path, data: bytes, end: str = "") -> str:
    md5 = hashlib.md5(data).hexdigest() + end
    place = remote / "files" / "md5" / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return md5


def named(tmp_path: Path, md5: str, path: str = "scans") -> Path:
    file = tmp_path / "scans.dvc"
    file.write_text(json.dumps({"outs": [{"md5": md5, "path": path, "size": 1, "hash": "md5"}]}))
    return file


def listed(tmp_path: Path, entries: Any) -> Path:
    return named(tmp_path, put(tmp_path / "remote", json.dumps(entries).encode(), ".dir"))


def test_a_folder_of_a_remote_is_a_version(place: Place, tmp_path: Path) -> None:
    file = listed(tmp_path, [{"md5": put(tmp_path / "remote", b"x"), "relpath": "a/x"}])
    version = import_dvc(place.session.files, "scans", file, tmp_path / "remote")
    assert (version.ref, version.files, version.bytes) == ("data:scans@1", 1, 1)
    assert import_dvc(place.session.files, "scans", file, tmp_path / "remote").version == 1


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", ".git/config", "a//b"])
def test_a_path_that_leaves_the_folder_is_refused(place: Place, tmp_path: Path, path: str) -> None:
    file = listed(tmp_path, [{"md5": put(tmp_path / "remote", b"x"), "relpath": path}])
    with pytest.raises(Invalid) as caught:
        import_dvc(place.session.files, "scans", file, tmp_path / "remote")
    assert caught.value.code == "bad-dvc-file"
    assert place.session.datasets.list() == []


@pytest.mark.parametrize(
    "text", ["", "outs: []", "outs: [{md5: x, path: y}]", "- a", "outs: [{path: y}]", ":\n\t-", "outs: [{md5: ../../x, path: y}]",
             "outs: [{md5: 900150983cd24fb0d6963f7d28e17f72, path: ../y}]"],
)  # fmt: skip
def test_what_is_no_file_of_dvc_is_refused(place: Place, tmp_path: Path, text: str) -> None:
    (tmp_path / "scans.dvc").write_text(text)
    with pytest.raises(Invalid) as caught:
        import_dvc(place.session.files, "scans", tmp_path / "scans.dvc", tmp_path / "remote")
    assert caught.value.code == "bad-dvc-file"


def test_a_remote_that_is_damaged_or_lacks_something_is_told(place: Place, tmp_path: Path) -> None:
    md5 = put(tmp_path / "remote", b"x")
    file = named(tmp_path, md5, "x")
    held = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
    held.write_bytes(b"y")
    with pytest.raises(Conflict) as caught:
        import_dvc(place.session.files, "scans", file, tmp_path / "remote")
    assert caught.value.code == "dvc-damaged"
    held.unlink()
    (tmp_path / "secret").write_bytes(b"x")
    held.symlink_to(tmp_path / "secret")
    for _ in ("a link", "nothing"):
        with pytest.raises(NotFound):
            import_dvc(place.session.files, "scans", file, tmp_path / "remote")
        held.unlink(missing_ok=True)
    with pytest.raises(NotFound):
        import_dvc(place.session.files, "scans", tmp_path / "none.dvc", tmp_path / "remote")
    assert place.session.datasets.list() == []


def test_what_dvc_cannot_tell_is_refused(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"))
    with pytest.raises(Invalid, match="no links and no empty folders"):
        export_dvc(place.session.files, "images", "1", tmp_path / "x.dvc", tmp_path / "remote")
    assert not (tmp_path / "x.dvc").exists()
    assert not (tmp_path / "remote").exists()


def test_a_file_in_no_repository_wants_a_remote(place: Place, tmp_path: Path) -> None:
    added(place, filled(tmp_path / "in"), name="plain")
    file = named(tmp_path, put(tmp_path / "remote", b"x"))
    for refused in (
        lambda: import_dvc(place.session.files, "scans", file),
        lambda: export_dvc(place.session.files, "plain", "1", tmp_path / "plain.dvc"),
    ):
        with pytest.raises(NotFound) as caught:
            refused()
        assert (caught.value.code, "--remote" in caught.value.hint) == ("no-dvc-repository", True)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("", "cache"),
        ("[core]\n    remote = far\n    analytics = false\n['remote \"far\"']\n    url = s3://clinic/%x\n", "cache"),
        ("[cache]\n    dir = ../elsewhere\n", "../elsewhere"),
        ("[core]\n    remote = near\n['remote \"near\"']\n    url = ../../remote\n", "../../remote"),
    ],
)
def test_the_settings_of_a_repository_say_where_its_files_are(
    place: Place, tmp_path: Path, settings: str, found: str
) -> None:
    work = tmp_path / "work"
    (work / ".dvc").mkdir(parents=True)
    (work / ".dvc" / "config").write_text(settings)
    md5 = put(work / ".dvc" / found, b"x")
    (work / "x.dvc").write_text(json.dumps({"outs": [{"md5": md5, "path": "x", "size": 1, "hash": "md5"}]}))
    assert import_dvc(place.session.files, "scans", work / "x.dvc").bytes == 1


def test_settings_that_are_none_are_told(place: Place, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("remote = near\n")
    with pytest.raises(Invalid, match="cannot be read"):
        import_dvc(place.session.files, "scans", named(tmp_path, "0" * 32))
