"""Routes of transfers. A client names a remote; which workspace that is was said at a command line, never by a client.

A repeated request sends only what is still missing, so no key is needed to make it safe.
"""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.data.service.transfer.verbs import Transfer
from noria.data.wire import transfer as w
from noria.http import Call, Route


class TransferRoutes(Handlers):
    def __init__(self, data: Data, project_id: ProjectId, transfer: Transfer) -> None:
        super().__init__(data, project_id)
        self._transfer = transfer

    def remotes(self, call: Call) -> w.RemotePage:
        return w.RemotePage([w.remote_out(remote) for remote in self._transfer.remotes(self._repository(call))])

    def push(self, call: Call) -> w.TransferredOut:
        body: w.PushBody = call.body
        how = {"branches": body.branches, "force_with_lease": body.force_with_lease}
        done = self._transfer.push(self._repository(call), body.remote, actor=call.actor, **how)
        return w.transferred_out(done)

    def pull(self, call: Call) -> w.TransferredOut:
        body: w.PullBody = call.body
        repository = self._repository(call)
        how = {"actor": call.actor, "branches": body.branches}
        if body.merge:
            done = self._transfer.pull_merged(repository, body.remote, strategy=body.strategy, **how)
        else:
            done = self._transfer.pull(repository, body.remote, **how)
        return w.transferred_out(done)

    def fetch(self, call: Call) -> w.TransferredOut:
        body: w.FetchBody = call.body
        how = {"branches": body.branches, "heads": False}
        return w.transferred_out(self._transfer.pull(self._repository(call), body.remote, actor=call.actor, **how))


def routes(data: Data, project_id: ProjectId, transfer: Transfer) -> list[Route]:
    r = TransferRoutes(data, project_id, transfer)
    return [
        Route(
            method="GET",
            path=ONE + "/remotes",
            handler=r.remotes,
            permission="data.read",
            summary="List the other workspaces that a repository knows.",
            answer=w.RemotePage,
            cli="noria data remote list NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/push",
            handler=r.push,
            permission="data.write",
            summary="Send what is new here to a remote that was added at a command line.",
            body=w.PushBody,
            answer=w.TransferredOut,
            cli="noria data push NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/pull",
            handler=r.pull,
            permission="data.write",
            summary="Bring what is new at a remote, and move the branches here.",
            body=w.PullBody,
            answer=w.TransferredOut,
            cli="noria data pull NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/fetch",
            handler=r.fetch,
            permission="data.write",
            summary="Bring what is new at a remote; branches here stay where they are.",
            body=w.FetchBody,
            answer=w.TransferredOut,
            cli="noria data fetch NAME",
        ),
    ]
