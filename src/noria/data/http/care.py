"""Routes of what keeps a store healthy: delete, storage, check, repair."""

from __future__ import annotations

from typing import Final

from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.data.service.care.care import Care
from noria.data.wire import care as w
from noria.http import Call, Route

_LONGEST_WAIT: Final = 60.0
"""Seconds that a request waits for writers."""


class CareRoutes(Handlers):
    def __init__(self, data: Data, care: Care, project_id: ProjectId) -> None:
        super().__init__(data, project_id)
        self._care = care

    def delete(self, call: Call) -> w.DeletedOut:
        query: w.DeleteQuery = call.query
        earlier = self._data.deleted(self._project_id, call.path["name"], call.once)
        if earlier is None:
            repository = self._repository(call)
            earlier = self._data.delete(repository, actor=call.actor, force=query.force, once=call.once)
        return w.deleted_out(earlier)

    def storage(self, _: Call) -> w.StorageOut:
        return w.storage_out(self._care.storage())

    def storage_of_commits(self, call: Call) -> w.StorageOut:
        return w.storage_out(self._care.storage_of_commits(self._repository(call)))

    def check(self, call: Call) -> w.CheckedOut:
        query: w.CheckQuery = call.query
        name = query.repository
        repository = None if name is None else self._data.get(self._project_id, name)
        return w.checked_out(self._care.check(repository, full=query.full))

    def purge(self, call: Call) -> w.ErasedOut:
        body: w.PurgeBody = call.body
        if not 0 <= body.wait <= _LONGEST_WAIT:
            raise Invalid(f"{body.wait} seconds is not a time to wait for writers.", hint="Write a number up to 60.")
        repository, what = self._repository(call), w.erase_of(body)
        if body.dry_run:
            return w.erased_out(self._care.look(repository, what))
        how = {"reason": body.reason, "wait": body.wait}
        return w.erased_out(self._care.purge(repository, what, actor=call.actor, once=call.once, **how))

    def erasures(self, _: Call) -> w.ErasureList:
        return w.erasures_out(self._care.erasures())

    def repair(self, call: Call) -> w.RepairedOut:
        return w.repaired_out(self._care.repair(actor=call.actor, once=call.once))


def routes(data: Data, care: Care, project_id: ProjectId) -> list[Route]:
    r = CareRoutes(data, care, project_id)
    return [
        Route(
            method="DELETE",
            path=ONE,
            handler=r.delete,
            permission="data.write",
            summary="Delete a repository; its name stays in the lineage.",
            query=w.DeleteQuery,
            answer=w.DeletedOut,
            cli="noria data delete NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/purge",
            handler=r.purge,
            permission="data.write",
            summary="Erase paths or rows from all history; a dry run first, which is the default.",
            body=w.PurgeBody,
            answer=w.ErasedOut,
            cli="noria data purge NAME",
        ),
        Route(
            method="GET",
            path="/v1/admin/erasures",
            handler=r.erasures,
            permission="admin.read",
            summary="List what was erased, when, by whom and why; never what it held.",
            answer=w.ErasureList,
            cli="noria data erasures",
        ),
        Route(
            method="GET",
            path=ONE + "/storage",
            handler=r.storage_of_commits,
            permission="data.read",
            summary="Show what each commit needs of the store, newest first.",
            answer=w.StorageOut,
            cli="noria data storage NAME",
        ),
        Route(
            method="GET",
            path="/v1/admin/storage",
            handler=r.storage,
            permission="admin.read",
            summary="Show what each repository needs of the store.",
            answer=w.StorageOut,
            cli="noria data storage",
        ),
        Route(
            method="GET",
            path="/v1/admin/check",
            handler=r.check,
            permission="admin.read",
            summary="Check that every row has its bytes; names what uses a damaged object.",
            query=w.CheckQuery,
            answer=w.CheckedOut,
            cli="noria data check",
        ),
        Route(
            method="POST",
            path="/v1/admin/repair",
            handler=r.repair,
            permission="admin.write",
            summary="Heal what can be healed, set damaged packs aside.",
            answer=w.RepairedOut,
            cli="noria data repair",
        ),
    ]
