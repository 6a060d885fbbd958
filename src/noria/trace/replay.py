"""Sends captured predictions to a worker process, with the rows of their captured commits."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.assets import Assets
from noria.base.ids import CommitId
from noria.data import Data
from noria.data.records import Commit, Repository
from noria.pipelines.execute import MODEL, TABLE
from noria.pipelines.executors import SideWorker, TaskFailed
from noria.pipelines.task import InputSpec, TaskSpec
from noria.serving.records import Deployment
from noria.serving.service import Serving
from noria.trace.errors import ReplayFailed
from noria.trace.records import Captured, Replay, UsedRows
from noria.training.package import Package
from noria.training.service import Training

_RUNNER = "noria.trace.run:run_replay"
_MINUTES = 10


class Replayer:
    """Computes predictions again. Nothing of the user's is loaded in this process."""

    def __init__(self, assets: Assets, data: Data, serving: Serving, training: Training, worker: SideWorker) -> None:
        self._assets = assets
        self._data = data
        self._serving = serving
        self._training = training
        self._worker = worker

    def replay(self, predictions: Sequence[Captured], *, rows: int = 0) -> list[Replay]:
        """The predictions, computed again in bulk from the tables at their captured commits.

        Args:
            rows: how many rows of each look-up to bring along, newest first.

        Raises:
            ReplayFailed: a prediction is an error record, or the worker failed.
        """
        rounds = _rounds(predictions)
        found: dict[int, Replay] = {}
        with tempfile.TemporaryDirectory(prefix="noria-trace-") as folder:
            for number, places in enumerate(rounds):
                part = [predictions[n] for n in places]
                out = Path(folder) / str(number)
                out.mkdir()
                found.update(zip(places, self._round(part, rows, out), strict=True))
        return [found[n] for n in range(len(predictions))]

    def _round(self, part: list[Captured], rows: int, out: Path) -> list[Replay]:
        deployment = self._serving.deployment(part[0].deployment)
        package = self._training.package(self._assets.version(deployment.version_id))
        commits = self._commits(part[0].commits)
        spec = self._task(deployment, package, commits, part, rows, out)
        try:
            done = self._worker.run(spec)
        except TaskFailed as error:
            text = f"The prediction could not be computed again: {error.message}"
            raise ReplayFailed(text, hint=error.hint) from None
        answers = json.loads((out / done.outputs[0].path).read_bytes())
        by_table = {repository.name: commit.id for repository, commit in commits}
        return [_replay(p, package, answer, by_table) for p, answer in zip(part, answers, strict=True)]

    def _task(
        self,
        deployment: Deployment,
        package: Package,
        commits: list[tuple[Repository, Commit]],
        part: list[Captured],
        rows: int,
        out: Path,
    ) -> TaskSpec:
        folder, code = self._serving.folders(deployment)
        inputs = [InputSpec(slot="model", asset=package.name, kind=MODEL, digest="", layout="", path=str(folder))]
        parameters = {meta.name: name for name, meta in package.features.tables.items()}
        for repository, commit in commits:
            if repository.name in parameters:
                path = out / f"{commit.id}.arrow"
                # the commit's own layout: equal rows of another commit may have been known at other times
                self._data.reader.read(self._data.layout(commit), hidden=True).write_ipc(path)
                slot = parameters[repository.name]
                inputs.append(
                    InputSpec(slot=slot, asset=repository.name, kind=TABLE, digest="", layout="", path=str(path))
                )
        return TaskSpec(
            attempt=f"trace.{out.name}",
            asset=package.features.name,
            kind="trace",
            runner=_RUNNER,
            entry=package.features.entry,
            code=str(code),
            inputs=inputs,
            spec={"requests": [p.request for p in part], "rows": rows},
            out=str(out),
            timeout=_MINUTES * 60_000,
        )

    def _commits(self, ids: Sequence[str]) -> list[tuple[Repository, Commit]]:
        return [self._data.commit_by_id(CommitId(found)) for found in ids]


def _rounds(predictions: Sequence[Captured]) -> list[list[int]]:
    """Places of predictions that can be computed in one go: same deployment, same commits, each entity once."""
    groups: dict[tuple[int, tuple[str, ...], int], list[int]] = defaultdict(list)
    turns: dict[tuple[int, tuple[str, ...], str], int] = defaultdict(int)
    for number, p in enumerate(predictions):
        if p.error:
            raise ReplayFailed(f"The prediction {p.id!r} is an error ({p.error}): it has no features.")
        turn = turns[p.deployment, p.commits, p.entity]
        turns[p.deployment, p.commits, p.entity] += 1
        groups[p.deployment, p.commits, turn].append(number)
    return list(groups.values())


def _replay(prediction: Captured, package: Package, answer: dict[str, Any], commits: dict[str, CommitId]) -> Replay:
    captured = json.loads(prediction.features)
    if isinstance(captured, list):
        captured = dict(zip(package.columns.names, captured, strict=True))
    used = tuple(
        UsedRows(
            table=u["table"],
            commit=commits.get(u["table"]),
            how=u["how"],
            on=u["on"],
            span_us=u["span_us"],
            count=u["count"],
            rows=tuple(u["rows"]),
        )
        for u in answer["used"]
    )
    return Replay(
        prediction=prediction,
        captured=captured,
        recomputed=json.loads(answer["features"]),
        again=answer["score"],
        used=used,
    )
