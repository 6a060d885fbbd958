"""Drift, the daily check of inputs, and alerts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from noria.assets import Change
from noria.base.errors import NotFound
from noria.base.times import DAY
from noria.monitoring import queries
from noria.monitoring import tables as t
from noria.monitoring.drift import column_drift, missing_share, score_drift
from noria.monitoring.records import Alert, Drift, DriftOf
from noria.monitoring.service.base import EVALUATOR, SYSTEM
from noria.monitoring.service.watching import Watching
from noria.serving.records import Deployment, Endpoint
from noria.training.reference import SCORE

_MISSING_MORE: Final = 0.2
"""An input check fails where this much more of a column is missing than in the model's reference."""
_OUTSIDE: Final = 0.2
"""... or this share of its texts is unknown to the reference."""


class Alerting(Watching):
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
            if checked:  # a model that no rows have judged has nothing to check them against
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
