"""MLflow's search of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.base.errors import Invalid
from noria.base.search import Order, parse, parse_order
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.routes import Asked, Route
from noria.gateways.mlflow.runs import RunCalls
from noria.tracking.grammar import RUNS

_MOST: Final = 50_000
_MOST_EXPERIMENTS: Final = 10_000


class SearchCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door, runs: RunCalls) -> None:
        self._door = door
        self._runs = runs
        self._tracking = door.ws.tracking

    def runs(self, asked: Asked) -> w.Json:
        message: w.SearchRuns = asked.message
        ids = message.experiment_ids or []
        if len(ids) > _MOST_EXPERIMENTS:
            raise Invalid(f"{len(ids)} experiments are too many for one request.", hint=f"{_MOST_EXPERIMENTS} at most.")
        order = [parse_order(text, RUNS) for text in message.order_by or ()]
        _check_order(order)
        page = self._tracking.find(
            self._door.project_id,
            experiments=self._door.known_experiments([d.experiment_id_in(id) for id in ids]),
            clauses=parse(message.filter, RUNS),
            order=order,
            deleted=d.view(message.run_view_type),
            limit=d.page_size(message.max_results, 1_000, _MOST),
            after=message.page_token or None,
            root=d.ARTIFACTS,
        )
        return w.page("runs", self._runs.shown(page.items), page.next)


def _check_order(order: Sequence[Order]) -> None:
    seen: set[tuple[str, str]] = set()
    for one in order:
        if (one.kind, one.key) in seen:
            raise Invalid(f"order_by names {one.key!r:.100} twice.")
        seen.add((one.kind, one.key))


def routes(door: d.Door) -> list[Route]:
    c = SearchCalls(door, RunCalls(door))
    return [Route(method="POST", path="2.0/mlflow/runs/search", handler=c.runs, message=w.SearchRuns)]
