"""Wire shapes of registered models: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from noria.base.ids import ProjectId
from noria.base.times import to_text
from noria.registry import Registry
from noria.registry.errors import ModelNotFound
from noria.registry.records import ModelVersion, RegisteredModel

Number = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_REFERENCE: Final = re.compile(r"(?:models:/)?([^/@]+)(?:/v?([0-9]+)|@v([0-9]+)|@([^/@]+))?")


class ModelOut(msgspec.Struct):
    name: str
    description: str
    aliases: dict[str, int]
    tags: dict[str, str]
    created_at: str
    updated_at: str


class ModelPage(msgspec.Struct):
    items: list[ModelOut]


class ModelVersionOut(msgspec.Struct):
    """A version of a registered model; ``name`` is model/number, as it is written everywhere."""

    name: str
    number: int
    version: int | None
    run: str | None
    source: str
    status: str
    description: str
    aliases: list[str]
    tags: dict[str, str]
    created_at: str


class ModelDetail(msgspec.Struct):
    """Newest version first."""

    model: ModelOut
    versions: list[ModelVersionOut]


class AliasBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where an alias is to point: a version's number, or null to remove it.

    Attributes:
        expected: where it has to point now (null: nowhere); left out, it does not matter.
    """

    version: Number | None
    expected: Number | msgspec.UnsetType | None = msgspec.UNSET


class AliasOut(msgspec.Struct):
    model: str
    alias: str
    before: int | None
    after: int | None


def model_out(model: RegisteredModel) -> ModelOut:
    return ModelOut(
        name=model.name,
        description=model.description,
        aliases=model.aliases,
        tags=model.tags,
        created_at=to_text(model.created_at),
        updated_at=to_text(model.updated_at),
    )


def version_out(version: ModelVersion, model: RegisteredModel) -> ModelVersionOut:
    return ModelVersionOut(
        name=version.name,
        number=version.number,
        version=version.version_id,
        run=version.run_id,
        source=version.source,
        status=version.status,
        description=version.description,
        aliases=sorted(alias for alias, number in model.aliases.items() if number == version.number),
        tags=version.tags,
        created_at=to_text(version.created_at),
    )


def find_version(registry: Registry, project_id: ProjectId, text: str) -> ModelVersion:
    """``name``, ``name@alias``, ``name@v3`` or ``name/3``.

    Raises:
        ModelNotFound: there is none.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ModelNotFound(f"{text!r:.80} is no model version.", hint="Write name, name@champion, name@v3 or name/3.")
    name, slashed, numbered, alias = match.groups()
    number = slashed or numbered
    if number is None:
        return registry.resolve(project_id, name if alias is None else f"{name}@{alias}")
    registry.get(project_id, name)
    if len(number) > 9:
        raise ModelNotFound(f"There is no version {number:.20} of {name!r}.", hint=f"noria models show {name}")
    return registry.version(project_id, name, int(number))
