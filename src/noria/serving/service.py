"""The verbs of serving, as the control side sees them: endpoints, deployments, routing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noria.assets import Assets, Change, Changes
from noria.assets.records import Direction
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Conflict
from noria.base.ids import ProjectId, VersionId
from noria.base.names import check_name, nearest
from noria.base.once import Once
from noria.db import Database, Tx
from noria.features.service import Features
from noria.pipelines.service import Pipelines
from noria.registry import Registry
from noria.registry.records import ModelVersion
from noria.registry.wire import find_version
from noria.serving import queries
from noria.serving import tables as t
from noria.serving.errors import (
    ContractChanged,
    DeploymentMove,
    DeploymentNotFound,
    EndpointNotFound,
    NotOnline,
    RoutingInvalid,
    RoutingMoved,
)
from noria.serving.records import Arm, Deployment, DeploymentState, Endpoint, EndpointStatus, Routing
from noria.training.service import Training

_HELD: Final = (DeploymentState.STARTING, DeploymentState.READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every endpoint worker has to hold.

    Attributes:
        deployments: to be loaded, those too that have no traffic (yet, or any more: for a quick way back).
        routings: endpoint -> the routing in force, of endpoints that somebody answers.
    """

    deployments: list[Deployment]
    routings: dict[str, Routing]


