"""The verbs of monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from noria.assets import Change, Changes, EvidenceLog, ProjectClock
from noria.assets.records import AssetKind
from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound
from noria.base.ids import ProjectId
from noria.base.times import DAY, to_datetime
from noria.data import Data
from noria.data.records import Repository, RepositoryKind
from noria.db import Database
from noria.labels.records import KNOWN, LabelSpec
from noria.monitoring import queries, skew, windows
from noria.monitoring import tables as t
from noria.monitoring.against import against, cut
from noria.monitoring.drift import column_drift, missing_share, score_drift
from noria.monitoring.errors import TruthUnfit
from noria.monitoring.labeller import Labeller, read_labels
from noria.monitoring.records import Accuracy, Alert, Compared, Drift, DriftOf, Window
from noria.pipelines.service import Pipelines
from noria.registry.records import ModelVersion
from noria.serving.ingest import Ingest, repository_name
from noria.serving.records import Deployment, Endpoint
from noria.serving.service import Serving
from noria.training.package import Package
from noria.training.reference import SCORE
from noria.training.service import Training

EVALUATOR: Final = "noria.monitoring.service:1"
SYSTEM: Final = Actor(name="system:monitoring", automatic=True)
_COLUMNS: Final = ["id", "deployment", "model", "role", "answered", "at", "entity", "score", "error"]
_MISSING_MORE: Final = 0.2
"""An input check fails where this much more of a column is missing than in the model's reference."""
_OUTSIDE: Final = 0.2
"""... or this share of its texts is unknown to the reference."""


