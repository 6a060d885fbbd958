"""What every handler of the gateway needs, and the small translations between MLflow's words and ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from noria.assets.errors import RunNotFound
from noria.assets.records import Run, RunState
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.db.group import GroupWriter, Together
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.errors import Required
from noria.tracking.errors import ExperimentNotFound
from noria.tracking.grammar import STATUS
from noria.tracking.records import Dataset, DatasetInput, Experiment, LoggedPoint, Owner, OwnerKind, Tracked
from noria.workspace import Workspace

T = TypeVar("T")
ARTIFACTS: Final = "mlflow-artifacts:"
_RUN: Final = re.compile(r"[0-9a-fA-F]{32}|[\w\-]{1,64}")
_PLACE: Final = re.compile(r"(?!runs:)([a-zA-Z][a-zA-Z0-9+.\-]*:|/)[^\x00-\x1f\x7f-\x9f]*")
_MOST_PLACE: Final = 2_048
STATES: Final = {name: state for state, name in STATUS.items() if state is not RunState.LOST}
NUMBERED: Final = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_VIEWS: Final[dict[str, bool | None]] = {
    "ACTIVE_ONLY": False,
    "DELETED_ONLY": True,
    "ALL": None,
    "1": False,
    "2": True,
    "3": None,
}


class Door:
    """The workspace behind the gateway, and the writer that commits for many clients at once."""

    def __init__(self, *, ws: Workspace, writer: GroupWriter) -> None:
        self.ws = ws
        self.project_id: ProjectId = ws.project.id
        self._writer = writer
        self._experiments: dict[int, Experiment] = {}

    async def write(self, work: Callable[[Tx], T], *, lock: str | None = None) -> T:
        """Runs ``work`` in a transaction with what others write now; returns when it is durable."""
        return await asyncio.wrap_future(self._writer.submit(work, lock=lock))

    async def write_item(self, together: Together, item: Any, *, lock: str | None = None) -> None:
        """Writes one of many things of a kind with the others that wait; returns when it is durable."""
        await asyncio.wrap_future(self._writer.submit_item(together, item, lock=lock))

    def commit(self, work: Callable[[Tx], None], lock: str) -> None:
        """``write`` for a thread that waits."""
        self._writer.submit(work, lock=lock).result()

    async def in_thread(self, work: Callable[..., T], *given: Any) -> T:
        def run() -> T:
            with self.ws.db.limited():
                return work(*given)

        return await asyncio.get_running_loop().run_in_executor(None, run)

    async def code_of(self, tags: Mapping[str, str], run_id: RunId | None = None) -> VersionId | None:
        """The version of the code that tags of a run name; made if it is new, before what links it is written.

        Args:
            run_id: the run that they are added to; None where these are all.
        """
        tracking = self.ws.tracking
        if not tracking.names_code(tags):
            return None
        known = tracking.known_code(self.project_id, tags) if run_id is None else None
        return known or await self.in_thread(lambda: tracking.code_version(self.project_id, tags, run_id=run_id))

    def experiment(self, id: int) -> Experiment:
        """An experiment for what never changes of it: number, place, whether it is the default one."""
        found = self._experiments.get(id)
        if found is None:
            found = self.ws.tracking.experiment_by_id(self.project_id, id)
            if len(self._experiments) > 10_000:
                self._experiments = {}
            self._experiments[id] = found
        return found

    async def experiment_of(self, id: int) -> Experiment:
        """``experiment`` for a coroutine: what is not known yet is read in a thread."""
        return self._experiments.get(id) or await self.in_thread(self.experiment, id)

    def known_experiments(self, ids: Sequence[int]) -> list[int]:
        """Our ids of those that are there."""
        found: list[int] = []
        for id in ids:
            try:
                found.append(self.experiment(id).id)
            except ExperimentNotFound:
                continue
        return found

    def run(self, id: RunId) -> Run:
        """A run of this project.

        Raises:
            RunNotFound: there is none.
        """
        found = self.ws.assets.run(id)
        if found.project_id != self.project_id:
            raise RunNotFound(f"Run with id={id} not found.", hint="noria runs list")
        return found

    def known(self, ids: Sequence[RunId]) -> list[RunId]:
        """Those of the runs that are there, of this project."""
        found = self.ws.assets.runs_by_ids(ids)
        return [id for id in ids if id in found and found[id].project_id == self.project_id]

    # ---- whose files clients may ask for

    def check_owner(self, owner: Owner) -> None:
        """Whether what files would belong to is there, in this project.

        Raises:
            NotFound: it is not.
        """
        if owner.kind is OwnerKind.RUN:
            self.run(RunId(owner.id))
        elif owner.kind is OwnerKind.MODEL:
            self.ws.tracking.logged_model(self.project_id, owner.id, full=False)
        elif owner.kind is OwnerKind.TRACE:
            self.ws.tracking.traces.check(self.project_id, owner.id)
        elif owner.kind is OwnerKind.VERSION:
            self.ws.tracking.packaged(self.project_id, owner.id)

    # ---- models that runs read and made

    def link_models(self, tx: Tx, id: RunId, *, read: Sequence[str]) -> None:
        """Says which logged models a run read."""
        self.ws.tracking.link_models(tx, id, [(model, None) for model in read], made=False, project_id=self.project_id)

    def model_metrics(self, tx: Tx, run: Tracked, metrics: Sequence[w.MetricIn]) -> None:
        """Metrics that a run logged about its models."""
        points = [
            (
                metric.model_id or "",
                LoggedPoint(
                    key=metric.key or "",
                    value=metric.value or 0.0,
                    at=metric.timestamp or 0,
                    step=metric.step or 0,
                    run_id=run.run_id,
                    dataset=metric.dataset_name or "",
                    digest=metric.dataset_digest or "",
                ),
            )
            for metric in metrics
        ]
        self.ws.tracking.measure(tx, run, points)


def need(value: T | None, field: str) -> T:
    """The value of a field that has to be there.

    Raises:
        Required: it is missing, or an empty text.
    """
    if value is None or value == "":
        raise Required(field)
    return value


def run_id_of(given: str | None, old: str | None = None) -> RunId:
    """The run of a request; ``run_uuid`` is its older name."""
    value = need(given or old, "run_id")
    if not _RUN.fullmatch(value):
        raise RunNotFound(f"Run with id={value!r:.100} not found.", hint="A run's id has 32 hexadecimal digits.")
    return RunId(value)


def cut(value: str | None, most: int) -> str:
    """A text of at most ``most`` characters: autologging sends longer ones, and MLflow's server cuts them as well."""
    return (value or "")[:most]


