"""Which rows of which room need the content of the versions that they name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from noria.assets.versions import Holder
from noria.base.ids import VersionId

if TYPE_CHECKING:
    from sqlalchemy import Connection


def version_holders() -> list[Holder]:
    """A room whose rows name versions stands here."""
    columns = {"a commit": _commits, "a model": _models, "a deployment": _deployments}
    return [Holder(what=what, needs=_naming(column)) for what, column in columns.items()]


def _naming(column_of: Callable[[], Any]) -> Callable[[Connection, Collection[VersionId]], set[VersionId]]:
    def needs(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
        column = column_of()
        return {VersionId(found) for (found,) in conn.execute(select(column).where(column.in_(ids)))}

    return needs


def _commits() -> Any:
    from noria.data import tables

    return tables.commits.c.version_id


def _models() -> Any:
    from noria.registry import tables

    return tables.model_versions.c.version_id


def _deployments() -> Any:
    from noria.serving import tables

    return tables.deployments.c.version_id
