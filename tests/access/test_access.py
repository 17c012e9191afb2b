"""Principals, grants and tokens, on a real database; the authority's answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loopline.access import authority, policy
from loopline.access.records import Principal
from loopline.access.service import AccessService, ProjectsService
from loopline.access.tables import grants, tokens
from loopline.database import Database, Tx
from loopline.errors import Conflict, Invalid, LooplineError, NotFound, Refused
from loopline.operations import Action

DAY = 86_400_000


class TurnedClock:
    def __init__(self) -> None:
        self.time = 1_700_000_000_000

    def now(self) -> int:
        return self.time


class House:
    """A workspace's database with its owner; `ask` runs a call as the platform does: authorise, then the verb."""

    def __init__(self, folder: Path) -> None:
        self.clock = TurnedClock()
        self.database = Database(f"sqlite:///{folder / 'loopline.db'}", self.clock)
        self.database.create()
        with self.database.begin(principal="loopline", lazy=True) as tx:
            self.owner = authority.local_principal(tx, owner_uid=os.getuid())

    @contextmanager
    def let_in(self, who: Principal, action: Action, project: str | None) -> Iterator[Tx]:
        with self.database.begin(principal=who.name, project=project or "default") as tx:
            authority.authorise(tx, who, action, project)
            yield tx

    def access(
        self, who: Principal, action: Action, verb: str, *values: object, at: str | None = None, **named: object
    ):
        with self.let_in(who, action, at) as tx:
            return getattr(AccessService(tx), verb)(*values, **named)

    def person(self, name: str, *roles: str, project: str = "default", kind: str = "user") -> Principal:
        self.access(self.owner, "administer", "add_principal", name, kind=kind)
        for role in roles:
            self.access(self.owner, "administer", "grant", name, role, at=project)
        return Principal(name=name, kind=kind)

    def token(self, name: str, **bounds: object) -> str:
        return self.access(self.owner, "any", "create_token", principal=name, **bounds).secret

    def enter(self, secret: str) -> Principal:
        with self.database.begin(lazy=True) as tx:
            return authority.authenticate(tx, secret)

    def project(self, name: str) -> None:
        with self.let_in(self.owner, "administer", None) as tx:
            ProjectsService(tx).create(name)

    def may(self, who: Principal, action: Action, project: str | None) -> str:
        try:
            with self.let_in(who, action, project):
                return "yes"
        except LooplineError as e:
            return e.code


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.close()


def test_the_owner_can_do_all_but_approve(house: House) -> None:
    for action in get_args(Action):
        assert house.may(house.owner, action, "default") == ("forbidden" if action == "approve" else "yes"), action


def test_the_founding_happens_once(house: House) -> None:
    house.access(house.owner, "administer", "revoke", house.owner.name, "operator", at="default")
    with house.database.begin(principal="loopline", lazy=True) as tx:
        authority.local_principal(tx, owner_uid=os.getuid())
        assert not tx.wrote
    assert house.may(house.owner, "deploy", "default") == "forbidden"


@pytest.mark.parametrize("role", policy.ROLES)
def test_each_role_may_what_the_policy_says_and_no_more(house: House, role: str) -> None:
    house.project("other")
    ann = house.person("ann", role)
    for action in get_args(Action):
        expected = "yes" if action == "any" or action in policy.ROLES[role] else "forbidden"
        assert house.may(ann, action, "default") == expected, action
        assert house.may(ann, action, "other") == "no-project", action
        assert house.may(ann, action, None) == ("yes" if action == "any" else "forbidden"), action


def test_the_policy_is_the_one_of_the_design() -> None:
    assert policy.who_may("approve") == ("approver",)
    assert policy.who_may("administer") == ("admin",)
    assert policy.who_may("deploy") == ("operator",)
    assert policy.who_may("run") == ("data_scientist",)
    assert "viewer" not in policy.who_may("read_personal")
    assert set(policy.who_may("read")) == {*policy.ROLES} - {"sender"}
    assert policy.ROLES["sender"] == {"send"}
    assert set(policy.who_may("send")) == {"data_scientist", "sender"}
    assert policy.who_may("audit", instance=True) == ("auditor",)