def status_of(state: RunState) -> str:
    return STATUS[state]


def state_of(status: str | int) -> RunState:
    name = NUMBERED.get(status, "") if isinstance(status, int) else status
    if name.isdecimal():
        name = NUMBERED.get(int(name[:9]), "")
    if name not in STATES:
        raise Invalid(f"Invalid value {status!r:.60} for parameter 'status'.", hint=f"One of {', '.join(STATES)}.")
    return STATES[name]


def experiment_id_out(experiment: Experiment) -> str:
    return "0" if experiment.is_default else str(experiment.id)


def experiment_id_in(value: str | None, field: str = "experiment_id") -> int:
    """The number of an experiment; 0 is the default one.

    Raises:
        Invalid: it is no number.
    """
    text = need(value, field)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Invalid(f"Invalid experiment ID: {text!r:.100}.", hint="Experiment ids are numbers.")
    return int(text)


def view(value: str | int | None) -> bool | None:
    """Which of them: not in the bin (False), in it (True), all (None)."""
    name = "ACTIVE_ONLY" if value is None or value == "" else str(value)
    if name not in _VIEWS:
        raise Invalid(
            f"Invalid value {value!r:.60} for parameter 'view_type'.", hint="ACTIVE_ONLY, DELETED_ONLY or ALL."
        )
    return _VIEWS[name]


def page_size(value: int | None, default: int, most: int) -> int:
    if value is None:
        return default
    if not 0 < value <= most:
        raise Invalid(
            f"Invalid value {value} for parameter 'max_results'.", hint=f"It must be at least 1 and at most {most}."
        )
    return value


def location_of(experiment: Experiment) -> str:
    """Where clients are told to keep the artifacts of an experiment."""
    return experiment.location or f"{ARTIFACTS}/{experiment_id_out(experiment)}"


def location_of_run(experiment: Experiment, id: str, kept: str | None) -> str:
    """Where clients are told to keep the artifacts of a run.

    Args:
        kept: the place that it brought from another experiment; empty for this server.
    """
    if kept is None:
        return f"{location_of(experiment)}/{id}/artifacts"
    return f"{kept or f'{ARTIFACTS}/{experiment_id_out(experiment)}'}/{id}/artifacts"


def location_of_model(experiment: Experiment, id: str) -> str:
    """Where clients are told to keep the files of a logged model."""
    return f"{location_of(experiment)}/models/{id}/artifacts"


def checked_location(value: str | None) -> str | None:
    """A place that a client wants for its artifacts: a URI or an absolute path, as MLflow takes both.

    The server never opens it, only clients do, each on its own machine; so a path means what it means there.

    Raises:
        Invalid: it is neither, leads out of itself, or has characters that clients read in different ways.
    """
    if not value:
        return None
    leads_out = any(part in value for part in ("..", "%2e%2e", "%2E%2E", "#", "?"))
    if leads_out or not _PLACE.fullmatch(value) or len(value) > _MOST_PLACE:
        raise Invalid(
            f"Invalid artifact location {value!r:.100}.",
            hint="A URI or an absolute path without .., # and ?, for instance s3://bucket/x; "
            f"{_MOST_PLACE} characters at most.",
        )
    return value.rstrip("/")


_LIMITS: Final = {
    "name": 500,
    "digest": 36,
    "source_type": 36,
    "schema": 1_048_575,
    "source": 65_535,
    "profile": 16_777_215,
}


def dataset_input(n: int, given: w.DatasetInputIn) -> DatasetInput:
    """The nth dataset of a request, checked."""
    at = f"datasets[{n}].dataset"
    found = need(given.dataset, at)
    need(found.name, f"{at}.name")
    need(found.digest, f"{at}.digest")
    need(found.source_type, f"{at}.source_type")
    need(found.source, f"{at}.source")
    for field, most in _LIMITS.items():
        size = len(getattr(found, field) or "")
        if size > most:
            raise Invalid(f"{at}.{field} has {size} characters; {most} are allowed.")
    tags = {tag.key: tag.value or "" for tag in given.tags or ()}
    for key, value in tags.items():
        if not 0 < len(key) <= 255 or len(value) > 500:
            raise Invalid(
                f"The tag {key!r:.80} of datasets[{n}] is too long.", hint="255 characters for a key, 500 for a value."
            )
    made = Dataset(
        name=found.name,
        digest=found.digest,
        source_type=found.source_type,
        source=found.source,
        schema=found.schema,
        profile=found.profile,
    )
    return DatasetInput(dataset=made, tags=tags)
