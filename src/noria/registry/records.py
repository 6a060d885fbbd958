from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from noria.base.ids import ProjectId, RunId, VersionId

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


class Stage(enum.StrEnum):
    """Where a version stands for those who work with stages; it moves no traffic."""

    NONE = "none"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    id: int
    project_id: ProjectId
    name: str
    description: str
    created_at: int
    updated_at: int
    aliases: dict[str, int] = field(default_factory=dict[str, int])
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A numbered version of a registered model.

    Attributes:
        version_id: the asset version that holds the package; None for a version that names a foreign source.
        run_id: the run that made it.
        source: where a client said that it comes from; never opened.
        stray_run: a run that a client named and that is not here.
        link: an address that a client wants to be shown beside it; never opened.
        logged_model: the id of the logged model that it was made of.
    """

    model: str
    number: int
    model_id: int
    version_id: VersionId | None
    run_id: RunId | None
    source: str
    status: str
    description: str
    created_at: int
    updated_at: int
    stage: Stage = Stage.NONE
    stray_run: str | None = None
    link: str = ""
    logged_model: str | None = None
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        return f"{self.model}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignVersion:
    """A version as another server has it. Times are milliseconds.

    Attributes:
        source: where it says that the version comes from; never opened.
        run, logged_model: ids, empty where it names none.
        version_id: the asset version that holds its files, where they came along.
    """

    number: int
    source: str
    run: str
    description: str
    stage: Stage
    link: str
    created_at: int
    updated_at: int
    logged_model: str = ""
    version_id: VersionId | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A registered model as another server has it, with its versions, the oldest first."""

    name: str
    description: str
    created_at: int
    updated_at: int
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[ForeignVersion]


@dataclass(slots=True, kw_only=True)
class ModelBrought:
    """What became of a foreign model.

    Attributes:
        new: it is new here, and so are ``versions`` of its versions.
        changed: how many parts (a description, a tag, a stage, an alias) are other than before.
        left: what could not be taken, and why.
    """

    new: bool = False
    versions: int = 0
    changed: int = 0
    left: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
