"""MLflow's calls about artifacts: the proxy that clients put files through, and the lists and downloads beside it."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import multipart
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.bodies import Body
from noria.gateways.mlflow.errors import NotImplementedHere, Required
from noria.gateways.mlflow.places import by_python, path_of, shown_to_python
from noria.gateways.mlflow.proxy import Proxy
from noria.gateways.mlflow.routes import Asked, Route
from noria.http.content import Content, respond
from noria.tracking.records import Artifact, ArtifactEntry, Owner, OwnerKind
from noria.tracking.service import Receiving

_LISTED: Final = 10_000
_PAGE: Final = 1_000
_UPLOADED: Final = 10 << 20


class FileInfo(w.Out):
    path: str
    is_dir: bool
    file_size: int | None = None


class ListArtifacts(w.In):
    run_id: str | None = None
    run_uuid: str | None = None
    path: str | None = None
    page_token: str | None = None


class PresignUpload(w.In):
    run_id: str | None = None
    model_id: str | None = None
    path: str | None = None
    expiration: int | None = None


class ArtifactCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door, proxy: Proxy | None = None) -> None:
        self._door = door
        self._proxy = proxy or Proxy(door)
        self._tracking = door.ws.tracking
        self._project_id = door.project_id

    # ---- the proxy

    async def put(self, asked: Asked) -> None:
        body = Body(asked)
        owner, path = await self._proxy.before(body, self._proxy.file, asked)
        await self._proxy.receive(body, lambda file: self._keep(file, owner, path))

    def _keep(self, file: Receiving, owner: Owner, path: str) -> Artifact:
        return file.keep(owner, path, self._project_id, self._door.commit)

    def get(self, asked: Asked) -> Response:
        owner, path = self._proxy.file(asked)
        return self.sent(asked, owner, self._proxy.meant(asked, owner, path))

    def sent(self, asked: Asked, owner: Owner, path: str) -> Response:
        """A file as an attachment, whole or the range that was asked for."""
        found = self._tracking.artifact(owner, path)
        name = path.rpartition("/")[2]
        content = Content(size=found.size, etag=found.content, open=partial(self._tracking.open_artifact, found))
        headers = {"x-content-type-options": "nosniff", "cache-control": "no-cache"}
        answer = respond(content, Request(asked.scope, asked.receive), headers)
        if answer.status_code in (200, 206):
            answer.headers["content-type"] = _type_of(name)
            answer.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return answer

    def delete(self, asked: Asked) -> None:
        owner, path = self._proxy.place(path_of(asked))
        path = self._proxy.meant(asked, owner, path)
        self._tracking.delete_artifacts(owner, path, project_id=self._project_id, actor=asked.actor)

    def list(self, asked: Asked) -> Any:
        """All of one folder: this call of MLflow's has no pages, so they are made while they are sent."""
        owner, folder = self._proxy.place(asked.query.get("path", [""])[-1])
        to_python = by_python(asked)
        folder = self._proxy.meant(asked, owner, folder)

        def shown(found: list[ArtifactEntry]) -> list[FileInfo]:
            names = [one.path.rpartition("/")[2] for one in found]
            if to_python:
                names = [shown_to_python(name) for name in names]
            return [_info(one, name) for one, name in zip(found, names, strict=True)]

        page = self._tracking.list_artifacts(owner, folder)
        if page.next is None:
            found = shown(page.items)
            return {"files": found} if found else {}

        def pages() -> Iterator[bytes]:
            at, before = page, b'{"files":['
            while True:
                body = msgspec.json.encode(shown(at.items))[1:-1]
                if body:
                    yield before + body
                    before = b","
                if at.next is None:
                    break
                at = self._tracking.list_artifacts(owner, folder, after=at.next)
            yield (before if before != b"," else b"") + b"]}"

        return StreamingResponse(pages(), media_type="application/json")

    def presigned(self, asked: Asked) -> None:
        self._proxy.file(asked)
        raise NotImplementedHere(
            "Multipart download is not supported for the current artifact repository.", hint="Download it as it is."
        )

    # ---- beside it

    def list_of_run(self, asked: Asked) -> w.Json:
        message: ListArtifacts = asked.message
        run_id = d.run_id_of(message.run_id, message.run_uuid)
        self._door.run(run_id)
        owner, folder = Owner(OwnerKind.RUN, run_id), (message.path or "").removesuffix("/")
        found: list[ArtifactEntry] = []
        following = message.page_token or None
        while len(found) < _LISTED:
            page = self._tracking.list_artifacts(owner, folder, limit=_PAGE, after=following)
            found += page.items
            following = page.next
            if following is None:
                break
        answer: w.Json = {"root_uri": self._root_of(run_id)}
        if found:
            answer["files"] = [_info(one, one.path) for one in found]
        if following is not None:
            answer["next_page_token"] = following
        return answer

    def _root_of(self, run_id: RunId) -> str:
        tracked = self._tracking.tracked(run_id)
        experiment = self._door.experiment(0 if tracked is None else tracked.experiment_id)
        return d.location_of_run(experiment, run_id, self._tracking.location(run_id))

    def get_of_run(self, asked: Asked) -> Response:
        owner, path = self._of_run(asked)
        return self.sent(asked, owner, path)

    def _of_run(self, asked: Asked) -> tuple[Owner, str]:
        query = {key: values[-1] for key, values in asked.query.items()}
        run_id = d.run_id_of(query.get("run_id"), query.get("run_uuid"))
        path = d.need(query.get("path"), "path")
        self._door.run(run_id)
        return Owner(OwnerKind.RUN, run_id), path

    async def upload(self, asked: Asked) -> None:
        """A small file from the page of a run."""
        body = Body(asked)
        owner, path = await self._proxy.before(body, self._of_run, asked)
        data = await body.read(_UPLOADED + 1)
        if len(data) > _UPLOADED:
            await body.drain()
            raise Invalid("Artifact size is too large. Max size is 10MB.", hint="Use the client for larger files.")
        if not data:
            raise Required("data")

        def put(file: Receiving) -> Artifact:
            file.add(data)
            return self._keep(file, owner, path)

        await self._proxy.stored(put)

    def presign_upload(self, asked: Asked) -> None:
        message: PresignUpload = asked.message
        if bool(message.run_id) == bool(message.model_id):
            raise Invalid("Exactly one of run_id and model_id must be provided.")
        kind = OwnerKind.RUN if message.run_id else OwnerKind.MODEL
        self._refuse_presigned("upload", Owner(kind, message.run_id or message.model_id or ""), message.path)

    def presign_download(self, asked: Asked) -> None:
        message: PresignUpload = asked.message
        run_id = d.need(message.run_id, "run_id")
        if message.expiration is not None and not 1 <= message.expiration <= 604_800:
            raise Invalid(f"expiration must be between 1 and 604800 seconds (got {message.expiration}).")
        self._refuse_presigned("download", Owner(OwnerKind.RUN, run_id), message.path)

    def _refuse_presigned(self, what: str, owner: Owner, path: str | None) -> None:
        d.need(path, "path")
        self._door.check_owner(owner)
        raise Invalid(
            f"Presigned {what} is not supported for proxied artifact storage (artifact URI scheme: mlflow-artifacts).",
            hint="Send it through the server.",
        )


