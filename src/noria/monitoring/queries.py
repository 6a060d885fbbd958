from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select, update

from noria.base.ids import ProjectId
from noria.db import Tx
from noria.monitoring import tables as t
from noria.monitoring.records import Alert, Window


def mark(conn: Connection, endpoint_id: int, name: str) -> int:
    where = (t.monitor_marks.c.endpoint_id == endpoint_id, t.monitor_marks.c.name == name)
    return conn.execute(select(t.monitor_marks.c.value).where(*where)).scalar_one_or_none() or 0


def set_mark(tx: Tx, endpoint_id: int, name: str, value: int) -> None:
    tx.upsert(t.monitor_marks, {"endpoint_id": endpoint_id, "name": name, "value": value}, key=["endpoint_id", "name"])


def save_windows(tx: Tx, endpoint_id: int, windows: Iterable[Window]) -> None:
    for w in windows:
        values = {
            "model": w.model,
            "latency": w.latency,
            "score": w.score,
            "columns": w.columns,
            "facts": w.facts,
            "metrics": {k: v if v == v else None for k, v in w.metrics.items()},
        }
        row = {
            "endpoint_id": endpoint_id,
            "deployment_id": w.deployment,
            "start": w.start,
            "n": w.n,
            "answered": w.answered,
            "errors": w.errors,
            "slow": w.slow,
            "labelled": w.labelled,
            "values": values,
            "updated_at": tx.now_ms,
        }
        tx.upsert(t.monitor_windows, row, key=["endpoint_id", "deployment_id", "start"])


def windows(
    conn: Connection,
    endpoint_id: int,
    endpoint: str,
    *,
    deployment: int | None = None,
    since: int | None = None,
    until: int | None = None,
) -> list[Window]:
    """Oldest first; those that begin in [since, until)."""
    c = t.monitor_windows.c
    statement = select(t.monitor_windows).where(c.endpoint_id == endpoint_id)
    if deployment is not None:
        statement = statement.where(c.deployment_id == deployment)
    if since is not None:
        statement = statement.where(c.start >= since)
    if until is not None:
        statement = statement.where(c.start < until)
    return [_window(row, endpoint) for row in conn.execute(statement.order_by(c.start, c.deployment_id))]


def _window(row: Row[Any], endpoint: str) -> Window:
    values: dict[str, Any] = row.values if isinstance(row.values, dict) else row._mapping["values"]
    return Window(
        endpoint=endpoint,
        deployment=row.deployment_id,
        model=values["model"],
        start=row.start,
        n=row.n,
        answered=row.answered,
        errors=row.errors,
        slow=row.slow,
        latency=values["latency"],
        score=values["score"],
        columns=values["columns"],
        facts=values["facts"],
        labelled=row.labelled,
        metrics={k: float("nan") if v is None else v for k, v in values["metrics"].items()},
    )


def open_alert(conn: Connection, project_id: ProjectId, endpoint: str, kind: str, subject: str) -> Alert | None:
    c = t.alerts.c
    where = (
        c.project_id == project_id,
        c.endpoint == endpoint,
        c.kind == kind,
        c.subject == subject,
        c.closed.is_(None),
    )
    row = conn.execute(select(t.alerts).where(*where)).one_or_none()
    return None if row is None else _alert(row)


def alerts(conn: Connection, project_id: ProjectId, *, only_open: bool, limit: int) -> list[Alert]:
    """Newest first."""
    statement = select(t.alerts).where(t.alerts.c.project_id == project_id)
    if only_open:
        statement = statement.where(t.alerts.c.closed.is_(None))
    return [_alert(row) for row in conn.execute(statement.order_by(t.alerts.c.id.desc()).limit(limit))]


def close_alert(tx: Tx, alert_id: int, at: int) -> None:
    tx.execute(update(t.alerts).where(t.alerts.c.id == alert_id).values(closed=at))


def _alert(row: Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        endpoint=row.endpoint,
        kind=row.kind,
        subject=row.subject,
        message=row.message,
        details=row.details,
        opened=row.opened,
        closed=row.closed,
    )
