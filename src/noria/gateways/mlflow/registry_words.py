"""Registered models and their versions in MLflow's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.base.errors import Invalid
from noria.base.search import Clause, Grammar, Order, parse_order
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_registry as wr
from noria.gateways.mlflow.names import IS_PROMPT
from noria.registry.records import ModelVersion, RegisteredModel, Stage

_PROMPTS: Final = (IS_PROMPT, "true")
STAGES: Final = {
    "None": Stage.NONE,
    "Staging": Stage.STAGING,
    "Production": Stage.PRODUCTION,
    "Archived": Stage.ARCHIVED,
}
STAGE_NAMES: Final = {stage: name for name, stage in STAGES.items()}
STAGES_BY_LOWER: Final = {name.lower(): stage for name, stage in STAGES.items()}


class AliasUnknown(Invalid):
    """A model has no such alias; MLflow calls that a wrong parameter."""

    code = "alias_unknown"


def version_out(version: ModelVersion) -> wr.VersionOut:
    return wr.VersionOut(
        name=version.model,
        version=str(version.number),
        creation_timestamp=version.created_at,
        last_updated_timestamp=version.updated_at,
        current_stage=STAGE_NAMES[version.stage],
        source=version.source or own_source(version),
        status=version.status.upper(),
        description=version.description,
        run_id=version.run_id or version.stray_run or "",
        tags=w.tags_out(version.tags),
        run_link=version.link,
        aliases=list(version.aliases),
    )


def own_source(version: ModelVersion) -> str:
    """Where clients find the files of a version that noria itself trained."""
    return "" if version.version_id is None else f"{d.ARTIFACTS}/versions/{version.version_id}/artifacts"


def model_out(model: RegisteredModel, latest: Sequence[ModelVersion]) -> wr.ModelOut:
    return wr.ModelOut(
        name=model.name,
        creation_timestamp=model.created_at,
        last_updated_timestamp=model.updated_at,
        description=model.description,
        latest_versions=[version_out(version) for version in latest],
        tags=w.tags_out(model.tags),
        aliases=[wr.AliasOut(alias, str(number)) for alias, number in model.aliases.items()],
    )


def number_of(value: str | None) -> int:
    """The number of a version.

    Raises:
        Invalid: it is none.
    """
    text = d.need(value, "version").strip()
    if not (text.isascii() and text.lstrip("-").isdecimal() and len(text) <= 9):
        raise Invalid(f"Parameter 'version' must be an integer, got {text!r:.100}.")
    return max(int(text), -1)


def stage_of(name: str) -> Stage:
    found = STAGES_BY_LOWER.get(name.lower())
    if found is None:
        raise Invalid(f"Invalid Model Version stage: {name!r:.100}.", hint=f"One of {', '.join(STAGES)}.")
    return found


def no_prompts(clauses: Sequence[Clause]) -> tuple[list[Clause], tuple[str, str] | None]:
    """Prompts are registered models too; a search gives them only where its filter asks for them."""
    for clause in clauses:
        if clause.kind == "tag" and clause.key == IS_PROMPT:
            value = str(clause.value).lower()
            if (clause.op, value) in (("=", "true"), ("!=", "false")):
                return list(clauses), None
            break
    return [c for c in clauses if c.kind != "tag" or c.key != IS_PROMPT], _PROMPTS


def order_of(texts: Sequence[str] | None, grammar: Grammar) -> list[Order]:
    order = [parse_order(text, grammar) for text in texts or ()]
    if len({one.key for one in order}) < len(order):
        raise Invalid("order_by names a field twice.")
    return order
