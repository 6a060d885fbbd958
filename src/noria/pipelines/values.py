"""Values of versions: out of the store for a step, into the store after it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from noria.assets import StoreSessions
from noria.assets.records import Content, Version
from noria.assets.versions import layout_of
from noria.base import canonical
from noria.base.digest import Digest
from noria.data.rows import TableReader, TableWriter, load_layout
from noria.data.rows import schema as schemas
from noria.pipelines.errors import ResultInvalid
from noria.pipelines.execute import JSON, MODEL, TABLE, TREE, Output
from noria.pipelines.task import InputSpec
from noria.store import Kind, Writer, folders, tree

_KEEP_BYTES = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An output whose objects are in a writer: what a version is made of."""

    slot: str
    content: Content
    digest: Digest
    layout: Digest
    size: int
    rows: int | None
    meta: dict[str, Any]


class Values:
    """Reads and writes the values of one workspace."""

    def __init__(self, sessions: StoreSessions, reader: TableReader, writer: TableWriter, cache: Path) -> None:
        self._store = sessions.store
        self._reader = reader
        self._writer = writer
        self._cache = cache

    # ---- out

    def spec(self, slot: str, version: Version, *, files: bool) -> InputSpec:
        """An input for a task; with ``files``, materialised."""
        meta: dict[str, Any] = dict(version.meta)
        if version.content == Content.TABLE:
            schema = load_layout(self._store, layout_of(version)).schema
            meta |= {
                "key": list(schema.key),
                "time": schema.time,
                "known": schema.known_column,
                "columns": {column.name: column.type for column in schema.columns},
            }
        return InputSpec(
            slot=slot,
            asset=version.asset,
            kind=version.content.value,
            digest=str(version.digest),
            layout=str(layout_of(version)),
            path=str(self.materialise(version)) if files else "",
            meta=meta,
        )

    def load(self, spec: InputSpec) -> Any:
        """The value of an input, straight from the store; a table with its hidden columns."""
        return self.value(Content(spec.kind), Digest.parse(spec.layout))

    def value(self, content: Content, layout: Digest) -> Any:
        """A Polars frame, the path of a folder, or a plain value."""
        if content == Content.TABLE:
            return self._reader.read(load_layout(self._store, layout), hidden=True)
        if content == Content.JSON:
            return json.loads(self._store.get(layout, Kind.BLOB))
        return self._folder(layout)

    def materialise(self, version: Version) -> Path:
        """The value as a file or folder that a worker can read; made once for each content."""
        if version.content in (Content.TREE, Content.MODEL):
            return self._folder(layout_of(version))
        suffix = ".arrow" if version.content == Content.TABLE else ".json"
        target = self._cache / f"{layout_of(version).hex}{suffix}"
        if target.exists():
            os.utime(target)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
        os.close(handle)
        if version.content == Content.TABLE:
            self.value(version.content, version.layout).write_ipc(name)
        else:
            Path(name).write_bytes(self._store.get(version.layout, Kind.BLOB))
        self._store.faults.at("value.rename")
        Path(name).replace(target)
        return target

    def _folder(self, root: Digest) -> Path:
        target = self._cache / root.hex
        if target.is_dir():
            os.utime(target)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        self._store.faults.at("value.write")
        folders.write_folder(self._store, root, temporary)
        self._store.faults.at("value.rename")
        try:
            temporary.rename(target)
        except OSError:  # somebody else was first
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def trim(self) -> None:
        """Removes what was used longest ago when the cache of materialised values has grown beyond 4 GiB."""
        if not self._cache.is_dir():
            return
        found = sorted(self._cache.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for path in found:
            total += _size(path)
            if total > _KEEP_BYTES:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    # ---- in

    def store(self, writer: Writer, output: Output, *, known_us: int) -> Stored:
        """Puts an output into the store.

        Raises:
            ResultInvalid: it cannot be stored.
        """
        if output.kind == TABLE:
            return self._store_table(writer, output, known_us)
        if output.kind == JSON:
            try:
                digest, raw = canonical.digest(output.value), msgspec.json.encode(output.value)
            except (canonical.Invalid, TypeError, msgspec.MsgspecError) as error:
                raise ResultInvalid(f"The result is not plain JSON: {error}") from None
            blob = writer.put(Kind.BLOB, raw)
            return Stored(
                slot=output.slot,
                content=Content.JSON,
                digest=digest,
                layout=blob,
                size=len(raw),
                rows=None,
                meta=output.meta,
            )
        assert output.kind in (TREE, MODEL)
        root, size = self._store_folder(writer, Path(output.value))
        return Stored(
            slot=output.slot,
            content=Content(output.kind),
            digest=canonical.digest({"tree": root.hex}),
            layout=root,
            size=size,
            rows=None,
            meta=output.meta,
        )

    def _store_table(self, writer: Writer, output: Output, known_us: int) -> Stored:
        frame = output.value
        key, time = output.meta.get("key", []), output.meta.get("time")
        schema = schemas.infer(frame, key=key, time=time, known=output.meta.get("known"))
        done = self._writer.replace(writer, schema, frame, seq=1, known_us=known_us)
        columns = {column.name: column.type for column in schema.columns}
        return Stored(
            slot=output.slot,
            content=Content.TABLE,
            digest=done.layout.digest,
            layout=done.layout_id,
            size=done.layout.size,
            rows=done.layout.rows,
            meta={**output.meta, "columns": columns},
        )

    @staticmethod
    def _store_folder(writer: Writer, folder: Path) -> tuple[Digest, int]:
        if folder.is_file():
            entry, _ = folders.read_entry(writer, folder.parent, folder.name)
            return tree.build(writer, [entry]), entry.size
        root = folders.put_folder(writer, folder)
        return root, sum(found.st_size for _, found in folders.scan(folder))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.lstat().st_size for p in path.rglob("*"))
    return path.stat().st_size