class Serving:
    """One per workspace. Loading happens in the endpoint workers, which a supervisor owns.

    Attributes:
        capture_folder: where the workers of this machine write what they answered.
    """

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        assets: Assets,
        changes: Changes,
        registry: Registry,
        training: Training,
        features: Features,
        pipelines: Pipelines,
        capture_folder: Path,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._assets = assets
        self._changes = changes
        self._registry = registry
        self._training = training
        self._features = features
        self._pipelines = pipelines
        self.capture_folder = capture_folder

    # ---- endpoints

    def ensure(self, name: str, model: str, policy: dict[str, Any], *, actor: Actor) -> Endpoint:
        """The endpoint of this name, made if it is new; its policy is what was said last."""
        check_name(name, "an endpoint")
        with self._changes.begin("serving.endpoint", self._project_id, actor) as change:
            found = queries.endpoint(change.tx.conn, self._project_id, name)
            if found is None:
                row = {"project_id": self._project_id, "name": name, "model": model, "contract": {}, "policy": policy}
                change.tx.insert_new(t.endpoints, {**row, "revision": 0, "created_at": change.tx.now_ms})
                change.event("endpoint.created", name, {"model": model})
            elif found.policy != policy or found.model != model:
                here = t.endpoints.c.id == found.id
                change.tx.execute(t.endpoints.update().where(here).values(policy=policy, model=model))
            change.note(name, model=model)
            made = queries.endpoint(change.tx.conn, self._project_id, name)
        assert made is not None
        return made

    def get(self, name: str, tx: Tx | None = None) -> Endpoint:
        with self._db.read(tx) as conn:
            found = queries.endpoint(conn, self._project_id, name)
            if found is None:
                known = (e.name for e in queries.endpoints(conn, self._project_id))
                hint = nearest(name, known) or "noria endpoints list"
                raise EndpointNotFound(f"There is no endpoint {name!r}.", hint=hint)
            return found

    def endpoints(self) -> list[Endpoint]:
        with self._db.read() as conn:
            return queries.endpoints(conn, self._project_id)

    def endpoints_of(self, model: str) -> list[Endpoint]:
        """The endpoints behind which a model's versions are deployed."""
        return [e for e in self.endpoints() if e.model == model]

    def status(self, name: str) -> EndpointStatus:
        endpoint = self.get(name)
        with self._db.read() as conn:
            return EndpointStatus(
                endpoint=endpoint,
                routing=queries.routing(conn, endpoint.id, endpoint.revision),
                deployments=queries.deployments(conn, endpoint.id),
            )

    def history(self, name: str, limit: int = 50) -> list[Routing]:
        """Routing revisions, newest first."""
        endpoint = self.get(name)
        with self._db.read() as conn:
            return queries.routings(conn, endpoint.id, limit)

    # ---- deployments

    def deploy_named(self, name: str, model: str, *, actor: Actor, once: Once | None = None) -> Deployment:
        """``deploy``, of an endpoint and a version as they are written.

        Raises:
            Conflict: the endpoint serves another model.
        """
        earlier = self._changes.answered("serving.deploy", self._project_id, once)
        if earlier is not None:  # "the newest version" may be another one by now
            return self.deployment(earlier["deployment"])
        endpoint = self.get(name)
        version = find_version(self._registry, self._project_id, model)
        if version.model != endpoint.model:
            raise Conflict(
                f"The endpoint {endpoint.name!r} serves {endpoint.model!r}, not {version.model!r}.",
                hint="Make another endpoint for it.",
                details={"endpoint": endpoint.name, "serves": endpoint.model, "model": version.model},
            )
        self._training.ensure_adopted(version, actor=actor)
        return self.deploy(endpoint, version, actor=actor, once=once)

    def deploy(
        self,
        endpoint: Endpoint,
        model: ModelVersion,
        *,
        actor: Actor,
        once: Once | None = None,
        tx: Tx | None = None,
    ) -> Deployment:
        """Puts a model version behind an endpoint, without traffic; the supervisor loads it in every worker.

        The same version again is the deployment that is there, started anew if it had failed or was retired. With
        ``tx``, the caller has called ``prepare`` before it opened that.

        Raises:
            ContractChanged: the model asks for other rows than the endpoint takes.
            NotOnline: its features cannot be computed for single requests.
            PackageForeign: a client of MLflow logged it, and nobody has adopted it.
        """
        version = self._training.version_of(model)
        package = self._training.package(version)
        if package.features.online is not None:
            raise NotOnline(
                f"{model.name} cannot answer single requests: {package.features.online}.",
                hint="Look into other tables through nr.asof and nr.history only.",
            )
        contract = {
            "source": package.features.spine.name,
            "key": list(package.features.spine.key),
            "columns": dict(package.features.spine.columns),
        }
        _check_contract(endpoint, model, contract)
        code = version.layout if package.adopted is not None else self._code_of(model)
        if tx is None:
            self.prepare(model)
        with self._changes.begin("serving.deploy", self._project_id, actor, once=once, tx=tx) as change:
            if change.earlier is not None:
                return self.deployment(change.earlier["deployment"])
            now = self.get(endpoint.name, change.tx)  # somebody may have deployed the first version in between
            _check_contract(now, model, contract)
            made = self._write_deployment(change, now, model, version.id, version.layout, code, contract)
            change.answer({"deployment": made.id})
            return made

    def prepare(self, model: ModelVersion) -> None:
        """Makes the online store hold what a model's features need; in transactions of its own."""
        self._features.keep(self._training.package_of(model).features)

    def _write_deployment(
        self,
        change: Change,
        endpoint: Endpoint,
        model: ModelVersion,
        version_id: VersionId,
        package: Digest,
        code: Digest,
        contract: dict[str, Any],
    ) -> Deployment:
        tx = change.tx
        found = queries.deployment_of(tx.conn, endpoint.id, model.name)
        if found is None:
            run = self._assets.record_run(
                tx, self._project_id, kind="deployment", name=f"{endpoint.name}: {model.name}", actor=change.actor
            )
            self._assets.link(tx, run, version_id, Direction.IN, "model")
            row = {
                "endpoint_id": endpoint.id,
                "model": model.name,
                "version_id": version_id,
                "package": str(package),
                "code": str(code),
                "state": DeploymentState.STARTING.value,
                "error": "",
                "run_id": run,
                "created_at": tx.now_ms,
            }
            tx.insert(t.deployments, row)
        elif found.state in (DeploymentState.FAILED, DeploymentState.RETIRED):
            queries.move_deployment(tx.conn, found.id, DeploymentState.STARTING, {"error": "", "ready_at": None})
        if not endpoint.contract:
            tx.execute(t.endpoints.update().where(t.endpoints.c.id == endpoint.id).values(contract=contract))
        change.note(f"{endpoint.name}: {model.name}")
        change.event("deployment.started", endpoint.name, {"model": model.name})
        made = queries.deployment_of(tx.conn, endpoint.id, model.name)
        assert made is not None
        return made

    def _code_of(self, model: ModelVersion) -> Digest:
        """The code snapshot of the run that made a model version."""
        if model.run_id is not None:
            for edge in self._assets.edges(model.run_id):
                if edge.direction == Direction.CODE and edge.slot == "code":
                    return self._assets.version(edge.version_id).layout
        raise NotOnline(
            f"{model.name} was made without a code snapshot, so its features function cannot be loaded.",
            hint="Train it from a project with a noria.toml.",
        )

    def deployment(self, deployment_id: int) -> Deployment:
        with self._db.read() as conn:
            found = queries.deployment(conn, deployment_id)
        if found is None:
            raise DeploymentNotFound(f"There is no deployment {deployment_id}.")
        return found

    def deployments_of_versions(self, ids: list[VersionId]) -> list[Deployment]:
        with self._db.read() as conn:
            return queries.deployments_of_versions(conn, ids)

    def mark(self, deployment_id: int, state: DeploymentState, error: str = "") -> None:
        """Records that every worker has loaded a deployment, or that one could not (the supervisor calls this)."""
        found = self.deployment(deployment_id)
        if found.state == state:
            return
        with self._changes.begin("serving.mark", self._project_id, Actor(name="system", automatic=True)) as change:
            values: dict[str, Any] = {"error": error}
            if state == DeploymentState.READY:
                values["ready_at"] = change.tx.now_ms
            if not queries.move_deployment(change.tx.conn, deployment_id, state, values):
                raise DeploymentMove(f"The deployment {deployment_id} is {found.state.value}, not {state.value}.")
            change.note(f"{found.endpoint}: {found.model}", state=state.value, error=error)
            payload = {"deployment": deployment_id, "model": found.model, "error": error}
            change.event(f"deployment.{state.value}", found.endpoint, payload)

    # ---- what the supervisor asks

    def plan(self) -> Plan:
        """What every endpoint worker has to hold now."""
        routings: dict[str, Routing] = {}
        held: list[Deployment] = []
        with self._db.read() as conn:
            for endpoint in queries.endpoints(conn, self._project_id):
                routing = queries.routing(conn, endpoint.id, endpoint.revision)
                if routing.arms:
                    routings[endpoint.name] = routing
                held += [d for d in queries.deployments(conn, endpoint.id) if d.state in _HELD]
        return Plan(deployments=held, routings=routings)

    def stamp(self) -> list[Any]:
        """Changes whenever ``plan`` does; cheap."""
        with self._db.read() as conn:
            return queries.stamp(conn, self._project_id)

    def folders(self, deployment: Deployment) -> tuple[Path, Path]:
        """(model package, code snapshot) of a deployment, as folders of this machine."""
        package = self._pipelines.values.materialise(self._assets.version(deployment.version_id))
        return package, self._pipelines.code_folder(deployment.code)

    # ---- routing

    def route(
        self,
        change: Change,
        endpoint: Endpoint,
        arms: list[Arm],
        *,
        salt: str,
        paired: bool,
        reason: str,
        expected: int | None = None,
    ) -> Routing:
        """The next routing revision, in the transaction of the change that wants it (decision 8).

        Raises:
            RoutingInvalid: weights do not add up to 1, or an arm is not loaded everywhere.
            RoutingMoved: the routing is not at ``expected`` any more.
        """
        tx = change.tx
        now = self.get(endpoint.name, tx)
        wanted = now.revision if expected is None else expected
        self._check_arms(tx, endpoint, arms)
        made = Routing(number=wanted + 1, arms=tuple(arms), salt=salt, paired=paired, reason=reason)
        if not queries.move_revision(tx, endpoint.id, wanted, wanted + 1):
            raise RoutingMoved(endpoint.name, wanted, now.revision)
        row = {"endpoint_id": endpoint.id, "number": made.number, "arms": made.as_value()["arms"], "salt": salt}
        rest = {"paired": paired, "reason": reason, "actor": change.actor.name, "at": tx.now_ms}
        tx.insert(t.routing, {**row, **rest})
        change.event("routing.changed", endpoint.name, {"revision": made.number, "reason": reason})
        return made

    def _check_arms(self, tx: Tx, endpoint: Endpoint, arms: list[Arm]) -> None:
        total = sum(a.weight for a in arms)
        if not abs(total - 1) <= 1e-9 or any(a.weight < 0 for a in arms):  # "not <=": no number is not 1 either
            raise RoutingInvalid(
                f"The weights of {endpoint.name!r} add up to {total:g}, or one is below 0.",
                hint="Weights are shares from 0 to 1 that add up to 1.",
            )
        if len({a.deployment for a in arms}) != len(arms):
            raise RoutingInvalid(
                f"A deployment appears twice in the routing of {endpoint.name!r}.", hint="Give each one arm."
            )
        for arm in arms:
            found = queries.deployment(tx.conn, arm.deployment)
            known = found is not None and found.endpoint_id == endpoint.id
            if found is None or not known or found.state != DeploymentState.READY:
                state = found.state.value if found is not None and known else f"unknown to {endpoint.name!r}"
                raise RoutingInvalid(
                    f"The deployment {arm.deployment} is {state}; only one that every worker has loaded gets traffic.",
                    hint=f"noria endpoints show {endpoint.name}",
                )

    def retire(self, change: Change, endpoint: Endpoint, keep: set[int]) -> None:
        """Retires the deployments of an endpoint that are not among ``keep``, in the transaction of the change.

        What the routing in force names is kept in any case.
        """
        now = self.get(endpoint.name, change.tx)
        kept = keep | {a.deployment for a in queries.routing(change.tx.conn, now.id, now.revision).arms}
        for found in queries.deployments(change.tx.conn, endpoint.id):
            if found.id not in kept and found.state in _HELD:
                queries.move_deployment(change.tx.conn, found.id, DeploymentState.RETIRED, {"ready_at": None})


def _check_contract(endpoint: Endpoint, model: ModelVersion, contract: dict[str, Any]) -> None:
    if endpoint.contract and endpoint.contract != contract:
        raise ContractChanged(
            f"{model.name} asks for rows of {contract['source']!r} with other columns than the endpoint "
            f"{endpoint.name!r} promises to take.",
            hint="Make a new endpoint: callers of this one would break.",
            details={"endpoint": endpoint.contract, "model": contract},
        )
