"""What planning and running share: graphs, manifests, sources, code snapshots."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.assets import Assets, Changes, EvidenceLog, StoreSessions
from noria.assets.records import AssetKind, Content, Version
from noria.base import canonical
from noria.base.clock import Clock
from noria.base.errors import Invalid, NotFound
from noria.base.faults import Faults
from noria.base.ids import ProjectId, VersionId
from noria.data import Collector, Data
from noria.data.records import MAIN, RepositoryKind
from noria.data.service.collecting.collector import SourceSpec
from noria.db import Database
from noria.pipelines import graph as graphs
from noria.pipelines import queries, snapshot
from noria.pipelines.declare.assets import Secret, Source
from noria.pipelines.doors import StepDoor
from noria.pipelines.errors import CodeBroken
from noria.pipelines.executors import SideWorker
from noria.pipelines.graph import Graph, Node
from noria.pipelines.identity import Identifier, Manifest, libs
from noria.pipelines.identity.values import OpaqueError, describe
from noria.pipelines.kinds import StepKinds
from noria.pipelines.values import Values
from noria.project import ProjectFile
from noria.store import Kind
from noria.tracking import Tracking

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(slots=True, kw_only=True)
class Services:
    """What the room stands on.

    Attributes:
        source: the project's file, or None where there is none.
        secret: the value of a secret by its name.
        door: where foreign clients in steps log to their own run.
    """

    db: Database
    project_id: ProjectId
    assets: Assets
    changes: Changes
    sessions: StoreSessions
    evidence: EvidenceLog
    data: Data
    collector: Collector
    tracking: Tracking
    clock: Clock
    faults: Faults
    home: Path
    source: ProjectFile | None
    kinds: StepKinds
    environment: Mapping[str, str]
    worker: SideWorker
    secret: Callable[[str], str | None]
    door: StepDoor


@dataclass(slots=True)
class Resolved:
    """The versions of an asset that a step may use: output slot -> version."""

    outputs: dict[str, Version]
    changing: bool = False
    """True where the asset will be made anew first, so that its version is not known yet."""


@dataclass(slots=True, kw_only=True)
class CodeVersions:
    """The code snapshot and environment of a pipeline run."""

    code: Version | None
    environment: Version
    path: str = ""
    links: dict[str, VersionId] = field(default_factory=dict[str, VersionId])


class PipelineBase:
    def __init__(self, services: Services) -> None:
        self._s = services
        self._db = services.db
        self.values = Values(
            services.sessions, services.data.reader, services.data.writer, services.home / "cache" / "values"
        )
        self._code_state: tuple[str, Version] | None = None
        self._environment: Version | None = None

    @property
    def root(self) -> Path:
        return self._s.source.root if self._s.source is not None else self._s.home.parent

    @cached_property
    def identifier(self) -> Identifier:
        return Identifier(self.root)

    # ---- graphs

    def graph(self, things: Iterable[Any] = ()) -> Graph:
        """The project's graph: its modules, and whatever stands beside the things given (a notebook's cells)."""
        modules = graphs.import_modules(self.root, self._s.source.modules if self._s.source else ())
        spaces: list[dict[str, Any]] = [m.__dict__ for m in modules]
        names = {m.__name__ for m in modules}
        extra: list[Any] = []
        for thing in things:
            space = getattr(thing, "__globals__", None)
            if space is not None and thing.__module__ not in names:
                spaces.append(space)
            elif not isinstance(thing, str) and space is None:
                extra.append(thing)
        return graphs.build([*graphs.collect(spaces), *(t for t in extra if not _in(t, spaces))])

    def targets(self, graph: Graph, wanted: Iterable[Any]) -> list[str]:
        """Names of the assets asked for; all of them where none is."""
        names = [graph.name_of(thing) for thing in wanted]
        return names or list(graph.nodes)

    # ---- sources

    def source_spec(self, source: Source) -> SourceSpec:
        """Where a source's rows come from, secrets looked up."""
        url = source.url
        if isinstance(url, Secret):
            found = self._s.secret(url.name)
            if found is None:
                raise NotFound(
                    f"The source {source.name!r} needs the secret {url.name!r}, which is not set.",
                    hint=f"export {url.name}=...",
                )
            url = found
        return SourceSpec(files=source.files, sql=source.sql, url=url, watermark=source.watermark)

    def ensure_source(self, source: Source) -> Any:
        """The repository of a source, made as it is declared."""
        kind = RepositoryKind.FILES if source.folder else RepositoryKind.TABLE
        return self._s.data.ensure(
            self._s.project_id,
            source.name,
            kind,
            actor=self._actor(),
            key=source.key,
            time=source.time,
            known=source.known,
            asset_kind=AssetKind.SOURCE,
        )

    def _actor(self) -> Any:
        from noria.base.actor import SYSTEM

        return SYSTEM

    def source_version(self, source: Source, pinned: str | None) -> Version | None:
        """The version that a source stands at; None while its repository is empty."""
        repository = self._s.data.find(self._s.project_id, source.name)
        if repository is None:
            return None
        ref = pinned or source.pinned or MAIN
        commit = self._s.data.head(repository, ref) if ref == MAIN else self._s.data.resolve(repository, ref)
        return None if commit is None else self._s.assets.version(commit.version_id)

    # ---- identity

    def manifest(self, graph: Graph, node: Node, params: dict[str, Any], inputs: dict[str, Version]) -> Manifest:
        """The identity of a step with these parameters and inputs."""
        kind = self._s.kinds[node.kind]
        parts: dict[str, str] = {"env:noria": f"{node.kind}:{kind.version}"}
        base = Manifest({}, ())
        if node.declaration is not None:
            deps = [*node.declaration.deps, *kind.code(node)]
            base = self.identifier.code(node.thing, deps)
            if node.declaration.version is not None:
                parts["declared:version"] = node.declaration.version
        ignored = node.declaration.ignore if node.declaration is not None else ()
        for name, value in params.items():
            if name not in ignored:
                parts[f"param:{name}"] = _described(node.name, name, value)
        for slot, version in inputs.items():
            parts[f"input:{slot}"] = str(version.digest)
        spec = kind.spec(node, graph)
        for name, value in spec.items():
            parts[f"spec:{name}"] = _described(node.name, name, value)
        return base.with_parts(**parts)

    def usable(self, found: queries.Cached, conn: Connection) -> dict[str, Version] | None:
        """The versions of a cached step, if every one is still there (existence; digests are checked on reading)."""
        versions = self._s.assets.versions_by_ids(found.outputs.values(), conn)
        made = {slot: versions[v] for slot, v in found.outputs.items() if v in versions and not versions[v].gone}
        store = self._s.sessions.store
        whole = len(made) == len(found.outputs) and all(store.has(v.layout) for v in made.values())
        return made if whole else None

    def reset_code(self) -> None:
        """Forgets imported project modules, so that edited files are imported anew."""
        for name in list(self._s.source.modules if self._s.source else ()):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    # ---- code and environment

    def code_version(self) -> Version | None:
        """The code snapshot of the project as it is now; None where it has no folder of its own."""
        if self._s.source is None:
            return None
        code = snapshot.look(self.root)
        if self._code_state is not None and self._code_state[0] == code.state:
            return self._code_state[1]
        with self._s.sessions.writer() as writer:
            root = snapshot.put(writer, self.root, code)
            packs = writer.flush()
            with self._db.write() as tx:
                self._s.sessions.seal(tx, packs)
                asset = self._s.assets.define(tx, self._s.project_id, "code", AssetKind.CODE)
                version = self._s.assets.add_version(
                    tx,
                    asset.id,
                    digest=canonical.digest({"tree": root.hex}),
                    content=Content.TREE,
                    layout=root,
                    size=code.size,
                    meta={"files": len(code.paths), "git": code.git},
                )
                self._s.assets.set_current(tx, asset.id, version.id)
        self._code_state = (code.state, version)
        return version

    def environment_version(self) -> Version:
        """The installed distributions with their versions."""
        if self._environment is not None:
            return self._environment
        value = {"python": libs.python_version(), "distributions": libs.installed()}
        with self._s.sessions.writer() as writer:
            raw = canonical.encode(value)
            blob = writer.put(Kind.BLOB, raw)
            packs = writer.flush()
            with self._db.write() as tx:
                self._s.sessions.seal(tx, packs)
                asset = self._s.assets.define(tx, self._s.project_id, "environment", AssetKind.CODE)
                self._environment = self._s.assets.add_version(
                    tx, asset.id, digest=canonical.digest(value), content=Content.JSON, layout=blob, size=len(raw)
                )
        return self._environment


def _described(step: str, name: str, value: Any) -> str:
    try:
        return describe(value)
    except OpaqueError as error:
        raise Invalid(
            f"The hyperparameter {name!r} of {step!r} is a {error}, which has no fixed form.",
            hint="Hyperparameters are numbers, texts, lists and dictionaries.",
        ) from None


def _in(thing: Any, spaces: list[dict[str, Any]]) -> bool:
    return any(value is thing for space in spaces for value in list(space.values()))


@lru_cache(maxsize=64)
def entry_in_process(entry: str) -> Any:
    """The thing that an entry names, in the modules that are imported here."""
    module, _, path = entry.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise CodeBroken(f"{entry!r} is not to be found.")
    return found