def test_an_auditor_reads_every_project_and_changes_none(house: House) -> None:
    house.project("other")
    house.person("aud")
    house.access(house.owner, "administer", "appoint", "aud", "auditor")
    for project in ("default", "other", None):
        allowed = {a for a in get_args(Action) if house.may(Principal(name="aud"), a, project) == "yes"}
        assert allowed == {"any", "read", "audit"}


def test_a_project_one_may_not_see_is_answered_like_one_that_is_not(house: House) -> None:
    house.project("secret")
    ann = house.person("ann", "viewer")
    answers = []
    for name in ("secret", "absent"):
        with pytest.raises(NotFound) as e, house.let_in(ann, "read", name):
            pass
        answers.append(str(e.value).replace(name, "X"))
    assert answers[0] == answers[1]
    assert "secret" not in answers[1]


def test_a_refusal_names_who_what_which_role_and_the_command(house: House) -> None:
    ann = house.person("ann", "viewer")
    with pytest.raises(Refused) as e, house.let_in(ann, "deploy", "default"):
        pass
    assert e.value.code == "forbidden"
    assert "ann may not deploy in project 'default': that takes the role operator." in str(e.value)
    assert "loopline access grant ann operator --project default" in str(e.value)


def test_who_is_not_known_is_not_let_in(house: House) -> None:
    for action in get_args(Action):
        for project in ("default", None):
            assert house.may(Principal(name="os:mallory", kind="os"), action, project) == "unauthenticated"


def test_a_token_lets_in_and_only_its_hash_is_kept(house: House) -> None:
    house.person("ann", "viewer")
    secret = house.token("ann")
    assert secret.startswith("ll_")
    assert len(secret) >= 3 + 256 / 6
    ann = house.enter(secret)
    assert (ann.name, ann.kind) == ("ann", "user")
    assert house.may(ann, "read", "default") == "yes"
    with house.database.snapshot() as connection:
        row = connection.execute(sa.select(tokens)).one()
    assert row.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(row)
    assert row.last_used == house.clock.time


@pytest.mark.parametrize("secret", ["", "ll_", "ll_nonsense", "Bearer x", "ll_" + "A" * 43, "\udcff"])
def test_an_unknown_token_is_refused(house: House, secret: str) -> None:
    with pytest.raises(Refused, match="token") as e:
        house.enter(secret)
    assert e.value.code == "unauthenticated"


def test_an_expired_token_is_refused_even_within_a_session(house: House) -> None:
    house.person("ann", "viewer")
    secret = house.token("ann", days=2)
    ann = house.enter(secret)
    house.clock.time += 2 * DAY - 1
    assert house.may(ann, "read", "default") == "yes"
    house.clock.time += 1
    assert house.may(ann, "read", "default") == "unauthenticated"
    with pytest.raises(Refused, match="expired"):
        house.enter(secret)


def test_a_revoked_token_is_refused_even_within_a_session(house: House) -> None:
    house.person("ann", "viewer")
    secret = house.token("ann")
    ann = house.enter(secret)
    assert house.access(ann, "any", "revoke_token", ann.token).revoked == house.clock.time
    assert house.may(ann, "read", "default") == "unauthenticated"
    with pytest.raises(Refused, match="revoked"):
        house.enter(secret)


def test_a_role_taken_back_is_gone_with_the_next_call(house: House) -> None:
    ann = house.person("ann", "operator", "viewer")
    assert house.may(ann, "deploy", "default") == "yes"
    house.access(house.owner, "administer", "revoke", "ann", "operator", at="default")
    assert house.may(ann, "deploy", "default") == "forbidden"
    with pytest.raises(NotFound, match="not operator"):
        house.access(house.owner, "administer", "revoke", "ann", "operator", at="default")


