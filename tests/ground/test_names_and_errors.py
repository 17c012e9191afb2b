"""Refs, errors, settings, operations."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline import errors, operations, refs, settings
from loopline.errors import Invalid, LooplineError, MissingExtra, NotFound

names = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,30}[A-Za-z0-9_-])?", fullmatch=True)
printed = st.builds(
    refs.Ref, kind=st.sampled_from(sorted(refs.KINDS)), name=names, version=st.none() | names, project=names
)

# Refs


@given(printed)
def test_a_ref_is_printed_and_read_back(ref: refs.Ref) -> None:
    assert refs.parse(str(ref)) == ref
    if ref.project == refs.DEFAULT_PROJECT:
        assert "/" not in str(ref)


def test_a_bare_name_takes_the_kind_and_the_project_at_hand() -> None:
    assert str(refs.parse("visits@3", "data", "clinic")) == "data:clinic/visits@3"
    assert str(refs.parse("data:other/visits", "data", "clinic")) == "data:other/visits"
    assert refs.parse("model:m@12").number == 12
    assert refs.parse("model:m@champion").number is None


@pytest.mark.parametrize(
    "text",
    ["", "model", "model:", ":x", "model:a b", "model:../x", "model:.hidden", "model:a@", "model:a@b@c", "model:a/b/c",
     "model:a\n", "model:a.", "modle:a", "Model:a", "model:" + "a" * 129, "model:ä", "model:a@../x", "model:../p/a"],
)  # fmt: skip
def test_what_is_no_ref_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        refs.parse(text)


def test_the_error_shows_the_way_out() -> None:
    with pytest.raises(Invalid, match="Did you mean 'model'"):
        refs.parse("modle:a")
    with pytest.raises(Invalid, match="names a data, and a model is wanted"):
        refs.parse("data:a", "model")
    with pytest.raises(Invalid, match="For example 'my-visits'"):
        refs.check_name("my visits")


# Errors


@pytest.mark.parametrize("branch", sorted(errors.BRANCHES))
def test_an_error_travels_and_is_the_same_again(branch: str) -> None:
    error = errors.BRANCHES[branch]("It is so.", code="a-code", hint="Do that.", name="x", count=3)
    again = errors.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is type(error)
    assert again.to_dict() == error.to_dict()
    assert str(again) == "It is so. Do that."


def test_the_family_and_its_codes() -> None:
    assert set(errors.BRANCHES) == {"not_found", "invalid", "refused", "conflict", "unavailable", "missing_extra"}
    assert all(issubclass(branch, LooplineError) for branch in errors.BRANCHES.values())
    assert NotFound("x").code == "not-found"
    assert MissingExtra("No ray.", extra="ray").hint == "Install it: pip install 'loopline[ray]'."
    assert type(errors.from_dict({"error": {"branch": "of the future", "message": "m"}})) is errors.Unavailable


def test_did_you_mean() -> None:
    assert errors.did_you_mean("Readmited", ["readmitted", "race"]) == "Did you mean 'readmitted'?"
    assert errors.did_you_mean("zzz", ["b", "a"]) == "There are: a, b."
    assert errors.did_you_mean("zzz", []) == "There are none yet."
    assert errors.did_you_mean("zzz", map(str, range(20))).endswith("16, 17 and more.")


# Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in settings.Settings.__struct_fields__:
        monkeypatch.delenv(f"LOOPLINE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_call_before_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ".loopline"
    folder.mkdir()
    (folder / "settings.toml").write_text('port = 1\nhost = "a"\nproject = "p"\n')
    monkeypatch.setenv("LOOPLINE_PORT", "2")
    monkeypatch.setenv("LOOPLINE_HOST", "b")
    found = settings.load(port=3)
    assert (found.port, found.host, found.project, found.threads) == (3, "b", "p", 0)
    assert {n: found.origins.get(n, "default") for n in ("port", "host", "project", "threads", "workspace")} == {
        "port": "call", "host": "environment", "project": "settings.toml", "threads": "default", "workspace": "default",
    }  # fmt: skip
    assert found.workspace == folder
    assert found.database_url == f"sqlite:///{folder / 'loopline.db'}"


def test_checkpoints_lie_outside_the_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = settings.load()
    assert found.checkpoint_folder == tmp_path / "state" / "loopline" / "checkpoints"
    assert not found.checkpoint_folder.is_relative_to(found.workspace)
    assert settings.load(checkpoints="/mnt/worm").checkpoint_folder == Path("/mnt/worm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "Did you mean 'port'"),
        ('port = "x"', "cannot be read"),
        ("port = ", "not TOML"),
        ("origins = {}", "unknown"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / ".loopline").mkdir()
    (tmp_path / ".loopline" / "settings.toml").write_text(text)
    with pytest.raises(Invalid, match=message):
        settings.load()


# Operations


def test_a_verb_is_declared_once_with_all_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "OPERATIONS", {})

    def add(self: object, *, name: str, size: int = 3, body: operations.Body | None = None) -> list[str]:
        """Adds a try.

        More words.
        """
        return []

    def every(self: object) -> list[str]:
        """All of them."""
        return []

    add.__qualname__, every.__qualname__ = "TryingVerbs.add", "TryingVerbs.all"
    operations.operation("POST /projects/{project}/tries/{name}", action="run", prepares=True)(add)
    operations.operation("GET /tries", action="audit")(every)
    one, other = operations.OPERATIONS["trying.add"], operations.OPERATIONS["trying.all"]
    assert (one.method, one.scope, one.record, one.body, one.placed, one.mutates) == (
        "POST", "project", "entry", "body", ("name",), True,
    )  # fmt: skip
    assert (other.scope, other.record, other.mutates, other.prepares) == ("instance", "none", False, False)
    assert one.summary == "Adds a try."
    assert msgspec.convert({"name": "a"}, one.args).size == 3
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "a", "other": 1}, one.args)
    with pytest.raises(TypeError, match="twice"):
        operations.operation("GET /tries", action="audit")(every)


def test_a_body_gives_its_bytes_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"abcde")
    for source, name in ((path, "rows.csv"), (str(path), "rows.csv"), (b"abcde", ""), (io.BytesIO(b"abcde"), "")):
        body = operations.Body(source)
        assert b"".join(body.chunks(2)) == b"abcde"
        assert body.name == name
    assert operations.Bytes(media="text/csv", path=str(path)).read() == b"abcde"
    assert operations.Bytes(media="text/csv", data=b"x").read() == b"x"
