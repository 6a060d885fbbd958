from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from noria.base.ids import ProjectId
from noria.webhooks import tables as t
from noria.webhooks.records import Webhook

_C = t.webhooks.c


def webhook(conn: Connection, project_id: ProjectId, id: str) -> Webhook | None:
    row = conn.execute(select(t.webhooks).where(_C.id == id, _C.project_id == project_id)).one_or_none()
    return None if row is None else _webhook(row)


def newest(conn: Connection, project_id: ProjectId, limit: int, before: int | None) -> list[Webhook]:
    found = select(t.webhooks).where(_C.project_id == project_id).order_by(_C.no.desc()).limit(limit)
    if before is not None:
        found = found.where(_C.no < before)
    return [_webhook(row) for row in conn.execute(found)]


def count(conn: Connection, project_id: ProjectId) -> int:
    where = _C.project_id == project_id
    return int(conn.execute(select(func.count()).select_from(t.webhooks).where(where)).scalar_one())


def hearing(conn: Connection, project_id: ProjectId, kind: str) -> list[str]:
    """The ids of the active webhooks that hear of a type of event; a project has a hundred webhooks at most."""
    found = select(_C.id, _C.kinds).where(_C.project_id == project_id, _C.active).order_by(_C.no)
    return [row.id for row in conn.execute(found) if kind in row.kinds]


def anybody_hears(conn: Connection, project_id: ProjectId, kind: str) -> bool:
    """Whether an active webhook hears of a type of event; asked with each such event, so that none leaves a row."""
    return bool(hearing(conn, project_id, kind))


def ids(conn: Connection, project_id: ProjectId) -> list[str]:
    return list(conn.execute(select(_C.id).where(_C.project_id == project_id).order_by(_C.no)).scalars())


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        no=row.no,
        id=row.id,
        project_id=ProjectId(row.project_id),
        name=row.name,
        url=row.url,
        events=tuple(row.events),
        kinds=tuple(row.kinds),
        description=row.description,
        active=row.active,
        created_at=row.created_at,
        updated_at=row.updated_at,
        sent=row.sent,
        failed=row.failed,
        last_at=row.last_at,
        last_status=row.last_status,
        last_error=row.last_error,
        secret=row.secret,
    )
