from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from noria.base.digest import Digest
from noria.base.ids import ProjectId, VersionId


class DeploymentState(enum.StrEnum):
    STARTING = "starting"
    """Not loaded in every worker yet; it gets no traffic."""
    READY = "ready"
    FAILED = "failed"
    RETIRED = "retired"


DEPLOYMENT_MOVES: dict[DeploymentState, frozenset[DeploymentState]] = {
    DeploymentState.STARTING: frozenset({DeploymentState.READY, DeploymentState.FAILED, DeploymentState.RETIRED}),
    DeploymentState.READY: frozenset({DeploymentState.RETIRED}),
    DeploymentState.FAILED: frozenset({DeploymentState.STARTING, DeploymentState.RETIRED}),
    DeploymentState.RETIRED: frozenset({DeploymentState.STARTING}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A stable name and contract that is called.

    Attributes:
        model: the registered model whose versions are deployed behind it.
        contract: the columns of a request's row, name -> type, and its key.
        policy: p99_ms and the release policy, as declared.
        revision: number of the routing revision in force.
    """

    id: int
    project_id: ProjectId
    name: str
    model: str
    contract: dict[str, Any]
    policy: dict[str, Any]
    revision: int
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A model version with its code, behind an endpoint.

    Attributes:
        model: ``name/number``.
        package: the tree of the model package.
        code: the tree of the code snapshot that made it.
    """

    id: int
    endpoint_id: int
    endpoint: str
    model: str
    version_id: VersionId
    package: Digest
    code: Digest
    state: DeploymentState
    error: str
    created_at: int
    ready_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One deployment's part of the traffic.

    Attributes:
        role: champion, canary or shadow.
        weight: share of requests that it answers, 0 for a shadow.
    """

    deployment: int
    role: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """A routing revision: which deployment answers which share (decision 8). Never changed, only followed by the next.

    Attributes:
        salt: decides with a request's key which arm answers; the same through one release, so that weights grow
            without moving callers back and forth.
        paired: every deployment scores every request, the one that does not answer in the shadow.
    """

    number: int
    arms: tuple[Arm, ...]
    salt: str
    paired: bool
    reason: str = ""
    actor: str = ""
    at: int = 0

    def as_value(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "arms": [[a.deployment, a.role, a.weight] for a in self.arms],
            "salt": self.salt,
            "paired": self.paired,
        }

    @property
    def champion(self) -> int | None:
        """The deployment that is the champion, if any."""
        return next((a.deployment for a in self.arms if a.role == "champion"), None)


EMPTY = Routing(number=0, arms=(), salt="", paired=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """An endpoint as it stands."""

    endpoint: Endpoint
    routing: Routing
    deployments: list[Deployment] = field(default_factory=list[Deployment])
