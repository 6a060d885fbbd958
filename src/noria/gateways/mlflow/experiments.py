"""MLflow's calls about experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.base.search import Clause, Order, parse, parse_order
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.errors import ExperimentDeleted, ExperimentNotFound
from noria.tracking.grammar import EXPERIMENTS
from noria.tracking.records import Experiment

_ID: Final = "experiment_id"


def experiment_out(experiment: Experiment) -> w.ExperimentOut:
    return w.ExperimentOut(
        experiment_id=d.experiment_id_out(experiment),
        name=experiment.name,
        artifact_location=d.location_of(experiment),
        lifecycle_stage="deleted" if experiment.deleted else "active",
        last_update_time=experiment.updated_at,
        creation_time=experiment.created_at,
        tags=w.tags_out(experiment.tags),
    )


class ExperimentCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._tracking = door.ws.tracking
        self._project_id = door.project_id

    def create(self, asked: Asked) -> w.Json:
        message: w.CreateExperiment = asked.message
        made = self._tracking.create_experiment(
            self._project_id,
            d.need(message.name, "name"),
            actor=asked.actor,
            tags={tag.key: tag.value or "" for tag in message.tags or ()},
            location=d.checked_location(message.artifact_location),
        )
        return {"experiment_id": d.experiment_id_out(made)}

    def get(self, asked: Asked) -> w.Json:
        message: w.ExperimentId = asked.message
        id = d.experiment_id_in(message.experiment_id)
        return {"experiment": experiment_out(self._tracking.experiment_by_id(self._project_id, id))}

    def get_by_name(self, asked: Asked) -> w.Json:
        message: w.ExperimentName = asked.message
        name = d.need(message.experiment_name, "experiment_name")
        if name == "Default":
            self._tracking.experiment_by_id(self._project_id, 0)
        return {"experiment": experiment_out(self._tracking.experiment(self._project_id, name))}

    def delete(self, asked: Asked) -> None:
        message: w.ExperimentId = asked.message
        id = d.experiment_id_in(message.experiment_id)
        self._binned(id, asked, restore=False)

    def restore(self, asked: Asked) -> None:
        message: w.ExperimentId = asked.message
        id = d.experiment_id_in(message.experiment_id)
        self._binned(id, asked, restore=True)

    def _binned(self, id: int, asked: Asked, *, restore: bool) -> None:
        try:
            self._tracking.delete_experiment(self._project_id, id, actor=asked.actor, restore=restore)
        except ExperimentDeleted as error:  # there is none to delete, or none to restore
            raise ExperimentNotFound(f"No Experiment with id={id}: {error.message}", hint=error.hint) from error

    def update(self, asked: Asked) -> None:
        message: w.UpdateExperiment = asked.message
        id = d.experiment_id_in(message.experiment_id)
        name = d.need(message.new_name, "new_name")
        self._tracking.rename_experiment(self._project_id, id, name, actor=asked.actor)

    def set_tag(self, asked: Asked) -> None:
        message: w.ExperimentTag = asked.message
        id, key = d.experiment_id_in(message.experiment_id), d.need(message.key, "key")
        self._tracking.set_experiment_tag(self._project_id, id, key, message.value or "", actor=asked.actor)

    def delete_tag(self, asked: Asked) -> None:
        message: w.ExperimentTag = asked.message
        id, key = d.experiment_id_in(message.experiment_id), d.need(message.key, "key")
        self._tracking.delete_experiment_tag(self._project_id, id, key, actor=asked.actor)

    def search(self, asked: Asked) -> w.Json:
        message: w.SearchExperiments = asked.message
        self._tracking.experiment_by_id(self._project_id, 0)  # the default one is there from the first look on
        page = self._tracking.search_experiments(
            self._project_id,
            clauses=_numbered(parse(message.filter, EXPERIMENTS)),
            order=_whole([parse_order(text, EXPERIMENTS) for text in message.order_by or ()]),
            deleted=d.view(message.view_type),
            limit=d.page_size(message.max_results, 1_000, 50_000),
            after=message.page_token or None,
        )
        return w.page("experiments", [experiment_out(e) for e in page.items], page.next)

    def search_datasets(self, asked: Asked) -> w.Json:
        message: w.SearchDatasets = asked.message
        ids = d.need(message.experiment_ids or None, "experiment_ids")
        if len(ids) > 20:
            raise d.Invalid(f"{len(ids)} experiments are too many for one request.", hint="Ask for 20 at most.")
        known = {self._door.experiment(d.experiment_id_in(id)).id: id for id in ids}
        found = self._tracking.datasets(list(known))
        rows = [
            {"experiment_id": known[id], "name": name, "digest": digest, **({"context": context} if context else {})}
            for id, name, digest, context in found
        ]
        return {"dataset_summaries": rows} if rows else {}


def _numbered(clauses: Sequence[Clause]) -> Sequence[Clause]:
    """The clauses, after a look at ids in them.

    Raises:
        Invalid: an experiment's id is no number.
    """
    for clause in clauses:
        if clause.kind == "attribute" and clause.key == "experiment_id":
            for id in clause.value if isinstance(clause.value, tuple) else (clause.value,):
                d.experiment_id_in(str(id))
    return clauses


def _whole(order: list[Order]) -> list[Order]:
    """An order in which no two experiments are equal; the newest come first when nothing is asked for."""
    if not order:
        return [Order(kind="attribute", key="creation_time", descending=True), Order(kind="attribute", key=_ID)]
    if any(one.key == _ID for one in order):
        return order
    return [*order, Order(kind="attribute", key=_ID, descending=True)]


def routes(door: d.Door) -> list[Route]:
    c = ExperimentCalls(door)
    at = "2.0/mlflow/experiments/"
    return [
        Route(method="POST", path=at + "create", handler=c.create, message=w.CreateExperiment),
        Route(method="GET", path=at + "get", handler=c.get, message=w.ExperimentId),
        Route(method="GET", path=at + "get-by-name", handler=c.get_by_name, message=w.ExperimentName),
        Route(method="POST", path=at + "delete", handler=c.delete, message=w.ExperimentId),
        Route(method="POST", path=at + "restore", handler=c.restore, message=w.ExperimentId),
        Route(method="POST", path=at + "update", handler=c.update, message=w.UpdateExperiment),
        Route(method="POST", path=at + "set-experiment-tag", handler=c.set_tag, message=w.ExperimentTag),
        Route(method="POST", path=at + "delete-experiment-tag", handler=c.delete_tag, message=w.ExperimentTag),
        Route(method="GET", path=at + "search", handler=c.search, message=w.SearchExperiments),
        Route(method="POST", path=at + "search", handler=c.search, message=w.SearchExperiments),
        Route(method="POST", path=at + "search-datasets", handler=c.search_datasets, message=w.SearchDatasets),
        # MLflow's own table lacks a slash here; its clients send it so.
        Route(
            method="POST",
            path="2.0mlflow/experiments/search-datasets",
            handler=c.search_datasets,
            message=w.SearchDatasets,
        ),
    ]