def _info(entry: ArtifactEntry, path: str) -> FileInfo:
    return FileInfo(path, entry.is_folder, entry.size or None)


def _type_of(name: str) -> str:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return "text/plain; charset=utf-8" if kind.startswith("text/") else kind


def routes(door: d.Door) -> list[Route]:
    shared = Proxy(door)
    c = ArtifactCalls(door, shared)
    proxy, of = "2.0/mlflow-artifacts/", "2.0/mlflow/artifacts/"
    return [
        Route(method="GET", path=proxy + "artifacts", handler=c.list),
        Route(method="GET", path=proxy + "artifacts/{path:path}", handler=c.get, raw=True),
        Route(method="PUT", path=proxy + "artifacts/{path:path}", handler=c.put, raw=True),
        Route(method="DELETE", path=proxy + "artifacts/{path:path}", handler=c.delete),
        Route(method="GET", path=proxy + "presigned/{path:path}", handler=c.presigned),
        Route(method="GET", path=of + "list", handler=c.list_of_run, message=ListArtifacts),
        Route(method="POST", path=of + "presigned-upload-url", handler=c.presign_upload, message=PresignUpload),
        Route(method="POST", path=of + "presigned-download-url", handler=c.presign_download, message=PresignUpload),
        Route(method="GET", path="/get-artifact", handler=c.get_of_run),
        Route(method="POST", path="2.0/mlflow/upload-artifact", handler=c.upload, raw=True),
        *multipart.routes(door, shared),
    ]
