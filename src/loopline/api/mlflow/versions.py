"""Versions of registered models: a version of files, registered at once, and the tag that is its stage."""

from __future__ import annotations

from typing import Any

from loopline.api.mlflow import logged, pages, registry, sources
from loopline.api.mlflow.endpoints import Ask, endpoint
from loopline.api.mlflow.filters import LISTED, ORDERED, TEXTS, Grammar, parse
from loopline.api.mlflow.messages import Int64, Message, Tag
from loopline.api.mlflow.models import One, ordered, page_size
from loopline.api.mlflow.problems import Problem
from loopline.errors import NotFound
from loopline.registry.records import RUN_FACT, SOURCE_FACT, ModelVersion

_GRAMMAR = Grammar(
    aliases={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    texts=("name", "run_id", "source_path"),
    numbers=("version_number",),
    listed=("name", "run_id"),
    comparators={"attribute": LISTED, "number": ORDERED, "tag": TEXTS},
    quotes=False,
    registry=True,
)
_FIELDS = {"name": "title", "run_id": "run", "source_path": "source", "version_number": "version"}
_ORDERS = {
    "name": "title", "version_number": "version", "creation_timestamp": "created", "last_updated_timestamp": "changed",
}  # fmt: skip
_PAGE = 200_000


class Create(One):
    """CreateModelVersion."""

    source: str | None = None
    run_id: str | None = None
    tags: list[Tag] | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class Version(One):
    """A request that names a version."""

    version: str | None = None


class Update(Version):
    """UpdateModelVersion."""

    description: str | None = None


class Transition(Version):
    """TransitionModelVersionStage."""

    stage: str | None = None
    archive_existing_versions: bool | None = None


class SetTag(Version):
    """SetModelVersionTag and DeleteModelVersionTag."""

    key: str | None = None
    value: str | None = None


class Search(Message):
    """SearchModelVersions."""

    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


@endpoint("POST /api/2.0/mlflow/model-versions/create", action="register", needed=("name", "source"))
def create(ask: Ask, given: Create) -> dict[str, Any]:
    """The next version of a model, out of files of a run, a logged model or another version."""
    uri, tags = given.source or "", {tag.key or "": tag.value or "" for tag in given.tags or ()}
    if registry.is_prompt(tags):
        if uri not in sources.PROMPTS:
            raise Problem(f"Invalid prompt source: '{uri}'. Prompt sources must use an MLflow placeholder.")
        found = sources.Source(uri, given.run_id)
    else:
        found = sources.resolve(ask, uri, given.run_id or None, given.model_id or None)
    registry.check_name(given.name or "")
    for key, value in tags.items():
        registry.check_tag(key, value)
    model = registry.find(ask, given.name)
    known = {SOURCE_FACT: found.uri, registry.LOCATION: found.location, registry.RUN_LINK: given.run_link}
    facts = {name: text for name, text in known.items() if text}
    made_by = found.run and _run(ask, found.run)
    if found.run and not made_by:
        facts[RUN_FACT] = found.run
    said = {"name": model.name, "run": made_by, "facts": facts, "description": given.description or "", "tags": tags}
    try:
        version = ask.call("models.add", files=found.files, path=found.path, **said)
    except NotFound as e:
        if e.code != "no-files":
            raise
        version = ask.call("models.add", **said)  # MLflow's server does not look whether there are files
    if given.model_id and not registry.is_prompt(tags):
        logged.registered(ask, given.model_id, model.title, version.version)
    return {"model_version": registry.version(model.title, version, aliases=True)}


@endpoint("GET /api/2.0/mlflow/model-versions/get", action="read", needed=("name", "version"))
def get(ask: Ask, given: Version) -> dict[str, Any]:
    """A version by its number."""
    return _shown(*registry.show(ask, given.name, given.version))


@endpoint("PATCH /api/2.0/mlflow/model-versions/update", action="register", needed=("name", "version"))
def update(ask: Ask, given: Update) -> dict[str, Any]:
    """Gives a version another description."""
    model, version = registry.show(ask, given.name, given.version)
    ask.call("models.describe", name=model.name, text=given.description or "", version=version.version)
    return _shown(*registry.show(ask, given.name, given.version))


@endpoint(
    "POST /api/2.0/mlflow/model-versions/transition-stage", action="register", needed=("name", "version", "stage")
)
def transition(ask: Ask, given: Transition) -> dict[str, Any]:
    """Puts a version into a stage, and the others that are in it into the archive where that is asked for."""
    stage = registry.canonical(given.stage or "")
    active = list(registry.STAGES[1:3])
    if given.archive_existing_versions and stage not in active:
        raise Problem(
            "Model version transition cannot archive existing model versions because "
            f"'{given.stage}' is not an Active stage. Valid stages are {active}"
        )
    model, version = registry.show(ask, given.name, given.version)
    others = ask.call("models.versions", name=model.name) if given.archive_existing_versions else ()
    for other in others:
        if registry.stage(other) == stage and other.version != version.version:
            archived = {registry.STAGE: registry.STAGES[3]}
            ask.call("models.tag", name=model.name, tags=archived, version=other.version)
    ask.call("models.tag", name=model.name, tags={registry.STAGE: stage}, version=version.version)
    return _shown(*registry.show(ask, given.name, given.version))


@endpoint("DELETE /api/2.0/mlflow/model-versions/delete", action="register", needed=("name", "version"))
def delete(ask: Ask, given: Version) -> None:
    """Deletes a version, its aliases first: to take those away needs the permission for it."""
    model, version = registry.show(ask, given.name, given.version)
    for alias in version.aliases:
        ask.call("models.remove_alias", name=model.name, alias=alias)
    ask.call("models.delete", name=model.name, version=version.version)


@endpoint("GET /api/2.0/mlflow/model-versions/get-download-uri", action="read")
def download_uri(ask: Ask, given: Version) -> dict[str, Any]:
    """Where the files of a version are."""
    _, version = registry.show(ask, given.name, given.version)
    return {"artifact_uri": registry.location(version)}


@endpoint("GET /api/2.0/mlflow/model-versions/search", action="read")
def search(ask: Ask, given: Search) -> dict[str, Any]:
    """Versions by a filter, in an order, a page at a time."""
    most = page_size(given.max_results, _PAGE, _PAGE, ask)
    if most < 1:
        raise Problem(f"Invalid value for max_results. It must be a positive integer, but got {given.max_results}")
    clauses = parse(given.filter, _GRAMMAR)
    order = ordered(
        given.order_by or ["last_updated_timestamp DESC", "name ASC", "version_number DESC"], _ORDERS, "attribute key"
    )
    where = registry.conditions(clauses, _FIELDS, "model.")
    found, after = pages.collect(ask, "models.search_versions", most, given.page_token, where=where, order=order)
    versions = [registry.version(page.titles[one.name], one) for page in found for one in page.versions]
    answer: dict[str, Any] = {"model_versions": versions} if versions else {}
    if after is not None:
        answer["next_page_token"] = pages.token(after)
    return answer


@endpoint("POST /api/2.0/mlflow/model-versions/set-tag", action="register", needed=("name", "version", "key"))
def set_tag(ask: Ask, given: SetTag) -> None:
    """Sets a tag of a version."""
    _tag(ask, given, given.value or "")


@endpoint("DELETE /api/2.0/mlflow/model-versions/delete-tag", action="register", needed=("name", "version", "key"))
def delete_tag(ask: Ask, given: SetTag) -> None:
    """Removes a tag of a version, where it has it."""
    _tag(ask, given, None)


def _tag(ask: Ask, given: SetTag, value: str | None) -> None:
    registry.check_name(given.name or "")
    registry.numbered(given.version or "")
    registry.check_tag(given.key or "", value or "")
    model, version = registry.show(ask, given.name, given.version)
    ask.call("models.tag", name=model.name, tags={given.key: value}, version=version.version)


def _shown(model: Any, version: ModelVersion) -> dict[str, Any]:
    return {"model_version": registry.version(model.title, version, aliases=True)}


def _run(ask: Ask, run: str) -> str | None:
    """The ref of a run that is there; None where nobody here knows it."""
    try:
        return str(ask.call("runs.show", run=run).ref)
    except (NotFound, ValueError):
        return None
