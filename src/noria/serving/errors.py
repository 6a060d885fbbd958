from __future__ import annotations

from noria.base.errors import Conflict, Invalid, NotFound, Unavailable


class EndpointNotFound(NotFound):
    """There is no such endpoint."""

    code = "endpoint_not_found"


class DeploymentNotFound(NotFound):
    """There is no such deployment."""

    code = "deployment_not_found"


class DeploymentMove(Conflict):
    """A deployment cannot go from its state to the one asked for."""

    code = "deployment_move"


class RoutingMoved(Conflict):
    """Somebody changed the routing in between."""

    code = "routing_moved"

    def __init__(self, endpoint: str, expected: int, found: int) -> None:
        super().__init__(
            f"The routing of {endpoint!r} stands at revision {found}, not {expected}.",
            hint=f"noria endpoints show {endpoint}",
            details={"endpoint": endpoint, "expected": expected, "found": found},
        )


class RoutingInvalid(Invalid):
    """A routing that cannot be."""

    code = "routing_invalid"


class ContractChanged(Conflict):
    """A model asks for other rows than the endpoint promises to take."""

    code = "contract_changed"


class NotOnline(Invalid):
    """A model's features cannot be computed for single requests."""

    code = "not_online"


class EndpointNotReady(Unavailable):
    """No deployment answers yet."""

    code = "endpoint_not_ready"


class RequestInvalid(Invalid):
    """A request does not keep the endpoint's contract."""

    code = "request_invalid"


class SegmentDamaged(Unavailable):
    """A capture segment is not one, or holds damaged records in its middle."""

    code = "segment_damaged"
