from __future__ import annotations

from typing import Any

import msgspec

from noria.data.records import Repository, RepositoryKind
from noria.data.wire import commit_out
from noria.data.wire.tables import RowsDiffOut
from noria.terminal import Shell


def get(shell: Shell, name: str, kind: RepositoryKind | None = None) -> Repository:
    return shell.ws.files.get(shell.ws.project.id, name, kind)


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def say_commit(shell: Shell, repository: Repository, done: Any) -> None:
    parts = [f"{count} {what}" for what, count in done.stats.items() if count and what not in ("stored", "folded")]
    shell.emit(plain(commit_out(done)), f"{repository.name} {done.id[:12]}: {', '.join(parts) or 'nothing new'}.")


def say_rows_diff(shell: Shell, out: RowsDiffOut) -> None:
    """A difference of tables for people: columns, numbers, and the first rows of each kind."""
    schema = out.schema
    if schema is not None:
        for name, kind in schema.added.items():
            shell.say(f"column {name} ({kind}) added")
        for name, kind in schema.removed.items():
            shell.say(f"column {name} ({kind}) removed")
        for renamed in schema.renamed:
            shell.say(f"column {renamed.before} renamed to {renamed.after}")
        for retyped in schema.retyped:
            shell.say(f"column {retyped.column}: {retyped.before} -> {retyped.after}")
        if schema.key:
            shell.say(f"key: {', '.join(schema.key[0]) or 'none'} -> {', '.join(schema.key[1]) or 'none'}")
    for kind, count in (("added", out.added), ("removed", out.removed), ("changed", out.changed)):
        shell.say(f"{count} {kind}")
        rows = out.samples.get(kind, [])
        if rows and kind != "changed":
            shell.table(list(rows[0]), [list(row.values()) for row in rows])
    if out.changes:
        key = list(out.changes[0].key)
        lines = [
            [*change.key.values(), column, before, after]
            for change in out.changes
            for column, (before, after) in change.columns.items()
        ]
        shell.table([*key, "column", "before", "after"], lines)
