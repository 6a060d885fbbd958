"""Which rows of which room need the content of the versions that they name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from noria.assets.versions import Holder
from noria.base.ids import ProjectId, RunId, VersionId

if TYPE_CHECKING:
    from sqlalchemy import Connection


def version_holders() -> list[Holder]:
    """A room whose rows name versions stands here."""
    columns = {"a commit": _commits, "a deployment": _deployments}
    named = [Holder(what=what, needs=_naming(column)) for what, column in columns.items()]
    return [*named, Holder(what="a model", needs=_models), Holder(what="a logged model", needs=_logged_models)]


def _naming(column_of: Callable[[], Any]) -> Callable[[Connection, Collection[VersionId]], set[VersionId]]:
    def needs(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
        column = column_of()
        return {VersionId(found) for (found,) in conn.execute(select(column).where(column.in_(ids)))}

    return needs


def _commits() -> Any:
    from noria.data import tables

    return tables.commits.c.version_id


def _models(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
    from noria.registry import tables

    c = tables.model_versions.c
    found = conn.execute(select(c.version_id).where(c.version_id.in_(ids), c.deleted_at.is_(None)))
    return {VersionId(one) for (one,) in found}


def _logged_models(conn: Connection, ids: Collection[VersionId]) -> set[VersionId]:
    from noria.tracking import tables

    c = tables.logged_models.c
    found = conn.execute(select(c.version_id).where(c.version_id.in_(ids), ~c.deleted))
    return {VersionId(one) for (one,) in found}


def _deployments() -> Any:
    from noria.serving import tables

    return tables.deployments.c.version_id


def model_users() -> list[Callable[[Connection, ProjectId, str, int | None], str | None]]:
    """Which rooms rely on names of models and their versions."""
    return [_endpoints]


def _endpoints(conn: Connection, project_id: ProjectId, name: str, number: int | None) -> str | None:
    from noria.serving import queries

    found = queries.serves_model(conn, project_id, name, number)
    return None if found is None else f"the endpoint {found!r}"


def loaded_from(conn: Connection, runs: Sequence[RunId], logged_models: Sequence[str]) -> tuple[set[RunId], set[str]]:
    """Those runs and logged models whose files a registered model is loaded from."""
    from noria.registry.tables import model_versions

    c = model_versions.c
    there = c.deleted_at.is_(None)
    by_run = select(c.run_id).where(there, c.run_id.in_(list(runs)))
    by_model = select(c.logged_model).where(there, c.logged_model.in_(list(logged_models)))
    return {RunId(id) for id in conn.execute(by_run).scalars()}, set(conn.execute(by_model).scalars())