def test_a_token_is_bounded_to_its_project_and_roles(house: House) -> None:
    house.project("other")
    house.person("ann", "data_scientist", "operator")
    house.access(house.owner, "administer", "grant", "ann", "viewer", at="other")
    bounded = house.enter(house.token("ann", project="default", roles=["operator"]))
    assert house.may(bounded, "deploy", "default") == "yes"
    assert house.may(bounded, "run", "default") == "forbidden"
    assert house.may(bounded, "read", "other") == "no-project"
    mine = house.enter(house.access(house.owner, "any", "create_token", project="default").secret)
    assert house.may(mine, "audit", None) == "forbidden"
    assert house.may(mine, "administer", "default") == "yes"


def test_a_token_of_a_lesser_role_is_held_by_whoever_may_all_of_it(house: House) -> None:
    house.person("ann", "data_scientist")
    for token in (
        house.token("ann", roles=["viewer"]),
        house.access(house.owner, "any", "create_token", roles=["viewer"]).secret,
    ):
        viewer = house.enter(token)
        assert house.may(viewer, "read", "default") == "yes"
        for action in ("run", "register", "deploy", "administer"):
            assert house.may(viewer, action, "default") == "forbidden"
        assert house.may(viewer, "administer", None) == "forbidden"
    other = house.enter(house.access(house.owner, "any", "create_token", roles=["approver"]).secret)
    assert house.may(other, "approve", "default") == "no-project", "the owner is no approver"


def test_bounds_do_not_give_what_is_not_held(house: House) -> None:
    house.person("ann", "viewer")
    token = house.enter(house.token("ann", roles=["admin", "operator"]))
    assert house.may(token, "deploy", "default") == "no-project"


def test_a_token_makes_no_token_unless_it_is_an_unbounded_one_of_an_admin(house: House) -> None:
    house.person("ann", "viewer")
    ann = house.enter(house.token("ann"))
    bounded = house.enter(house.access(house.owner, "any", "create_token", project="default").secret)
    for who in (ann, bounded):
        with pytest.raises(Refused, match="cannot make another token"):
            house.access(who, "any", "create_token")
    admin = house.enter(house.access(house.owner, "any", "create_token").secret)
    assert house.access(admin, "any", "create_token", principal="ann").token.principal == "ann"


def test_only_an_admin_of_the_instance_touches_tokens_of_others(house: House) -> None:
    house.person("ann", "admin")
    house.person("bob", "viewer")
    ann = Principal(name="ann")
    bobs = house.enter(house.token("bob")).token
    for verb, named in (
        ("create_token", {"principal": "bob"}),
        ("tokens", {"principal": "bob"}),
        ("tokens", {"principal": "*"}),
    ):
        with pytest.raises(Refused) as e:
            house.access(ann, "any", verb, **named)
        assert e.value.code == "forbidden"
    with pytest.raises(NotFound):
        house.access(ann, "any", "revoke_token", bobs)
    assert [t.principal for t in house.access(house.owner, "any", "tokens", principal="*")] == ["bob"]
    assert house.access(ann, "any", "tokens") == []


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"days": 0}, Invalid),
        ({"days": 367}, Invalid),
        ({"label": "x" * 129}, Invalid),
        ({"principal": "nobody"}, NotFound),
        ({"project": "absent"}, NotFound),
    ],
)
def test_a_token_is_refused_on_bad_input(house: House, named: dict[str, object], error: type[LooplineError]) -> None:
    with pytest.raises(error):
        house.access(house.owner, "any", "create_token", **named)
    assert house.access(house.owner, "any", "tokens", principal="*") == []


