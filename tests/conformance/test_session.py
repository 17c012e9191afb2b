"""One suite for both sessions: the platform in this process, and the same behind a real socket.

A case is a list of calls, each with what it must give; a room adds its cases to `CASES`. What a case's calls give is shown in
builtins with volatile values (times, ids, secrets) left out, so that both sides must agree to the letter.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import loopline.client
from loopline.api.server import ApiServer
from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.operations import OPERATIONS, Body, Bytes

VOLATILE = frozenset(
    {
        "created", "expires", "last_used", "revoked", "time", "at", "secret", "note", "root", "copy", "id", "entry", "key",
        "checkpoint", "path",
    }
)  # fmt: skip

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def call(name: str, *values: Any, **named: Any) -> Call:
    return name, values, named


CASES: dict[str, list[tuple[Call, Any]]] = {
    "who am I": [
        (call("access.whoami"), {"token": "", "projects": {"default": ["admin", "data_scientist", "operator"]}}),
    ],
    "a principal is added, granted, shown, taken back": [
        (call("access.add_principal", "ann"), {"name": "ann", "kind": "user"}),
        (call("access.add_principal", "bot", kind="service"), {"name": "bot", "kind": "service"}),
        (call("access.grant", "ann", "viewer"), {"principal": "ann", "project": "default", "role": "viewer"}),
        (call("access.grants", principal="ann"), [{"principal": "ann", "role": "viewer"}]),
        (call("access.revoke", "ann", "viewer"), None),
        (call("access.grants", principal="ann"), []),
        (call("access.revoke", "ann", "viewer"), NotFound),
        (call("access.appoint", "ann", "auditor"), {"project": "*", "role": "auditor"}),
        (call("access.dismiss", "ann", "auditor"), None),
    ],
    "bad input is refused alike": [
        (call("access.add_principal", "a b"), Invalid),
        (call("access.add_principal", ""), Invalid),
        (call("access.add_principal", "ann", kind="emperor"), Invalid),
        (call("access.add_principal", 7), Invalid),
        (call("access.add_principal"), Invalid),
        (call("access.add_principal", None), Invalid),
        (call("access.grant", "nobody", "viewer"), NotFound),
        (call("access.grant", "nobody", "king"), Invalid),
        (call("access.create_token", days=0), Invalid),
        (call("access.create_token", days="90"), Invalid),
        (call("access.create_token", roles=["king"]), Invalid),
        (call("access.revoke_token", "a/b"), NotFound),
        (call("access.revoke_token", "../x"), NotFound),
        (call("access.revoke_token", "ä ö%2F?#"), NotFound),
        (call("access.revoke_token", ""), NotFound),
        (call("ledger.entries", limit=0), Invalid),
        (call("ledger.entries", limit=-1), Invalid),
        (call("ledger.prove", seq=10**6), NotFound),
    ],
    "rules are refused alike": [
        (call("access.add_principal", "boss"), {"name": "boss"}),
        (call("access.grant", "boss", "admin"), {"role": "admin"}),
        (call("access.grant", "boss", "approver"), Refused),
        (call("access.add_principal", "boss", kind="service"), Conflict),
    ],
    "a token": [
        (call("access.create_token", label="ci", project="default", roles=["viewer"], days=2),
         {"token": {"label": "ci", "project": "default", "roles": ["viewer"]}}),
        (call("access.tokens"), [{"label": "ci"}]),
    ],
    "projects": [
        (call("projects.create", "clinic"), {"name": "clinic", "roles": ["admin", "data_scientist", "operator"]}),
        (call("projects.create", "clinic"), Conflict),
        (call("projects.create", "a/b"), Invalid),
        (call("projects.list"), [{"name": "clinic"}, {"name": "default"}]),
        (call("projects.show"), {"name": "default"}),
    ],
    "the ledger": [
        (call("access.add_principal", "ann"), {"name": "ann"}),
        (call("ledger.entries", operation="access.add_principal"), [{"outputs": ["principal:ann"]}]),
        (call("ledger.entries", ref="principal:ann"), [{"operation": "access.add_principal"}]),
        (call("ledger.checkpoint"), {}),
        (call("ledger.verify"), {"ok": True, "findings": []}),
        (call("ledger.prove", seq=0), {"seq": 0}),
        (call("ledger.export"), bytes),
        (call("lineage.trace", ref="model:absent@1"), LooplineError),
        (call("lineage.trace", ref="no ref"), LooplineError),
        (call("lineage.openlineage", ref="model:absent@1"), LooplineError),
    ],
}  # fmt: skip


class House:
    """A platform, and the session through which the suite speaks to it."""

    def __init__(self, folder: Path, remote: bool) -> None:
        self.platform = Platform.open(workspace=folder / "w", checkpoints=str(folder / "outside"))
        self.server = ApiServer(self.platform).start() if remote else None
        self.sessions: list[Session] = []

    def session(self, token: str | None = None, project: str = "default") -> Session:
        if self.server is not None:
            self.sessions.append(loopline.client.connect(self.server.url, token=token or "", project=project))
            return self.sessions[-1]
        principal = self.platform.authenticate(token) if token else None
        return self.platform.session(principal, project)

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        if self.server is not None:
            self.server.stop()
        self.platform.close()


@pytest.fixture(params=["in process", "remote"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, request.param == "remote")
    yield house
    house.close()


def perform(session: Session, made: Call) -> Any:
    name, values, named = made
    group, verb = name.split(".")
    return getattr(getattr(session, group), verb)(*values, **named)


def shown(value: Any) -> Any:
    """A result in builtins, without what differs between two runs."""
    if isinstance(value, Bytes):
        return {"media": value.media, "name": value.name, "size": len(value.read()) > 0}
    if isinstance(value, LooplineError):
        return {"error": type(value).__name__, "code": value.code, "message": value.message, "hint": value.hint}
    if isinstance(value, dict):
        return {k: shown(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list | tuple):
        return [shown(v) for v in value]
    if isinstance(value, msgspec.Struct):
        return {"type": type(value).__name__, **shown(msgspec.to_builtins(value))}
    return value


def contains(found: Any, expected: Any) -> bool:
    """Whether all that is expected stands in what was found; what is not spoken of may be there."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(k in found and contains(found[k], v) for k, v in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list | tuple) and len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize("case", CASES)
