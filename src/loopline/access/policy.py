"""The policy: which role may do what. Pure; what is not allowed here is denied.

An approver approves what others ask for. Nobody is approver and admin at once (`clash`), so that who hands out the roles never
also says yes, and only people approve. `authority` adds that nobody approves what they asked for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from loopline.access.records import InstanceRole, Kind, Role
from loopline.operations import Action

ROLES: Mapping[str, frozenset[Action]] = {
    "viewer": frozenset({"read"}),
    "data_scientist": frozenset({"read", "read_personal", "run", "send", "register", "label", "predict"}),
    "sender": frozenset({"send"}),
    "operator": frozenset({"read", "read_personal", "deploy", "label", "predict"}),
    "approver": frozenset({"read", "approve"}),
    "admin": frozenset({"read", "administer"}),
}
"""What each role may do in its project."""

INSTANCE_ROLES: Mapping[str, frozenset[Action]] = {
    "auditor": frozenset({"read", "audit"}),
    "admin": frozenset({"administer"}),
}
"""What each role of the instance may do, in every project and for the instance itself."""

OWNER: tuple[Role, ...] = ("data_scientist", "operator", "admin")
"""What the maker of a project is there: everything but approver."""

OWNER_OF_INSTANCE: tuple[InstanceRole, ...] = ("auditor", "admin")
"""What the maker of a workspace is for the whole instance."""

_PEOPLE: tuple[Kind, ...] = ("os", "user")


def allows(action: Action, roles: Iterable[str], instance: Iterable[str]) -> bool:
    """Whether one of the roles in the project at hand, or of the instance, allows the action."""
    return (
        action == "any"
        or any(action in ROLES.get(role, ()) for role in roles)
        or any(action in INSTANCE_ROLES.get(role, ()) for role in instance)
    )


def who_may(action: Action, *, instance: bool = False) -> tuple[str, ...]:
    """The roles that allow an action: those of a project, or of the instance."""
    table = INSTANCE_ROLES if instance else ROLES
    return tuple(role for role, actions in table.items() if action in actions)


def covers(held: Iterable[str], role: str, *, instance: bool) -> bool:
    """Whether these roles allow all that another one does: a token of a data scientist may be one of a viewer."""
    table: Mapping[str, frozenset[Action]] = INSTANCE_ROLES if instance else ROLES
    return role in table and table[role] <= frozenset().union(*(table[one] for one in held))


def clash(role: str, held: Iterable[str], kind: Kind) -> str:
    """Why a principal of this kind with these other roles cannot have this one too; "" where nothing is against it.

    `held`: the roles in the same project and of the instance; for a role of the instance, the roles in all projects.
    """
    if role == "approver" and kind not in _PEOPLE:
        return f"an approval is a person's, and this is a {kind}"
    if {"approver", "admin"} <= {role, *held}:
        return "nobody is approver and admin at once"
    return ""


assert set(ROLES) == set(get_args(Role)) and set(INSTANCE_ROLES) == set(get_args(InstanceRole))  # noqa: PT018