class Monitoring:
    """One per workspace. Works on what ``Ingest`` has taken over; every verb may be repeated."""

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        changes: Changes,
        evidence: EvidenceLog,
        event_clock: ProjectClock,
        data: Data,
        serving: Serving,
        training: Training,
        pipelines: Pipelines,
        ingest: Ingest,
        labeller: Labeller,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._changes = changes
        self._evidence = evidence
        self._event_clock = event_clock
        self._data = data
        self._serving = serving
        self._training = training
        self._pipelines = pipelines
        self.ingest = ingest
        self._labeller = labeller
        self._packages: dict[int, tuple[Package, dict[str, Any]]] = {}

    # ---- what runs when event time has moved on

    def process(self, name: str) -> list[Window]:
        """Brings the truth and the windows of an endpoint up to date; returns the windows that changed."""
        endpoint = self._serving.get(name)
        self._take_truth(endpoint)
        return self._renew(endpoint)

    def package(self, deployment: Deployment) -> tuple[Package, dict[str, Any]]:
        """(package, reference) of what a deployment serves; read and verified once."""
        found = self._packages.get(deployment.id)
        if found is None:
            folder, _ = self._serving.folders(deployment)
            found = self._packages[deployment.id] = (self._training.package_in(folder), _reference(folder))
        return found

    def champion(self, endpoint: Endpoint) -> Deployment | None:
        """The deployment that the routing in force calls champion."""
        routing = self._serving.status(endpoint.name).routing
        return None if routing.champion is None else self._serving.deployment(routing.champion)

    # ---- truth

    def truth_repository(self, endpoint: str) -> Repository:
        return self._data.ensure(
            self._project_id,
            f"{endpoint}.truth",
            RepositoryKind.TABLE,
            actor=SYSTEM,
            key=("entity",),
            known="known",
            asset_kind=AssetKind.LABELS,
        )

    def _take_truth(self, endpoint: Endpoint) -> None:
        """Labels what came since the last time.

        The labels function of the champion is run on all rows of the keys that changed, by the model's own code.
        """
        champion = self.champion(endpoint)
        if champion is None:
            return
        package, _ = self.package(champion)
        if not package.labels:  # its truth is told: noria monitor truth
            return
        spec = LabelSpec.of_value(package.labels)
        found = self._changed(endpoint, spec)
        if found is None:
            return
        tables, seqs = found
        if spec.entry:
            _, code = self._serving.folders(champion)
            made = self._labeller.label(spec, code, tables)
        else:
            made = read_labels(spec, *tables["rows"])
        frame = _truth_frame(made, spec)
        repository = self.truth_repository(endpoint.name)

        def also(change: Change) -> None:
            self._set_seqs(change, endpoint, seqs)

        head = self._data.head(repository)
        after = self._data.append(repository, frame, actor=SYSTEM, message="truth", also=also) if len(frame) else head
        if after is None or (head is not None and after.id == head.id):  # nothing new; what was read is known now
            with self._changes.begin("monitor.truth", self._project_id, SYSTEM) as change:
                change.note(endpoint.name)
                self._set_seqs(change, endpoint, seqs)

    def _set_seqs(self, change: Change, endpoint: Endpoint, seqs: dict[str, int]) -> None:
        for source, seq in seqs.items():
            queries.set_mark(change.tx, endpoint.id, f"truth:{source}", seq)

    def _changed(
        self, endpoint: Endpoint, spec: LabelSpec
    ) -> tuple[dict[str, tuple[pl.DataFrame, dict[str, Any]]], dict[str, int]] | None:
        """(parameter -> all rows of the keys that changed in any table, source -> commit generation read)."""
        key = list(spec.key)
        seqs: dict[str, int] = {}
        fresh: list[pl.DataFrame] = []
        whole: dict[str, tuple[Repository, Any, str]] = {}
        everything = False
        for slot, source in spec.tables.items():
            repository = self._data.get(self._project_id, source)
            head = self._data.head(repository)
            if head is None:
                return None
            schema = self._data.layout(head).schema
            with self._db.read() as conn:
                seen = queries.mark(conn, endpoint.id, f"truth:{source}")
            whole[slot] = (repository, schema, head.id)
            seqs[source] = head.generation
            if head.generation <= seen:
                continue
            if not set(key) <= set(schema.names):
                everything = True
                continue
            fresh.append(self._data.read(repository, head.id, columns=key, after_seq=seen))
        if not fresh and not everything:
            return None
        keys = None if everything else pl.concat(fresh, how="vertical_relaxed").unique(maintain_order=True)
        tables: dict[str, tuple[pl.DataFrame, dict[str, Any]]] = {}
        for slot, (repository, schema, commit) in whole.items():
            if keys is not None and set(key) == set(schema.key):
                frame = self._data.rows_with_keys(repository, commit, keys)
            else:
                frame = self._data.read(repository, commit, hidden=True)
                if keys is not None and set(key) <= set(schema.names):
                    frame = frame.join(keys, on=key, how="semi", maintain_order="left")
            meta = {"key": list(schema.key), "time": schema.time, "known": schema.known_column}
            tables[slot] = (frame, {**meta, "columns": {c.name: c.type for c in schema.columns}})
        return tables, seqs

    def tell_truth(self, name: str, rows: pl.DataFrame, *, actor: Actor) -> int:
        """Says what turned out to be so of predictions that an endpoint gave; what is told again replaces what was.

        Args:
            rows: columns ``id`` (of the prediction, as the caller named it or the answer did) and ``truth``.

        Returns:
            how many truths were told.

        Raises:
            TruthUnfit: the columns are others, an id is there twice, a truth is no number; or the endpoint's rows have
                a key, and noria finds their truth itself.
        """
        endpoint = self._serving.get(name)
        champion = self.champion(endpoint)
        package = None if champion is None else self.package(champion)[0]
        if package is not None and (package.features.spine.key or package.labels):
            where = f"the column {package.target!r} of {package.features.name!r}" if package.adopted else "its labels"
            raise TruthUnfit(
                f"The truth of {name!r} is taken from {where}.", hint="Add rows there: noria data append, noria run"
            )
        frame = _told(rows)
        known = to_datetime(self._event_clock.event_ms(self._project_id))
        made = frame.with_columns(known=pl.lit(known, pl.Datetime("us", "UTC")))
        now = self.truth(name)
        if len(now):  # told again: since when it is known stays
            made = made.join(now, on=["entity", "truth"], how="anti")
        if len(made):
            self._data.append(self.truth_repository(name), made, actor=actor, message="truth was told")
        return len(frame)

    def truth(self, endpoint: str) -> pl.DataFrame:
        """Columns ``entity``, ``truth`` (float64), ``known``."""
        repository = self._data.find(self._project_id, f"{endpoint}.truth")
        if repository is None or self._data.head(repository) is None:
            types: dict[str, Any] = {"entity": pl.String, "truth": pl.Float64, "known": pl.Datetime("us", "UTC")}
            return pl.DataFrame(schema=types)
        return self._data.read(repository)

    # ---- windows

    def _renew(self, endpoint: Endpoint) -> list[Window]:
        """Computes anew the windows that new rows or new truth have touched.

        What they were computed from is written with them: a crash after truth came in must not leave them behind it.
        """
        repository = self._data.find(self._project_id, repository_name(endpoint.name))
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None:
            return []
        with self._db.read() as conn:
            seen = queries.mark(conn, endpoint.id, "windows")
            seen_truth = queries.mark(conn, endpoint.id, "windows:truth")
        late, truth_seq = self._late(endpoint, seen_truth)
        touched = self._data.read(repository, head.id, columns=["at", "deployment"], after_seq=seen)
        if len(late):
            frame = self._data.read(repository, head.id, columns=["at", "deployment", "entity"])
            found = frame.join(late, on="entity", how="semi").select("at", "deployment")
            touched = pl.concat([touched, found])
        if not len(touched) and truth_seq == seen_truth:
            return []
        days = touched.select(pl.col("at").dt.truncate("1d"), "deployment").unique().sort("at", "deployment")
        truth = self.truth(endpoint.name)
        made: list[Window] = []
        for (at,), part in days.group_by("at", maintain_order=True):
            made += self._windows(endpoint, repository, head.id, at, part["deployment"].to_list(), truth)
        with self._changes.begin("monitor.windows", self._project_id, SYSTEM) as change:
            queries.save_windows(change.tx, endpoint.id, made)
            queries.set_mark(change.tx, endpoint.id, "windows", head.generation)
            queries.set_mark(change.tx, endpoint.id, "windows:truth", truth_seq)
            change.note(endpoint.name, windows=len(made))
        return made

    def _late(self, endpoint: Endpoint, seen: int) -> tuple[pl.DataFrame, int]:
        """(entities whose truth is new or has changed since generation ``seen``, the generation now)."""
        repository = self._data.find(self._project_id, f"{endpoint.name}.truth")
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None or head.generation <= seen:
            return pl.DataFrame(schema={"entity": pl.String}), seen
        return self._data.read(repository, head.id, columns=["entity"], after_seq=seen), head.generation

    def _windows(
        self, endpoint: Endpoint, repository: Repository, commit: str, at: Any, wanted: list[int], truth: pl.DataFrame
    ) -> list[Window]:
        start = int(at.timestamp() * 1000)
        times = (start * 1000, (start + DAY) * 1000 - 1)
        columns = [*_COLUMNS, "features", "latency", "count"]
        rows = self._data.read(repository, commit, columns=columns, times=times)
        rows = rows.filter(pl.col("at").is_between(at, to_datetime(start + DAY), closed="left"))
        made: list[Window] = []
        for number in wanted:
            mine = rows.filter(pl.col("deployment") == number)
            if number == 0:  # requests that did not keep the contract: no deployment saw them
                made.append(_refused(endpoint.name, start, mine))
                continue
            deployment = self._serving.deployment(number)
            package, reference = self.package(deployment)
            facts = windows.describe(mine, reference, endpoint.policy.get("p99_ms"))
            known = mine.filter(pl.col("error") == "").join(truth, on="entity", how="inner", maintain_order="left")
            made.append(
                Window(
                    endpoint=endpoint.name,
                    deployment=number,
                    model=deployment.model,
                    start=start,
                    labelled=len(known),
                    metrics=windows.judge(known, list(package.metrics)),
                    **facts,
                )
            )
        return made

    def windows(
        self, endpoint: str, *, deployment: int | None = None, since: int | None = None, until: int | None = None
    ) -> list[Window]:
        """Windows of an endpoint, oldest first."""
        found = self._serving.get(endpoint)
        with self._db.read() as conn:
            return queries.windows(conn, found.id, found.name, deployment=deployment, since=since, until=until)

    # ---- drift

    def drift(self, endpoint: str, deployment: Deployment, since: int, until: int) -> tuple[Drift, list[Drift]]:
        """(drift of the score, drift of each feature) of a deployment in a stretch of event time."""
        _, reference = self.package(deployment)
        found = self.windows(endpoint, deployment=deployment.id, since=since, until=until)
        columns: dict[str, Any] = reference["columns"]
        score = np.zeros(len(columns[SCORE]["counts"]), np.int64)
        sums: dict[str, Any] = {}
        for window in found:
            score = score + np.asarray(window.score, np.int64)
            for name, counts in window.columns.items():
                sums[name] = sums.get(name, 0) + np.asarray(counts, np.int64)
        features = [column_drift(name, columns[name], counts) for name, counts in sums.items()]
        return score_drift(columns[SCORE], score), sorted(features, key=lambda d: -d.psi)

    def report(self, name: str, deployment: int | None, since: int | None, until: int | None) -> DriftOf:
        """Drift of a deployment (default: the champion's), in a stretch of event time (default: its last week).

        Raises:
            NotFound: the endpoint has no champion yet.
        """
        endpoint = self._serving.get(name)
        found = self.champion(endpoint) if deployment is None else self._serving.deployment(deployment)
        if found is None:
            raise NotFound(f"{name!r} has no champion yet.", hint=f"noria endpoints show {name}")
        last = self.windows(name, deployment=found.id)
        end = until if until is not None else (last[-1].start + DAY if last else 0)
        begin = since if since is not None else max(0, end - 7 * DAY)
        score, features = self.drift(name, found, begin, end)
        return DriftOf(endpoint=name, model=found.model, since=begin, until=end, score=score, features=features)

    # ---- accuracy

    def joined(self, endpoint: str, since: int | None = None, until: int | None = None) -> pl.DataFrame:
        """Scored rows with their truth: columns of the capture, and ``truth`` (null while it is not known)."""
        repository = self._data.find(self._project_id, repository_name(endpoint))
        if repository is None or self._data.head(repository) is None:
            types: dict[str, Any] = {
                "id": pl.String, "deployment": pl.Int64, "model": pl.String, "role": pl.String,
                "answered": pl.Boolean, "at": pl.Datetime("us", "UTC"), "entity": pl.String, "score": pl.Float64,
                "truth": pl.Float64,
            }  # fmt: skip
            return pl.DataFrame(schema=types)
        times = (None if since is None else since * 1000, None if until is None else until * 1000 - 1)
        rows = self._data.read(repository, columns=_COLUMNS, times=times)
        rows = rows.filter((pl.col("error") == "") & _within(since, until)).drop("error")
        truth = self.truth(endpoint).select("entity", "truth")
        return rows.join(truth, on="entity", how="left", maintain_order="left")

    def accuracy(
        self,
        endpoint: str,
        *,
        since: int | None = None,
        until: int | None = None,
        by: str = "all",
        deployment: int | None = None,
        metrics: list[str] | None = None,
    ) -> list[Accuracy]:
        """What turned out to be so of what was answered (or of what one deployment scored), by ``month``, ``week``,
        ``day`` or ``all``. ``metrics``: only these, since intervals cost time; default all of the model's.
        """
        frame = self.joined(endpoint, since, until)
        frame = (
            frame.filter(pl.col("answered")) if deployment is None else frame.filter(pl.col("deployment") == deployment)
        )
        if not len(frame):
            return []
        package, _ = self.package(self._serving.deployment(frame["deployment"][-1]))
        after = package.after_ms
        now = self._event_clock.event_ms(self._project_id)
        model = "" if deployment is None else frame["model"][0]
        made: list[Accuracy] = []
        for (start,), part in frame.with_columns(cut(by).alias("__start")).group_by("__start", maintain_order=True):
            due = part.filter(pl.col("at") <= to_datetime(now - after))
            known = part.filter(pl.col("truth").is_not_null())
            newest: Any = part["at"].max()
            made.append(
                Accuracy(
                    start=int(start.timestamp() * 1000),  # type: ignore[attr-defined]
                    end=int(newest.timestamp() * 1000),
                    model=model,
                    n=len(part),
                    labelled=int(due["truth"].is_not_null().sum()),
                    due=len(due),
                    positives=float(known["truth"].mean() or 0.0) if len(known) else 0.0,  # type: ignore[arg-type]
                    metrics=windows.judge_with_intervals(known, metrics or list(package.metrics)),
                )
            )
        return sorted(made, key=lambda a: a.start)

    def paired(self, endpoint: str, first: int, second: int, since: int, until: int) -> pl.DataFrame:
        """Requests that both deployments scored: ``id``, ``at``, ``first``, ``second``, ``truth`` (null if unknown)."""
        frame = self.joined(endpoint, since, until)
        left = frame.filter(pl.col("deployment") == first).select("id", "at", "truth", first="score")
        right = frame.filter(pl.col("deployment") == second).select("id", second="score")
        return left.join(right, on="id", how="inner", maintain_order="left").sort("at", "id")

    def compare(
        self, endpoint: str, model: ModelVersion, *, by: str = "all", since: int | None = None, until: int | None = None
    ) -> list[Compared]:
        """What was answered, beside what another version would have answered to the same requests.

        The other version scores the features table as it is now, which has to hold the rows (``noria run FEATURES``).
        The constant is the mean truth of the rows before the endpoint's first answer.
        """
        whole = self.joined(endpoint).filter(pl.col("answered"))
        first, frame = whole["at"].min(), whole.filter(_within(since, until))
        if not len(frame):
            return []
        package = self._training.package_of(model)
        _check_keyed(package, model.name)
        features = self._pipelines.current(package.features.name)
        scores = self._training.score(self._training.version_of(model), features)
        key = list(package.features.spine.key)
        entities = pl.Series("entity", _entities(scores.select(key)), dtype=pl.String)
        other = pl.DataFrame([entities, scores["score"].alias("other"), scores["_at"]])
        before = other.filter(pl.col("_at") < first).join(self.truth(endpoint), on="entity", how="inner")
        constant: Any = before["truth"].mean()
        return against(frame, other.select("entity", "other"), constant, by, list(package.metrics))

    # ---- checks and alerts

    def check_inputs(self, endpoint: Endpoint, start: int) -> list[dict[str, Any]]:
        """Checks the inputs of one day against the reference of the model that answered; keeps the evidence.

        Returns the checks that failed: column, what, share, limit.
        """
        failed: list[dict[str, Any]] = []
        checked, rows, finite = 0, 0, True
        for window in self.windows(endpoint.name, since=start, until=start + DAY):
            if not window.answered or not window.deployment:
                continue
            rows += window.n
            finite &= bool(window.facts["finite"])
            _, reference = self.package(self._serving.deployment(window.deployment))
            for name, counts in window.columns.items():
                column = reference["columns"][name]
                found, limit = column_drift(name, column, counts), missing_share(column) + _MISSING_MORE
                checked += 1
                if found.missing > limit:
                    failed.append({"column": name, "what": "missing", "share": found.missing, "limit": limit})
                if found.outside > _OUTSIDE:
                    failed.append({"column": name, "what": "unknown", "share": found.outside, "limit": _OUTSIDE})
        if not rows:
            return []
        with self._changes.begin("monitor.inputs", self._project_id, SYSTEM) as change:
            change.note(endpoint.name, day=start, failed=len(failed))
            details = {"rows": rows, "columns": checked, "failed": failed, "day": start}
            self._evidence.record(
                change, "serving_inputs", endpoint.name, passed=not failed, evaluator=EVALUATOR, details=details
            )
            self._evidence.record(
                change, "numeric", endpoint.name, passed=finite, evaluator=EVALUATOR,
                details={"rows": rows, "day": start},
            )  # fmt: skip
            text = ", ".join(f"{f['column']} {f['what']} {f['share']:.0%}" for f in failed)
            self.raise_or_close(change, bool(failed), endpoint.name, "inputs", endpoint.name, text, {"failed": failed})
        return failed

    def raise_or_close(
        self,
        change: Change,
        wrong: bool,
        endpoint: str,
        kind: str,
        subject: str,
        message: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Opens an alert where something is wrong and none is open; closes the open one where it is over."""
        found = queries.open_alert(change.tx.conn, self._project_id, endpoint, kind, subject)
        if wrong and found is None:
            row = {"project_id": self._project_id, "endpoint": endpoint, "kind": kind, "subject": subject}
            rest = {"message": message, "details": details or {}, "opened": change.event_ms, "closed": None}
            change.tx.insert(t.alerts, {**row, **rest, "created_at": change.tx.now_ms})
            change.event("alert.opened", endpoint, {"kind": kind, "subject": subject, "message": message})
        elif not wrong and found is not None:
            queries.close_alert(change.tx, found.id, change.event_ms)
            change.event("alert.closed", endpoint, {"kind": kind, "subject": subject})

    def alerts(self, *, only_open: bool = False, limit: int = 100) -> list[Alert]:
        """Newest first."""
        with self._db.read() as conn:
            return queries.alerts(conn, self._project_id, only_open=only_open, limit=limit)

    # ---- captured rows, one by one

    def skew(self, endpoint_name: str, count: int, *, actor: Actor, seed: int = 0) -> dict[str, Any]:
        """Computes a random sample of answers again by the bulk path, features and scores, and compares bit by bit.

        The features table has to be up to date (``noria run FEATURES``); rows that it does not hold count as absent.
        The result is kept as evidence.
        """
        frame = self.sample(endpoint_name, count, seed=seed)
        equal_rows, equal_scores, absent = 0, 0, 0
        wrong: dict[str, int] = {}
        for number in frame["deployment"].unique(maintain_order=True).to_list():
            deployment = self._serving.deployment(number)
            package, _ = self.package(deployment)
            _check_computed(package, deployment.model)
            version = self._pipelines.current(package.features.name)
            mine = frame.filter(pl.col("deployment") == number)
            bulk = self._pipelines.value(package.features.name)
            key, names = list(package.features.spine.key), package.columns.names
            keys = [msgspec.json.decode(entity) for entity in mine["entity"].to_list()]
            scores = self._training.score(self._training.version_at(deployment.version_id), version, keys=keys)
            found = skew.compare(mine, bulk, scores, key, names)
            equal_rows += found.equal
            equal_scores += found.scores
            absent += found.absent
            for name, times in found.wrong.items():
                wrong[name] = wrong.get(name, 0) + times
        details = {
            "rows": len(frame), "equal": equal_rows, "scores_equal": equal_scores, "absent": absent, "wrong": wrong
        }  # fmt: skip
        passed = bool(len(frame)) and equal_rows == equal_scores == len(frame)
        with self._changes.begin("monitor.skew", self._project_id, actor) as change:
            change.note(endpoint_name, **details)
            self._evidence.record(change, "skew", endpoint_name, passed=passed, evaluator=EVALUATOR, details=details)
        return {**details, "passed": passed}

    @staticmethod
    def entities(keys: pl.DataFrame) -> list[str]:
        """Rows of keys as the capture names them: the values as a JSON list."""
        return _entities(keys)

    def sample(self, endpoint: str, count: int, *, seed: int = 0, deployment: int | None = None) -> pl.DataFrame:
        """A random sample of answered predictions, with request, features and commits."""
        repository = self._data.get(self._project_id, repository_name(endpoint))
        frame = self._data.read(repository).filter(pl.col("answered") & (pl.col("error") == ""))
        if deployment is not None:
            frame = frame.filter(pl.col("deployment") == deployment)
        frame = frame.sort("at", "id")
        return frame.sample(min(count, len(frame)), seed=seed).sort("at", "id")


def _within(since: int | None, until: int | None) -> pl.Expr:
    """Whether a row's moment lies in [since, until), milliseconds; all of them where there is no bound."""
    keep = pl.lit(value=True)
    if since is not None:
        keep &= pl.col("at") >= to_datetime(since)
    if until is not None:
        keep &= pl.col("at") < to_datetime(until)
    return keep


def _reference(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / "reference.json").read_bytes())


