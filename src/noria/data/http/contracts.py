"""Routes of contracts and quarantine."""

from __future__ import annotations

from noria.base.errors import NotFound
from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.data.wire import contracts as c
from noria.http import Call, Route


class ContractsRoutes(Handlers):
    def quarantine(self, _: Call) -> w.QuarantinePage:
        return w.QuarantinePage([w.quarantined_out(q) for q in self._data.quarantine(self._project_id)])

    def _number(self, call: Call) -> int:
        text = call.path["id"]
        known = {str(q.id) for q in self._data.quarantine(self._project_id)}
        if text not in known:
            raise NotFound(f"There is no batch {text!r:.60} in quarantine.", hint="GET /v1/quarantine")
        return int(text)

    def quarantined(self, call: Call) -> w.QuarantinedDetail:
        query = call.query
        found, frame = self._data.quarantined(self._number(call))
        rows = frame.head(max(0, min(query.rows, 1_000)))
        return w.QuarantinedDetail(w.quarantined_out(found), w.rows_out(rows))

    def offer(self, call: Call) -> w.CommitOut:
        body: c.OfferBody = call.body
        how = {"actor": call.actor, "message": body.message, "key": call.key}
        return w.commit_out(self._data.offer(self._number(call), body.rows, **how))

    def drop(self, call: Call) -> w.QuarantinedOut:
        body: c.DropBody = call.body
        number = self._number(call)
        return w.quarantined_out(self._data.drop_quarantined(number, body.reason, actor=call.actor, once=call.once))

    def check(self, call: Call) -> c.CheckOut:
        body: c.CheckBody = call.body
        found = self._data.check_contract(self._repository(call), body.rows, ref=body.ref, contract=body.contract)
        return c.CheckOut(*found)

    def history(self, call: Call) -> c.ContractHistory:
        found = self._data.contract_history(self._repository(call))
        return c.ContractHistory([c.contract_record_out(one) for one in found])

    def contract(self, call: Call) -> w.ContractOut:
        found = next((one for one in self._data.contract_history(self._repository(call)) if one.in_force), None)
        return w.ContractOut(None, None) if found is None else w.ContractOut(found.number, found.spec)

    def set_contract(self, call: Call) -> c.ContractSetOut:
        body: c.ContractBody = call.body
        repository = self._repository(call)
        how = {"actor": call.actor, "strict": body.strict, "once": call.once}
        done = self._data.set_contract(repository, body.contract, **how)
        found = next(one for one in self._data.contract_history(repository) if one.number == done.number)
        return c.ContractSetOut(done.number, found.spec, done.commit, done.rows, done.findings)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = ContractsRoutes(data, project_id)
    return [
        Route(
            method="GET",
            path="/v1/quarantine",
            handler=r.quarantine,
            permission="data.read",
            summary="List batches that a contract refused.",
            answer=w.QuarantinePage,
            cli="noria data quarantine list",
        ),
        Route(
            method="GET",
            path="/v1/quarantine/{id}",
            handler=r.quarantined,
            permission="data.read",
            summary="Show the findings and the first rows of a refused batch.",
            query=w.QuarantineQuery,
            answer=w.QuarantinedDetail,
            cli="noria data quarantine show NUMBER",
        ),
        Route(
            method="POST",
            path="/v1/quarantine/{id}/offer",
            handler=r.offer,
            permission="data.write",
            summary="Commit a refused batch again, as it was or mended.",
            body=c.OfferBody,
            answer=w.CommitOut,
            max_body=64 << 20,
            cli="noria data quarantine offer NUMBER FILE",
        ),
        Route(
            method="POST",
            path="/v1/quarantine/{id}/drop",
            handler=r.drop,
            permission="data.write",
            summary="Say that a refused batch is not wanted.",
            body=c.DropBody,
            answer=w.QuarantinedOut,
            cli="noria data quarantine drop NUMBER",
        ),
        Route(
            method="POST",
            path=ONE + "/contract/check",
            handler=r.check,
            permission="data.read",
            summary="Check rows, or the table, against a contract; nothing is written.",
            body=c.CheckBody,
            answer=c.CheckOut,
            max_body=64 << 20,
            cli="noria data contract check NAME ROWS",
        ),
        Route(
            method="GET",
            path=ONE + "/contract/history",
            handler=r.history,
            permission="data.read",
            summary="List the contracts that a repository has had.",
            answer=c.ContractHistory,
            cli="noria data contract history NAME",
        ),
        Route(
            method="GET",
            path=ONE + "/contract",
            handler=r.contract,
            permission="data.read",
            summary="Show the contract in force.",
            answer=w.ContractOut,
            cli="noria data contract show NAME",
        ),
        Route(
            method="PUT",
            path=ONE + "/contract",
            handler=r.set_contract,
            permission="data.write",
            summary="Put a contract in force, and say what the head of main breaks of it.",
            body=c.ContractBody,
            answer=c.ContractSetOut,
            cli="noria data contract set NAME FILE",
        ),
    ]
