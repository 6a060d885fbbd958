"""Routes of what an administrator does, and of the processes that answer."""

from __future__ import annotations

from typing import Final

from noria.base.errors import Invalid
from noria.base.times import duration_text, parse_duration, to_text
from noria.data.wire.care import GcBody, GcOut, collected_out
from noria.http import Call, Route
from noria.server import wire as w
from noria.workspace import Workspace

_LONGEST_WAIT: Final = 60.0
"""Seconds that a request waits for writers."""


class AdminRoutes:
    """Handlers; each is one verb."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    def audit(self, call: Call) -> w.AuditPage:
        query: w.AuditQuery = call.query
        page = self._ws.audit.list(self._ws.project.id, limit=query.limit, after=query.after)
        made = [w.AuditOut(e.seq, to_text(e.at), e.actor, e.verb, e.subject, e.detail) for e in page.items]
        return w.AuditPage(made, page.next)

    def audit_verify(self, _: Call) -> w.Faults:
        return w.Faults(self._ws.audit.verify(self._ws.project.id))

    def verify(self, call: Call) -> w.Faults:
        return w.Faults(self._ws.verify(data=call.query.data))

    def gc(self, call: Call) -> GcOut:
        body: GcBody = call.body
        if not 0 <= body.wait <= _LONGEST_WAIT:
            raise Invalid(f"{body.wait} seconds is not a time to wait for writers.", hint="Write a number up to 60.")
        return collected_out(
            self._ws.care.collect(dry_run=body.dry_run, wait=body.wait, actor=call.actor, once=call.once)
        )

    def retention(self, _: Call) -> w.RetentionOut:
        found = self._ws.retention.settings(self._ws.project.id)
        return w.RetentionOut({name: duration_text(ms) for name, ms in sorted(found.items())})

    def set_retention(self, call: Call) -> w.RetentionOut:
        ws, what, keep = self._ws, call.path["what"], call.body.keep
        with ws.changes.begin("admin.retention", ws.project.id, call.actor, once=call.once) as change:
            if change.earlier is not None:
                return w.RetentionOut(change.earlier)
            ws.retention.set(change.tx, ws.project.id, what, parse_duration(keep))
            change.note(what, keep=keep)
            kept = ws.retention.settings(ws.project.id, change.tx)
            answer = {name: duration_text(ms) for name, ms in sorted(kept.items())}
            change.answer(answer)
        return w.RetentionOut(answer)

    def quotas(self, _: Call) -> w.Quotas:
        found = self._ws.tracking.quotas(self._ws.project.id)
        return w.Quotas({what: w.QuotaOut(most, used) for what, (most, used) in found.items()})

    def set_quota(self, call: Call) -> w.Quotas:
        ws = self._ws
        ws.tracking.set_quota(ws.project.id, call.path["what"], call.body.most, actor=call.actor, once=call.once)
        return self.quotas(call)


def routes(ws: Workspace) -> list[Route]:
    r = AdminRoutes(ws)
    return [
        Route(
            method="GET",
            path="/v1/admin/audit",
            handler=r.audit,
            permission="admin.read",
            summary="List who changed what, newest first.",
            query=w.AuditQuery,
            answer=w.AuditPage,
            cli="noria admin audit",
        ),
        Route(
            method="GET",
            path="/v1/admin/audit/verify",
            handler=r.audit_verify,
            permission="admin.read",
            summary="Check the hash chain of the audit log.",
            answer=w.Faults,
            cli="noria admin audit --verify",
        ),
        Route(
            method="GET",
            path="/v1/admin/verify",
            handler=r.verify,
            permission="admin.read",
            summary="Check that every row has its objects; with data, read and hash every byte.",
            query=w.VerifyQuery,
            answer=w.Faults,
            cli="noria admin verify",
        ),
        Route(
            method="POST",
            path="/v1/admin/gc",
            handler=r.gc,
            permission="admin.write",
            summary="Remove stored bytes that nothing needs; a dry run first, which is the default.",
            body=GcBody,
            answer=GcOut,
            cli="noria data gc",
        ),
        Route(
            method="GET",
            path="/v1/admin/retention",
            handler=r.retention,
            permission="admin.read",
            summary="Show how long records are kept.",
            answer=w.RetentionOut,
            cli="noria admin retention",
        ),
        Route(
            method="PUT",
            path="/v1/admin/retention/{what}",
            handler=r.set_retention,
            permission="admin.write",
            summary="Set how long one kind of record is kept.",
            body=w.RetentionBody,
            answer=w.RetentionOut,
            cli="noria admin retention WHAT KEEP",
        ),
        Route(
            method="GET",
            path="/v1/admin/quota",
            handler=r.quotas,
            permission="admin.read",
            summary="Show how much this project may hold, and holds.",
            answer=w.Quotas,
            cli="noria admin quota",
        ),
        Route(
            method="PUT",
            path="/v1/admin/quota/{what}",
            handler=r.set_quota,
            permission="admin.write",
            summary="Set how much of one kind this project may hold; null: as much as there is.",
            body=w.QuotaBody,
            answer=w.Quotas,
            cli="noria admin quota WHAT MOST",
        ),
    ]