def _refused(endpoint: str, start: int, rows: pl.DataFrame) -> Window:
    return Window(
        endpoint=endpoint,
        deployment=0,
        model="",
        start=start,
        n=0,
        answered=0,
        errors=int(rows["count"].sum() or 0),
        slow=0,
        latency={"p50": 0.0, "p99": 0.0},
        score=[],
        columns={},
        facts={"codes": dict(rows["error"].value_counts().iter_rows())},
        labelled=0,
        metrics={},
    )


def _truth_frame(made: pl.DataFrame, spec: LabelSpec) -> pl.DataFrame:
    """``entity`` as the capture writes it: the key's values as a JSON list."""
    entities = _entities(made.select(spec.key))
    known = made[KNOWN] if KNOWN in made.columns else pl.Series(KNOWN, [None] * len(made), pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "entity": pl.Series(entities, dtype=pl.String),
            "truth": made[spec.target].cast(pl.Float64),
            "known": known,
        }
    )


def _check_computed(package: Package, model: str) -> None:
    if package.adopted is not None:
        raise Invalid(
            f"{model} takes its rows as they are sent: no feature is computed that could differ.",
            hint="noria trace ENDPOINT/ID computes an answer again.",
        )


def _check_keyed(package: Package, model: str) -> None:
    if not package.features.spine.key:
        raise Invalid(
            f"{model} takes rows without a key: no table holds those that were asked for.",
            hint="noria adopt MODEL --on TABLE --target COLUMN, of a table with a key",
        )


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns ``entity``, ``truth`` of told rows."""
    if sorted(rows.columns) != ["id", "truth"]:
        raise TruthUnfit(
            f"Truth has the columns id and truth, not {', '.join(rows.columns) or 'none'}.",
            hint="id is what the request called the row, or what the answer did.",
        )
    try:
        made = rows.select(pl.col("id").cast(pl.String), pl.col("truth").cast(pl.Float64))
    except pl.exceptions.PolarsError:
        raise TruthUnfit("A truth is no number.", hint="Yes or no is 1 or 0.") from None
    empty = made.filter(pl.any_horizontal(pl.all().is_null()) | pl.col("truth").is_nan()).height
    if empty or not len(made):
        raise TruthUnfit(f"{empty or 'All'} rows have no id or no truth.", hint="Leave out what is not known yet.")
    twice = made.filter(pl.col("id").is_duplicated())["id"]
    if len(twice):
        raise TruthUnfit(f"The id {twice[0]!r} is there twice.", hint="One truth for each prediction.")
    return made.select(pl.Series("entity", _entities(made.select("id")), dtype=pl.String), "truth")


def _entities(keys: pl.DataFrame) -> list[str]:
    encode = msgspec.json.Encoder().encode
    return [encode(list(row)).decode() for row in keys.iter_rows()]