def test_a_case_gives_what_it_must(house: House, case: str) -> None:
    session = house.session()
    for made, expected in CASES[case]:
        if isinstance(expected, type) and issubclass(expected, LooplineError):
            with pytest.raises(expected):
                perform(session, made)
        elif expected is bytes:
            assert perform(session, made).read()
        else:
            found = msgspec.to_builtins(perform(session, made))
            assert contains(found, expected), (made, found)


@pytest.mark.parametrize("case", CASES)
def test_both_sessions_say_the_same(tmp_path: Path, case: str) -> None:
    answers: list[list[Any]] = []
    for remote in (False, True):
        house = House(tmp_path / str(remote), remote)
        try:
            answers.append([_outcome(house.session(), made) for made, _ in CASES[case]])
        finally:
            house.close()
    for (made, _), here, there in zip(CASES[case], *answers, strict=True):
        assert here == there, made


def _outcome(session: Session, made: Call) -> Any:
    try:
        return shown(perform(session, made))
    except LooplineError as e:
        return shown(e)


def test_a_token_speaks_for_its_principal(house: House) -> None:
    owner = house.session()
    owner.access.add_principal("ann")
    owner.access.grant("ann", "viewer")
    secret = owner.access.create_token(principal="ann").secret
    ann = house.session(secret)
    assert ann.access.whoami().name == "ann"
    with pytest.raises(Refused) as e:
        ann.access.grant("ann", "admin")
    assert (e.value.code, e.value.details["action"]) == ("forbidden", "administer")
    owner.access.revoke_token(ann.access.tokens()[0].id)
    with pytest.raises(Refused, match="revoked") as e:
        ann.access.whoami()
    assert e.value.code == "unauthenticated"


def test_another_project_is_not_there(house: House) -> None:
    owner = house.session()
    owner.projects.create("clinic")
    owner.access.add_principal("ann")
    owner.access.grant("ann", "viewer")
    secret = owner.access.create_token(principal="ann").secret
    for project in ("clinic", "absent"):
        with pytest.raises(NotFound) as e:
            house.session(secret, project).projects.show()
        assert e.value.code == "no-project"
    assert house.session(project="clinic").projects.show().name == "clinic"


@pytest.mark.parametrize("project", ["", "a/b", "..", "a b", "x" * 200, "ä"])
def test_a_name_of_a_project_that_cannot_be_is_refused(house: House, project: str) -> None:
    with pytest.raises(Invalid) as e:
        house.session(project=project or "-").projects.show()
    assert e.value.code == "bad-name"


def test_results_are_of_the_declared_types(house: House) -> None:
    session = house.session()
    for name, result in (("access.whoami", session.access.whoami()), ("projects.show", session.projects.show())):
        assert type(result) is OPERATIONS[name].out
    (only,) = session.projects.list()
    assert type(only) is get_args(OPERATIONS["projects.list"].out)[0]


def test_many_threads_share_a_session(house: House) -> None:
    session = house.session()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                session.access.add_principal(f"p{number}-{turn}")
                session.access.whoami()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(session.access.principals()) == 1 + 6 * 4
    assert session.ledger.verify().ok


def test_a_verb_without_a_body_takes_none(house: House) -> None:
    with pytest.raises((Invalid, TypeError)):
        perform(house.session(), call("projects.show", Body(b"x")))


_ALL: Callable[[], set[str]] = lambda: {made[0] for case in CASES.values() for made, _ in case}  # noqa: E731


def test_a_verb_tells_its_arguments(house: House) -> None:
    runs = house.session().runs
    assert list(inspect.signature(runs.show).parameters) == ["run"]
    with pytest.raises(
        TypeError, match=r"runs.search\(\) got an unexpected keyword argument 'filtr'; it takes filter, order, "
    ):
        runs.search(filtr="x")
    with pytest.raises(TypeError, match=r"projects.list\(\) too many positional arguments; it takes none\."):
        house.session().projects.list(1)


def test_access_projects_and_ledger_are_covered() -> None:
    left_out = {"access.principals", "access.appointed", "ledger.checkpoints", "ledger.rotate_key"}
    wanted = {op.name for op in OPERATIONS.values() if op.group in ("access", "projects", "ledger", "lineage")}
    assert wanted - _ALL() <= left_out


def test_runs_are_compared_and_given_away(house: House) -> None:
    session = house.session()
    made = [session.runs.create("fit", params={"seed": seed}).id for seed in range(2)]
    for value, run in enumerate(made):
        session.runs.log(run, [{"key": "loss", "value": float(value)}])
        session.runs.finish(run)
    found = session.runs.compare(tuple(made), ("loss",))
    assert [one.key for one in found.differences] == ["seed"]
    assert found.metrics[0].deltas[1].value == 1.0
    assert "<table" in found._repr_html_()
    assert session.runs.plot(tuple(made), "loss", "svg").read().startswith(b"<?xml")
    packed = session.runs.export_bundle(made[0])
    taken = session.runs.import_bundle(Body(packed.read(), name="run.tar"))  # its own key is known
    assert (taken.name, taken.id != made[0]) == ("fit", True)
    assert session.runs.import_bundle(Body(packed.read(), name="run.tar")).id == taken.id
