"""What a supervisor says to its endpoint workers, and what they answer: lines of JSON over pipes.

A worker holds no database and no credentials (decision 12): everything that it needs is named here, by folders that
the supervisor has filled and verified.
"""

from __future__ import annotations

from typing import Any

import msgspec

from noria.serving.records import Arm, Routing


class ArmSpec(msgspec.Struct, array_like=True):
    deployment: int
    role: str
    weight: float


class RoutingSpec(msgspec.Struct):
    """A routing revision on its way to a worker."""

    number: int
    arms: list[ArmSpec]
    salt: str
    paired: bool

    @classmethod
    def of(cls, routing: Routing) -> RoutingSpec:
        arms = [ArmSpec(a.deployment, a.role, a.weight) for a in routing.arms]
        return cls(routing.number, arms, routing.salt, routing.paired)

    def routing(self) -> Routing:
        arms = tuple(Arm(deployment=a.deployment, role=a.role, weight=a.weight) for a in self.arms)
        return Routing(number=self.number, arms=arms, salt=self.salt, paired=self.paired)


class Load(msgspec.Struct, tag="load"):
    """Load a deployment, warm it up, and say so; it gets no traffic by that."""

    id: int
    deployment: int
    model: str
    package: str
    code: str


class Route(msgspec.Struct, tag="route"):
    """The routing of an endpoint from now on; ``limit_ms`` is the latency that it promises."""

    id: int
    endpoint: str
    routing: RoutingSpec


class Unload(msgspec.Struct, tag="unload"):
    """Deployments that no routing names any more."""

    id: int
    deployments: list[int]


class Forget(msgspec.Struct, tag="forget"):
    """An endpoint that is gone."""

    id: int
    endpoint: str


class Flush(msgspec.Struct, tag="flush"):
    """Finish what the shadow still has to score, and make what was captured durable."""

    id: int


class Serve(msgspec.Struct, tag="serve"):
    """Begin to accept connections."""

    id: int


class Stop(msgspec.Struct, tag="stop"):
    """Finish what is being answered, then end."""

    id: int


Command = Load | Route | Unload | Forget | Flush | Serve | Stop


class Answer(msgspec.Struct):
    """What a worker says: ``id`` of the command, or 0 with ``event`` where it speaks unasked."""

    id: int
    ok: bool = True
    event: str = ""
    error: dict[str, Any] | None = None
    facts: dict[str, Any] = {}


class WorkerSettings(msgspec.Struct):
    """What a worker is started with, as JSON in its first line of input.

    Attributes:
        fault: the crash point of a test (``base/faults.py``).
    """

    worker: str
    socket: int
    capture: str
    replica: str
    token: str | None
    hosts: list[str]
    listener: str
    durability: str = "record"
    fault: str = ""


encode = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(Command).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_settings = msgspec.json.Decoder(WorkerSettings).decode
