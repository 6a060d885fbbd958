"""Routes of contracts and quarantine."""

from __future__ import annotations

import msgspec

from noria.base.errors import NotFound
from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.http import Call, Route


class ContractsRoutes(Handlers):
    def quarantine(self, _: Call) -> w.QuarantinePage:
        return w.QuarantinePage([w.quarantined_out(q) for q in self._data.quarantine(self._project_id)])

    def quarantined(self, call: Call) -> w.QuarantinedDetail:
        text, query = call.path["id"], call.query
        known = {str(q.id) for q in self._data.quarantine(self._project_id)}
        if text not in known:
            raise NotFound(f"There is no batch {text!r:.60} in quarantine.", hint="GET /v1/quarantine")
        found, frame = self._data.quarantined(int(text))
        rows = frame.head(max(0, min(query.rows, 1_000)))
        return w.QuarantinedDetail(w.quarantined_out(found), w.rows_out(rows))

    def contract(self, call: Call) -> w.ContractOut:
        repository = self._repository(call)
        found = self._data.contract(repository)
        return w.ContractOut(repository.contract, None if found is None else msgspec.to_builtins(found))

    def set_contract(self, call: Call) -> w.ContractOut:
        repository = self._repository(call)
        number = self._data.set_contract(repository, call.body.contract, actor=call.actor, once=call.once)
        return w.ContractOut(number, msgspec.to_builtins(self._data.contract_at(repository, number)))


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
            summary="Put a contract in force.",
            body=w.ContractBody,
            answer=w.ContractOut,
            cli="noria data contract set NAME FILE",
        ),
    ]
