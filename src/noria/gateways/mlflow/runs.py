"""MLflow's calls about runs, and how a run looks to its clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.assets.records import Run
from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.db import Tx
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.names import run_name
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.records import DatasetInput, Experiment, RunData, Told
from noria.tracking.service import MOST_PARAM, MOST_TAG, lock_of

NAME_TAG = "mlflow.runName"
_MOST_USER: Final = 256
_MOST_DATASETS: Final = 1_000


def info_out(run: Run | Told, data: RunData, experiment: Experiment) -> w.RunInfo:
    return w.RunInfo(
        run_uuid=run.id,
        run_id=run.id,
        experiment_id=d.experiment_id_out(experiment),
        run_name=run.name,
        user_id=data.user,
        status=d.status_of(run.state),
        start_time=run.started_at,
        end_time=run.ended_at,
        artifact_uri=d.location_of_run(experiment, run.id, data.location),
        lifecycle_stage="active" if run.deleted_at is None else "deleted",
    )


def data_out(data: RunData) -> w.RunDataOut:
    metrics = [w.MetricOut(key, w.number_out(p.value), p.at, p.step) for key, p in data.metrics.items()]
    return w.RunDataOut(metrics=metrics, params=w.tags_out(data.params), tags=w.tags_out(data.tags))


def inputs_out(found: Sequence[DatasetInput], models: Sequence[str] = ()) -> w.RunInputsOut:
    made = [
        w.DatasetInputWire(
            tags=w.tags_out(one.tags),
            dataset=w.DatasetWire(
                name=one.dataset.name,
                digest=one.dataset.digest,
                source_type=one.dataset.source_type,
                source=one.dataset.source,
                schema=one.dataset.schema,
                profile=one.dataset.profile,
            ),
        )
        for one in found
    ]
    return w.RunInputsOut(dataset_inputs=made, model_inputs=[w.ModelInput(id) for id in models])


class RunCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._tracking = door.ws.tracking
        self._assets = door.ws.assets
        self._project_id = door.project_id

    # ---- the life of a run

    async def create(self, asked: Asked) -> w.Json:
        message: w.CreateRun = asked.message
        experiment_id = d.experiment_id_in(message.experiment_id or "0")
        if len(message.user_id or "") > _MOST_USER:
            raise Invalid(f"'user_id' has {len(message.user_id or '')} characters; {_MOST_USER} are allowed.")
        tags = {tag.key: d.cut(tag.value, MOST_TAG) for tag in message.tags or ()}
        named = tags.get(NAME_TAG)
        if message.run_name and named and message.run_name != named:
            raise Invalid(
                f"'run_name' is {message.run_name!r:.80} and the tag {NAME_TAG!r} is {named!r:.80}.",
                hint="Send one of them, or twice the same.",
            )
        name = message.run_name or named or run_name()
        tags[NAME_TAG] = name
        start = message.start_time
        if start is not None and not 0 <= start < 1 << 62:
            raise Invalid(f"Invalid value {start} for parameter 'start_time'.", hint="Milliseconds since 1970.")

        code = await self._door.code_of(tags)

        def write(tx: Tx) -> Run:
            return self._tracking.create_run(
                tx,
                self._project_id,
                experiment_id,
                name=name,
                actor=asked.actor,
                user=message.user_id or "",
                started_at=start,
                tags=tags,
                code=code,
            )

        run = await self._door.write(write)
        experiment = await self._door.experiment_of(experiment_id)
        data = RunData(
            run_id=run.id,
            experiment_id=experiment.id,
            user=message.user_id or "",
            params={},
            metrics={},
            tags=dict(sorted(tags.items())),
        )
        return {"run": w.RunOut(info_out(run, data, experiment), data_out(data), w.RunInputsOut(), w.RunOutputsOut())}

    def get(self, asked: Asked) -> w.Json:
        message: w.NamedRun = asked.message
        return {"run": self.shown([d.run_id_of(message.run_id, message.run_uuid)])[0]}

    def shown(self, ids: Sequence[RunId]) -> list[w.RunOut]:
        """Runs as clients see them, in this order.

        Raises:
            RunNotFound: one of them is not there, or of another project.
        """
        runs = self._tracking.whole(ids)
        shown: list[w.RunOut] = []
        for id in ids:
            run = runs.get(id)
            if run is None or run.project_id != self._project_id:
                raise d.RunNotFound(f"Run with id={id} not found.", hint="noria runs list")
            experiment = self._door.experiment(run.data.experiment_id or 0)
            shown.append(
                w.RunOut(
                    info_out(run, run.data, experiment),
                    data_out(run.data),
                    inputs_out(run.inputs, run.read),
                    w.RunOutputsOut([w.ModelOutput(model, step) for model, step in run.made]),
                )
            )
        return shown

    async def update(self, asked: Asked) -> w.Json:
        message: w.UpdateRun = asked.message
        id = d.run_id_of(message.run_id, message.run_uuid)
        state = None if message.status is None else d.state_of(message.status)
        ended, name = message.end_time, message.run_name or None
        if ended is not None and not -(1 << 63) <= ended < 1 << 63:
            raise Invalid(f"Invalid value {ended} for parameter 'end_time'.", hint="Milliseconds since 1970.")

        def write(tx: Tx) -> None:
            self._tracking.update_run(
                id, state=state, ended_at=ended, name=name, project_id=self._project_id, tx=tx, locked=True
            )
            if name is not None:
                self._tracking.log(id, tags={NAME_TAG: name}, project_id=self._project_id, tx=tx, locked=True)

        await self._door.write(write, lock=lock_of(id))
        return {"run_info": (await self._door.in_thread(self.shown, [id]))[0].info}

    def delete(self, asked: Asked) -> None:
        self._binned(asked, restore=False)

    def restore(self, asked: Asked) -> None:
        self._binned(asked, restore=True)

    def _binned(self, asked: Asked, *, restore: bool) -> None:
        message: w.NamedRun = asked.message
        id = d.run_id_of(message.run_id, message.run_uuid)
        self._door.run(id)
        self._tracking.delete_run(id, actor=asked.actor, restore=restore)

    # ---- what a run says

    async def set_tag(self, asked: Asked) -> None:
        message: w.Keyed = asked.message
        tags = {d.need(message.key, "key"): d.cut(message.value, MOST_TAG)}
        await self._log(d.run_id_of(message.run_id, message.run_uuid), tags=tags)

    async def delete_tag(self, asked: Asked) -> None:
        message: w.Keyed = asked.message
        id, key = d.run_id_of(message.run_id, message.run_uuid), d.need(message.key, "key")
        await self._door.write(
            lambda tx: self._tracking.delete_tag(id, key, project_id=self._project_id, tx=tx), lock=lock_of(id)
        )

    async def log_param(self, asked: Asked) -> None:
        message: w.Keyed = asked.message
        params = {d.need(message.key, "key"): d.cut(message.value, MOST_PARAM)}
        await self._log(d.run_id_of(message.run_id, message.run_uuid), params=params)

    async def _log(
        self, id: RunId, *, tags: dict[str, str] | None = None, params: dict[str, str] | None = None
    ) -> None:
        name = None if tags is None else tags.get(NAME_TAG) or None
        code = await self._door.code_of(tags or {}, id)

        def write(tx: Tx) -> None:
            self._tracking.log(id, params=params, tags=tags, project_id=self._project_id, tx=tx, locked=True, code=code)
            if name is not None:
                self._assets.amend_run(tx, id, name=name)

        await self._door.write(write, lock=lock_of(id))

    def log_inputs(self, asked: Asked) -> None:
        message: w.LogInputs = asked.message
        id = d.run_id_of(message.run_id)
        if len(message.datasets or ()) > _MOST_DATASETS:
            raise Invalid(f"{len(message.datasets or ())} datasets are too many.", hint=f"{_MOST_DATASETS} at once.")
        found = [d.dataset_input(n, one) for n, one in enumerate(message.datasets or ())]
        with self._door.ws.db.write() as tx:
            self._tracking.log_inputs(id, found, project_id=self._project_id, tx=tx)
            self._door.link_models(tx, id, read=[d.need(m.model_id, "models.model_id") for m in message.models or ()])


def routes(door: d.Door) -> list[Route]:
    c = RunCalls(door)
    at = "2.0/mlflow/runs/"
    return [
        Route(method="POST", path=at + "create", handler=c.create, message=w.CreateRun),
        Route(method="GET", path=at + "get", handler=c.get, message=w.NamedRun),
        Route(method="POST", path=at + "update", handler=c.update, message=w.UpdateRun),
        Route(method="POST", path=at + "delete", handler=c.delete, message=w.NamedRun),
        Route(method="POST", path=at + "restore", handler=c.restore, message=w.NamedRun),
        Route(method="POST", path=at + "set-tag", handler=c.set_tag, message=w.Keyed),
        Route(method="POST", path=at + "delete-tag", handler=c.delete_tag, message=w.Keyed),
        Route(method="POST", path=at + "log-parameter", handler=c.log_param, message=w.Keyed),
        Route(method="POST", path=at + "log-inputs", handler=c.log_inputs, message=w.LogInputs),
    ]