def test_the_digests_of_an_action_are_those_of_living_tokens_that_allow_it(house: House) -> None:
    house.project("other")
    house.person("ann", "data_scientist")
    house.person("bob", "viewer")
    house.access(house.owner, "administer", "grant", "ann", "operator", at="other")

    def allowed(now: int = 0) -> dict[str, set[str]]:
        house.clock.time += now
        with house.database.begin(lazy=True) as tx:
            return {project: set(found) for project, found in authority.digests_for(tx, "predict").items()}

    assert allowed() == {}
    free, here, weak, short = (
        house.token("ann"), house.token("ann", project="default"), house.token("ann", roles=["viewer"]), house.token("ann", days=1)
    )  # fmt: skip
    house.token("bob")
    digests = {name: authority.digest(secret) for name, secret in (("free", free), ("here", here), ("short", short))}
    assert authority.digest(weak) not in set().union(*allowed().values())
    assert allowed() == {"default": set(digests.values()), "other": {digests["free"], digests["short"]}}
    assert allowed(DAY) == {"default": {digests["free"], digests["here"]}, "other": {digests["free"]}}
    house.access(house.owner, "any", "revoke_token", house.enter(free).token)
    assert allowed() == {"default": {digests["here"]}}
    house.access(house.owner, "administer", "revoke", "ann", "data_scientist", at="default")
    assert allowed() == {}


@pytest.mark.parametrize("first", ["admin", "approver"])
def test_nobody_is_approver_and_admin_at_once(house: House, first: str) -> None:
    second = {"admin": "approver", "approver": "admin"}[first]
    house.person("ann", first)
    with pytest.raises(Refused, match="approver and admin") as e:
        house.access(house.owner, "administer", "grant", "ann", second, at="default")
    assert e.value.code == "separation-of-duty"
    with pytest.raises(Refused):
        house.access(house.owner, "administer", "grant", house.owner.name, "approver", at="default")


def test_an_admin_of_the_instance_is_approver_nowhere(house: House) -> None:
    house.project("other")
    house.person("ann", "approver", project="other")
    with pytest.raises(Refused):
        house.access(house.owner, "administer", "appoint", "ann", "admin")
    house.person("bob")
    house.access(house.owner, "administer", "appoint", "bob", "admin")
    with pytest.raises(Refused):
        house.access(house.owner, "administer", "grant", "bob", "approver", at="other")


@pytest.mark.parametrize("kind", ["service", "loop"])
def test_a_program_approves_nothing(house: House, kind: str) -> None:
    house.person("robot", kind=kind)
    with pytest.raises(Refused, match="a person's"):
        house.access(house.owner, "administer", "grant", "robot", "approver", at="default")


def test_nobody_approves_their_own_request_by_their_own_hand_or_anothers(house: House) -> None:
    ann = house.person("ann", "approver", "data_scientist")
    with house.let_in(ann, "approve", "default") as tx:
        authority.not_requester(tx, "bob")
        with pytest.raises(Refused) as e:
            authority.not_requester(tx, "ann")
        assert e.value.code == "own-request"
    made = house.enter(house.token("ann"))
    with house.let_in(made, "approve", "default") as tx:
        authority.not_requester(tx, "bob")
        with pytest.raises(Refused, match="revoke-token"):
            authority.not_requester(tx, house.owner.name)
    house.access(house.owner, "any", "revoke_token", made.token)
    with house.let_in(ann, "approve", "default") as tx:
        authority.not_requester(tx, house.owner.name)


def test_the_last_admin_of_the_instance_stays(house: House) -> None:
    with pytest.raises(Conflict, match="last admin"):
        house.access(house.owner, "administer", "dismiss", house.owner.name, "admin")
    house.person("ann")
    house.access(house.owner, "administer", "appoint", "ann", "admin")
    house.access(house.owner, "administer", "dismiss", house.owner.name, "admin")
    assert house.may(house.owner, "administer", None) == "forbidden"


