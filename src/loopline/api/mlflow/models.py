"""Registered models, and the aliases of their versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from loopline.api.mlflow import pages, registry
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.filters import LISTED, TEXTS, Grammar, parse
from loopline.api.mlflow.filters import shown as listed
from loopline.api.mlflow.messages import Int64, Message, Tag, invalid
from loopline.api.mlflow.problems import Problem
from loopline.errors import Conflict, NotFound
from loopline.registry.records import Model

_GRAMMAR = Grammar(
    aliases={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    texts=("name",),
    listed=("name",),
    comparators={"attribute": LISTED, "tag": TEXTS},
    quotes=False,
    registry=True,
)
_ORDER = re.compile(r"\s*[`\"]?(\w+)[`\"]?(?:\s+(\w+))?\s*")
_MORE = " See the API docs for more information about request parameters."
_ORDERS = {"name": "title", "timestamp": "changed"}
_OTHER_WORDS = {"last_updated_timestamp": "changed"}
_PAGE = 100
_LARGEST_PAGE = 1000
_ALIAS = re.compile(r"[\w\-]*")
_LONGEST_ALIAS = 255


class One(Message):
    """A request that names a model."""

    name: str | None = None


class Create(One):
    """CreateRegisteredModel."""

    tags: list[Tag] | None = None
    description: str | None = None


class Update(One):
    """UpdateRegisteredModel."""

    description: str | None = None


class Rename(One):
    """RenameRegisteredModel."""

    new_name: str | None = None


class SetTag(One):
    """SetRegisteredModelTag and DeleteRegisteredModelTag."""

    key: str | None = None
    value: str | None = None


class Latest(One):
    """GetLatestVersions."""

    stages: list[str] | None = None


class Alias(One):
    """SetRegisteredModelAlias, DeleteRegisteredModelAlias and GetModelVersionByAlias."""

    alias: str | None = None
    version: str | None = None


class Search(Message):
    """SearchRegisteredModels."""

    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


@endpoint("POST /api/2.0/mlflow/registered-models/create", action="register", needed=("name",))
def create(ask: Ask, given: Create) -> dict[str, Any]:
    """A new model, without versions."""
    name = registry.check_name(given.name or "")
    tags = {tag.key or "": tag.value or "" for tag in given.tags or ()}
    for key, value in tags.items():
        registry.check_tag(key, value)
    try:
        made: Model = ask.call("models.create", title=name, description=given.description or "", tags=tags)
    except Conflict as e:
        raise _taken(ask, name, tags) if e.code == "model-exists" else e from e
    return {"registered_model": registry.model(made, ())}


@endpoint("GET /api/2.0/mlflow/registered-models/get", action="read", needed=("name",))
def get(ask: Ask, given: One) -> dict[str, Any]:
    """A model with the newest version of each stage."""
    return {"registered_model": _whole(ask, registry.find(ask, given.name))}


@endpoint("PATCH /api/2.0/mlflow/registered-models/update", action="register", needed=("name",))
def update(ask: Ask, given: Update) -> dict[str, Any]:
    """Gives a model another description."""
    found = registry.find(ask, given.name)
    found = ask.call("models.describe", name=found.name, text=given.description or "")
    return {"registered_model": _whole(ask, found)}


@endpoint("POST /api/2.0/mlflow/registered-models/rename", action="register", needed=("name", "new_name"))
def rename(ask: Ask, given: Rename) -> dict[str, Any]:
    """Gives a model another title: its name, which stands in refs, stays."""
    title = registry.check_name(given.new_name or "")
    found = registry.find(ask, given.name)
    try:
        found = ask.call("models.rename", name=found.name, title=title)
    except Conflict as e:
        raise _exists("Registered Model", title) if e.code == "model-exists" else e from e
    return {"registered_model": _whole(ask, found)}


@endpoint("DELETE /api/2.0/mlflow/registered-models/delete", action="register", needed=("name",))
def delete(ask: Ask, given: One) -> None:
    """Deletes a model, its aliases first: to take those away needs the permission for it."""
    found = registry.find(ask, given.name)
    for alias in found.aliases:
        ask.call("models.remove_alias", name=found.name, alias=alias)
    ask.call("models.delete", name=found.name)


@endpoint("GET /api/2.0/mlflow/registered-models/search", action="read")
def search(ask: Ask, given: Search) -> dict[str, Any]:
    """Models by a filter, by name or time, a page at a time."""
    most = page_size(given.max_results, _PAGE, _LARGEST_PAGE, ask)
    clauses = parse(given.filter, _GRAMMAR)
    order = ordered(given.order_by or (), _ORDERS, "order by key", _OTHER_WORDS)
    where = registry.conditions(clauses, {"name": "title"})
    shown, after = pages.collect(ask, "models.search", most, given.page_token, where=where, order=order)
    found = [one for page in shown for one in page.models]
    answer: dict[str, Any] = {}
    if found:
        latest = registry.newest(ask, *(one.name for one in found))
        answer["registered_models"] = [registry.model(one, latest[one.name], by_stage=True) for one in found]
    if after is not None:
        answer["next_page_token"] = pages.token(after)
    return answer


@endpoint("POST /api/2.0/mlflow/registered-models/set-tag", action="register", needed=("name", "key"))
def set_tag(ask: Ask, given: SetTag) -> None:
    """Sets a tag of a model."""
    registry.check_name(given.name or "")
    registry.check_tag(given.key or "", given.value or "")
    found = registry.find(ask, given.name)
    ask.call("models.tag", name=found.name, tags={given.key: given.value or ""})


@endpoint("DELETE /api/2.0/mlflow/registered-models/delete-tag", action="register", needed=("name", "key"))
def delete_tag(ask: Ask, given: SetTag) -> None:
    """Removes a tag of a model, where it has it."""
    registry.check_name(given.name or "")
    registry.check_tag(given.key or "", "")
    ask.call("models.tag", name=registry.find(ask, given.name).name, tags={given.key: None})


@endpoint("POST /api/2.0/mlflow/registered-models/get-latest-versions", action="read", needed=("name",))
@endpoint("GET /api/2.0/mlflow/registered-models/get-latest-versions", action="read", needed=("name",))
def latest(ask: Ask, given: Latest) -> dict[str, Any]:
    """The newest version in each stage, or in some."""
    found = registry.find(ask, given.name)
    wanted = [registry.canonical(stage) for stage in given.stages or registry.STAGES]
    versions = registry.newest(ask, found.name)[found.name]
    there = [registry.version(found.title, one, aliases=True) for one in versions if registry.stage(one) in wanted]
    return {"model_versions": there} if there else {}


@endpoint("POST /api/2.0/mlflow/registered-models/alias", action="deploy", needed=("name", "alias", "version"))
def set_alias(ask: Ask, given: Alias) -> None:
    """Points an alias to a version."""
    alias = given.alias or ""
    registry.check_name(given.name or "")
    _check_alias(alias)
    if alias.lower() == "latest":
        raise Problem("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise Problem(f"Version alias name '{alias}' is reserved.")
    model, version = registry.show(ask, given.name, given.version)
    ask.call("models.set_alias", name=model.name, alias=alias, version=version.version)


@endpoint("DELETE /api/2.0/mlflow/registered-models/alias", action="deploy", needed=("name", "alias"))
def delete_alias(ask: Ask, given: Alias) -> None:
    """Takes an alias away, where there is one; its history stays."""
    registry.check_name(given.name or "")
    _check_alias(given.alias or "")
    found = registry.find(ask, given.name)
    try:
        ask.call("models.remove_alias", name=found.name, alias=given.alias)
    except NotFound as e:
        if e.code != "no-alias":
            raise


@endpoint("GET /api/2.0/mlflow/registered-models/alias", action="read", needed=("name", "alias"))
def by_alias(ask: Ask, given: Alias) -> dict[str, Any]:
    """The version that an alias names."""
    alias = given.alias or ""
    registry.check_name(given.name or "")
    _check_alias(alias)
    found = registry.find(ask, given.name)
    try:
        wanted = "latest" if alias.lower() == "latest" else f"@{alias}"
        version = ask.call("models.show", name=found.name, version=wanted)
    except NotFound as e:
        if alias.lower() == "latest":
            raise Problem(f"Latest version not found for model {given.name}.", "RESOURCE_DOES_NOT_EXIST") from e
        raise Problem(f"Registered model alias {alias} not found.") from e
    return {"model_version": registry.version(found.title, version, aliases=True)}


def page_size(given: int | None, usual: int, largest: int, ask: Ask) -> int:
    """How many things a page may hold. Raises `Problem`."""
    if given is None:
        return usual
    if given > largest:
        value: Any = str(given) if ask.request.method == "GET" else given
        raise Problem(invalid("max_results", value, f" Hint: Value was of type '{type(value).__name__}'.") + _MORE)
    return max(given, 0)


def _whole(ask: Ask, found: Model) -> registry.RegisteredModel:
    return registry.model(found, registry.newest(ask, found.name)[found.name])


def ordered(
    given: Sequence[str], fields: Mapping[str, str], what: str, others: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, ...]:
    """What to order by, in turn, in the platform's words.

    `fields` leads from MLflow's words to the platform's, `what` they are called where one is none of them; `others` are words
    that it takes and does not tell.
    """
    found: dict[str, str] = {}
    for text in given:
        parts = _ORDER.fullmatch(text)
        if parts is None:
            raise Problem(f"Invalid order_by clause '{text[:200]}'. Could not be parsed.")
        if (parts[2] or "asc").lower() not in ("asc", "desc"):
            raise Problem(f"Invalid ordering key in order_by clause '{text[:200]}'.")
        field = fields.get(parts[1]) or others.get(parts[1])
        if field is None:
            raise Problem(f"Invalid {what} '{parts[1]}' specified. Valid keys are '{listed(fields)}'")
        if field in found:
            raise Problem(f"`order_by` contains duplicate fields: {list(given)}")
        found[field] = f"{field} {(parts[2] or 'asc').upper()}"
    return tuple(found.values())


def _taken(ask: Ask, name: str, tags: dict[str, str]) -> Problem:
    there = registry.is_prompt(registry.find(ask, name).tags)
    if there == registry.is_prompt(tags):
        return _exists("Prompt" if there else "Registered Model", name)
    mine, other = ("registered model", "prompt") if there else ("prompt", "registered model")
    return Problem(
        f"Tried to create a {mine} with name {name!r}, but the name is already taken by a {other}. MLflow does not allow "
        "creating a model and a prompt with the same name.",
        "RESOURCE_ALREADY_EXISTS",
    )


def _exists(what: str, name: str) -> Problem:
    return Problem(f"{what} (name={name}) already exists.", "RESOURCE_ALREADY_EXISTS")


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise Problem(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(alias) > _LONGEST_ALIAS:
        raise Problem(f"'Registered model alias name' exceeds the maximum length of {_LONGEST_ALIAS} characters")
