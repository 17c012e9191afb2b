"""Models and their versions in MLflow's form: a registered model is a model by its title, its stage a tag."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loopline.api.mlflow import forms, limits
from loopline.api.mlflow.endpoints import Ask
from loopline.api.mlflow.filters import Clause
from loopline.api.mlflow.messages import invalid
from loopline.api.mlflow.problems import Problem
from loopline.errors import NotFound
from loopline.registry.records import RUN_FACT, SOURCE_FACT, Condition, Model, ModelVersion

STAGE = "mlflow.stage"
"""The tag of a version that says its stage; MLflow's clients see it as the stage alone."""

STAGES = ("None", "Staging", "Production", "Archived")
PROMPT = "mlflow.prompt.is_prompt"
"""The tag of what MLflow keeps among its models and is none."""

LOCATION, RUN_LINK = "location", "run_link"
"""Facts of a version beside those that the registry knows: where its files are, and what else was said when it was made."""

_TAG_VALUE = 100_000
_MOST_VERSIONS = 1 << 31


class RegisteredModel(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A model."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[Version] = []
    tags: list[forms.KeyValue] = []
    aliases: list[dict[str, str]] = []


class Version(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a model."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    description: str
    source: str
    run_id: str
    status: str
    status_message: str = ""
    tags: list[forms.KeyValue] = []
    run_link: str
    aliases: list[str] = []


def model(given: Model, latest: Sequence[ModelVersion], *, by_stage: bool = False) -> RegisteredModel:
    """A model with the newest version in each stage; `by_stage`: in the order of the stages' names."""
    if by_stage:
        latest = sorted(latest, key=stage)
    return RegisteredModel(
        name=given.title,
        creation_timestamp=given.created,
        last_updated_timestamp=given.changed,
        description=given.description,
        latest_versions=[version(given.title, one) for one in latest],
        tags=forms.pairs(given.tags),
        aliases=[{"alias": alias, "version": str(number)} for alias, number in sorted(given.aliases.items())],
    )


def version(title: str, given: ModelVersion, *, aliases: bool = False) -> Version:
    """A version. What is drafted natively is not ready; what is withdrawn must not be used."""
    status = {"draft": "PENDING_REGISTRATION", "registered": "READY", "withdrawn": "FAILED_REGISTRATION"}[given.status]
    return Version(
        name=title,
        version=str(given.version),
        creation_timestamp=given.created,
        last_updated_timestamp=given.changed,
        current_stage=stage(given),
        description=given.description,
        source=source(given),
        run_id=run_of(given),
        status=status,
        status_message=given.reason,
        tags=forms.pairs(tags(given)),
        run_link=given.facts.get(RUN_LINK, ""),
        aliases=list(given.aliases) if aliases else [],
    )


def newest(ask: Ask, *names: str) -> dict[str, list[ModelVersion]]:
    """The newest version in each stage, of some models by their names."""
    found: dict[str, dict[str, ModelVersion]] = {name: {} for name in names}
    for one in ask.call("models.list_versions", names=names, newest_by=STAGE) if names else ():
        found[one.name][stage(one)] = one  # by number: also where the tag says what is the same as none
    return {name: list(versions.values()) for name, versions in found.items()}


def stage(given: ModelVersion) -> str:
    """The stage of a version."""
    return given.tags.get(STAGE, STAGES[0])


def source(given: ModelVersion) -> str:
    """Where a version came from; a bundle is named by its ref."""
    return given.facts.get(SOURCE_FACT) or f"loopline:/{given.ref}"


def location(given: ModelVersion) -> str:
    """Where the files of a version are: at its source, if nothing else is known."""
    return given.facts.get(LOCATION) or source(given)


def tags(given: ModelVersion) -> dict[str, str]:
    """The tags of a version as MLflow's clients see them."""
    return {key: text for key, text in given.tags.items() if key != STAGE}


def run_of(given: ModelVersion) -> str:
    """The id of the run that made a version; "" where none is known."""
    return given.facts.get(RUN_FACT) or (given.run or "").rpartition(":")[2].rpartition("/")[2]


def canonical(name: str) -> str:
    """The stage of a name, in whatever case. Raises `Problem`."""
    found = next((one for one in STAGES if one.lower() == name.lower()), None)
    if found is None:
        raise Problem(f"Invalid Model Version stage: {name}. Value must be one of {', '.join(STAGES)}.")
    return found


def check_name(name: str) -> str:
    """The name itself, where it may be a model's. Raises `Problem`."""
    if not name.strip():
        raise Problem("Missing value for required parameter 'name'.")
    if "/" in name or ":" in name:
        raise Problem(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    plain = posixpath.normpath(name)
    if plain in (".", "..") or plain != name:
        raise Problem(
            invalid(
                "name",
                name,
                "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
                f"This name would resolve to {plain!r}",
            )
        )
    return name


def check_tag(key: str, value: str) -> None:
    """Raises where a tag of a model or a version cannot be."""
    limits.check_key(key, "key")
    limits.check_length("key", limits.KEY, key)
    limits.check_length("value", _TAG_VALUE, value)


def find(ask: Ask, name: str | None) -> Model:
    """The model of a name. Raises `Problem`."""
    found = ask.call("models.list", title=check_name(name or ""))
    if not found:
        raise Problem(f"Registered Model with name={name} not found", "RESOURCE_DOES_NOT_EXIST")
    one: Model = found[0]
    return one


def show(ask: Ask, name: str | None, given: str | None) -> tuple[Model, ModelVersion]:
    """A model and one of its versions, by its number. Raises `Problem`."""
    check_name(name or "")
    number = numbered(given or "")
    missing = Problem(f"Model Version (name={name}, version={number}) not found", "RESOURCE_DOES_NOT_EXIST")
    found = ask.call("models.list", title=name)
    if not found or not 0 <= number < _MOST_VERSIONS:
        raise missing
    try:
        return found[0], ask.call("models.show", name=found[0].name, version=number)
    except NotFound as e:
        raise missing from e


def numbered(given: str) -> int:
    """The number of a version as it is sent. Raises `Problem`."""
    try:
        return int(given)
    except ValueError:
        raise Problem(f"Parameter 'version' must be an integer, got '{given}'.") from None


def conditions(clauses: Sequence[Clause], fields: Mapping[str, str], model: str = "") -> tuple[Condition, ...]:
    """What a search asks of models or versions, `fields` in the platform's words; without prompts, unless it is for them.

    `model`: what stands before a tag that is of the model.
    """
    prompts = any(
        clause.key == PROMPT
        and clause.entity == "tag"
        and (clause.comparator, str(clause.value).lower()) in (("=", "true"), ("!=", "false"))
        for clause in clauses
    )
    kind = Condition(
        field=f"{model}tags.{PROMPT}", op="ilike" if prompts else "not ilike", value="true", missing=not prompts
    )
    told = (clause for clause in clauses if (clause.entity, clause.key) != ("tag", PROMPT))
    return (kind, *(_condition(clause, fields) for clause in told))


def _condition(clause: Clause, fields: Mapping[str, str]) -> Condition:
    field = f"tags.{clause.key}" if clause.entity == "tag" else fields[clause.key]
    op: Any = clause.comparator.lower()
    if clause.entity == "tag" and clause.key == STAGE:  # the stage is no tag to MLflow's clients
        return Condition(field=field, op="in", value=())
    return Condition(field=field, op=op, value=clause.value)


def is_prompt(tags: dict[str, str]) -> bool:
    """Whether tags are those of a prompt."""
    return tags.get(PROMPT, "false").lower() == "true"