def test_granting_twice_is_one_grant_and_is_noted_by_a_ref(house: House) -> None:
    house.person("os:ann", kind="os")
    for _ in range(2):
        with house.let_in(house.owner, "administer", "default") as tx:
            grant = AccessService(tx).grant("os:ann", "viewer")
            assert tx.outputs == ["principal:os.ann@viewer"]
    assert grant.created_by == house.owner.name
    assert len(house.access(house.owner, "read", "grants", principal="os:ann", at="default")) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("", "user"), ("a b", "user"), ("../x", "user"), ("os:ann", "user"), ("ann", "os"), ("os.ann", "user"), ("*", "user"),
     ("os:", "os"), ("a" * 129, "user"), ("ann\n", "user")],
)  # fmt: skip
def test_a_bad_name_of_a_principal_is_refused(house: House, name: str, kind: str) -> None:
    with pytest.raises(Invalid):
        house.access(house.owner, "administer", "add_principal", name, kind=kind)


def test_a_name_is_of_one_kind(house: House) -> None:
    first = house.access(house.owner, "administer", "add_principal", "ann")
    assert house.access(house.owner, "administer", "add_principal", "ann") == first
    with pytest.raises(Conflict):
        house.access(house.owner, "administer", "add_principal", "ann", kind="service")


def test_whoami_shows_the_roles_within_the_bounds_of_the_token(house: House) -> None:
    me = house.access(house.owner, "any", "whoami")
    assert me.projects == {"default": ("admin", "data_scientist", "operator")}
    assert me.instance == ("admin", "auditor")
    token = house.enter(house.access(house.owner, "any", "create_token", project="default", roles=["operator"]).secret)
    assert house.access(token, "any", "whoami").projects == {"default": ("operator",)}
    assert house.access(token, "any", "whoami").instance == ()


def test_projects_are_made_once_and_listed_to_their_members(house: House) -> None:
    house.project("clinic")
    with pytest.raises(Conflict):
        house.project("clinic")
    with pytest.raises(Invalid):
        house.project("a/b")
    ann = house.person("ann", "viewer", project="clinic")
    with house.let_in(ann, "any", None) as tx:
        assert [(p.name, p.roles) for p in ProjectsService(tx).list()] == [("clinic", ("viewer",))]
    with house.let_in(house.owner, "any", None) as tx:
        assert [p.name for p in ProjectsService(tx).list()] == ["clinic", "default"]
    with house.let_in(ann, "read", "clinic") as tx:
        assert ProjectsService(tx).show().created_by == house.owner.name


@given(
    st.lists(
        st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["default", "*"]),
                  st.sampled_from([*policy.ROLES, *policy.INSTANCE_ROLES]), st.booleans()),
        max_size=12,
    )
)  # fmt: skip
def test_no_order_of_grants_makes_an_admin_an_approver(
    house_of: Callable[[], House], steps: list[tuple[str, str, str, bool]]
) -> None:
    house = house_of()
    for name, project, role, add in steps:
        if (project == "*" and role not in policy.INSTANCE_ROLES) or (project != "*" and role not in policy.ROLES):
            continue
        verb = {
            ("*", True): "appoint",
            ("*", False): "dismiss",
            ("default", True): "grant",
            ("default", False): "revoke",
        }
        try:
            house.access(
                house.owner, "administer", verb[project, add], name, role, at=None if project == "*" else project
            )
        except (Refused, NotFound):
            continue
    for name in ("ann", "bob"):
        allowed = {a for a in get_args(Action) if house.may(Principal(name=name), a, "default") == "yes"}
        assert not {"approve", "administer"} <= allowed


@pytest.fixture(scope="module")
def house_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], House]:
    house = House(tmp_path_factory.mktemp("house"))
    house.person("ann")
    house.person("bob")

    def emptied() -> House:
        with house.database.begin() as tx:
            tx.execute(grants.delete().where(grants.c.principal.in_(["ann", "bob"])))
        return house

    return emptied
