from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from noria.base.ids import ProjectId, RunId, VersionId

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


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
    tags: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        return f"{self.model}/{self.number}"
