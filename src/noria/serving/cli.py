from __future__ import annotations

import secrets
from typing import Any

import click
import msgspec

from noria.base.errors import Conflict, Failed, Unavailable
from noria.pipelines.declare import endpoint as declared
from noria.registry.records import CHAMPION, ModelVersion
from noria.registry.wire import find_version
from noria.serving import link
from noria.serving import wire as w
from noria.serving.errors import EndpointNotFound
from noria.serving.records import Arm, Deployment, DeploymentState, Endpoint, Routing
from noria.terminal import Shell, command, group

endpoints = group("endpoints", "What is called: list, show, status, stop.")

_SYNC_SECONDS = 180


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


@endpoints.command("list")
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the endpoints and who answers them."""
    serving = shell.ws.serving
    found = [w.summary_out(serving.status(e.name)) for e in serving.endpoints()]
    rows = [[s.endpoint.name, s.endpoint.model, s.routing.number, _arms_text(s.routing)] for s in found]
    columns = ["endpoint", "model", "revision", "answered by"]
    shell.emit([_plain(s) for s in found], lambda: shell.table(columns, rows, right=["revision"]))


def _arms_text(routing: w.RoutingOut) -> str:
    return ", ".join(f"{a.model} {a.role} {a.weight:.0%}" for a in routing.arms) or "nobody yet"


@endpoints.command()
@click.argument("name")
@click.option("--history", default=5, show_default=True, help="So many routing revisions.")
@click.pass_obj
def show(shell: Shell, name: str, history: int) -> None:
    """Show contract, routing and deployments of an endpoint."""
    serving = shell.ws.serving
    made = w.detail_out(serving.status(name), serving.history(name, history))

    def human() -> None:
        from rich.markup import escape

        shell.say(f"{name}: {made.endpoint.model}, revision {made.routing.number}, {_arms_text(made.routing)}")
        rows = [[d.id, d.model, d.state, d.ready_at, d.error] for d in made.deployments]
        shell.table(["deployment", "model", "state", "ready", "error"], rows, right=["deployment"])
        if made.endpoint.contract:
            key = ", ".join(made.endpoint.contract["key"])
            shell.say(escape(f"Takes rows of {made.endpoint.contract['source']}, key {key}:"))
            shell.table(["column", "type"], made.endpoint.contract["columns"].items())
        rows = [[r.number, _arms_text(r), r.reason, r.actor, r.at] for r in made.history]
        shell.table(["revision", "answered by", "reason", "by", "at"], rows, right=["revision"])

    shell.emit(_plain(made), human)


@command()
@click.argument("model", metavar="MODEL[@ALIAS|@vN]")
@click.option("--endpoint", "name", required=True, help="Made if it is new.")
@click.option("--follow", metavar="ALIAS", help="Of a new endpoint: an alias whose moves start a release.")
@click.pass_obj
def deploy(shell: Shell, model: str, name: str, follow: str | None) -> None:
    """Put a model version behind an endpoint and send all its traffic there, at once and without gates.

    The version becomes the champion. Where no endpoints run (noria up), it waits for them. What a client of MLflow
    logged is adopted by that (noria adopt): its code runs here, in a process of its own.
    """
    ws = shell.ws
    version = find_version(ws.registry, ws.project.id, model)
    endpoint = _endpoint(ws, name, version, follow)
    with shell.progress(f"Looking at {version.name}"):
        ws.training.ensure_adopted(version, actor=ws.actor)
    deployment: Deployment = ws.serving.deploy(endpoint, version, actor=ws.actor)
    with shell.progress(f"Loading {version.name}"):
        running = _synchronised(ws)
        deployment = ws.serving.deployment(deployment.id)
        if deployment.state == DeploymentState.FAILED:
            raise Failed(
                f"{version.name} cannot be served: {deployment.error}",
                hint=f"noria endpoints show {name}",
                details={"endpoint": name, "deployment": deployment.id},
            )
        routing: Routing = ws.serving.status(name).routing
        if deployment.state == DeploymentState.READY:
            routing = _route(ws, name, version, deployment, routing)
            _synchronised(ws)
    answers = any(a.deployment == deployment.id and a.weight == 1 for a in routing.arms)
    value = {"deployment": _plain(w.deployment_out(deployment)), "revision": routing.number, "answers": answers}
    if answers:
        text = (
            f"{version.name} answers {name} (revision {routing.number}), and {version.model}@{CHAMPION} points at it."
        )
        text += "" if running else " Next: noria up"
    else:
        text = f"{version.name} is put behind {name} and gets no traffic yet: no endpoints run. noria up, then repeat."
    shell.emit(value, text)


def _endpoint(ws: Any, name: str, version: ModelVersion, follow: str | None) -> Endpoint:
    """The endpoint of this name; a new one has the policy that the project declares, if it was applied.

    ``follow`` is said once: to an endpoint that is there it is said anew.
    """
    try:
        found: Endpoint = ws.serving.get(name)
        if follow is not None and found.policy.get("follow") != follow:
            _check_model(name, found.model, version)
            found = ws.serving.ensure(name, found.model, {**found.policy, "follow": follow}, actor=ws.actor)
    except EndpointNotFound:
        applied = ws.pipelines.definitions().get(name)
        if applied is not None and applied.kind == "endpoint":
            policy = {key: applied.spec.get(key) for key in ("p99_ms", "release", "follow")}
            model = applied.spec["model"]
        else:
            made = declared(name, model=version.model)
            policy = {"p99_ms": made.p99_ms, "release": made.release.spec()}
            model = version.model
        if follow is not None:
            policy["follow"] = follow
        _check_model(name, model, version)
        return ws.serving.ensure(name, model, policy, actor=ws.actor)
    _check_model(name, found.model, version)
    return found


def _check_model(name: str, serves: str, version: ModelVersion) -> None:
    if serves.removeprefix("models:/").partition("@")[0].partition("/")[0] != version.model:
        raise Conflict(
            f"The endpoint {name!r} serves {serves!r}, not {version.model!r}.",
            hint="Choose another name with --endpoint.",
            details={"endpoint": name, "serves": serves, "model": version.model},
        )


def _route(ws: Any, name: str, version: ModelVersion, deployment: Deployment, now: Routing) -> Routing:
    """All traffic to one deployment, and the alias with it, in one transaction; nothing where it is so already."""
    if [(a.deployment, a.weight) for a in now.arms] == [(deployment.id, 1.0)]:
        return now
    arms = [Arm(deployment=deployment.id, role=CHAMPION, weight=1.0)]
    with ws.changes.begin("serving.route", ws.project.id, ws.actor) as change:
        made = ws.serving.route(
            change,
            ws.serving.get(name),
            arms,
            salt=secrets.token_hex(8),
            paired=False,
            reason="noria deploy",
            expected=now.number,
        )
        ws.registry.move_alias(ws.project.id, version.model, CHAMPION, version.number, actor=ws.actor, tx=change.tx)
        change.note(name, model=version.name, revision=made.number)
    return made


def _synchronised(ws: Any) -> bool:
    """Lets the supervisor bring its workers to what the database says now; False where none runs."""
    info = ws.jobs.lease_info(link.LEASE)
    if info is None:
        return False
    try:
        answer = link.call(info["socket"], "sync", _SYNC_SECONDS)
    except link.SupervisorGone:
        return False
    if "error" in answer:
        raise Unavailable(answer["error"]["message"], hint=answer["error"]["hint"])
    return True
