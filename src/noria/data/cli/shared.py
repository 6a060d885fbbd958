from __future__ import annotations

from typing import Any

import msgspec

from noria.data.records import Repository, RepositoryKind
from noria.data.wire import commit_out
from noria.terminal import Shell


def get(shell: Shell, name: str, kind: RepositoryKind | None = None) -> Repository:
    return shell.ws.files.get(shell.ws.project.id, name, kind)


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def say_commit(shell: Shell, repository: Repository, done: Any) -> None:
    parts = [f"{count} {what}" for what, count in done.stats.items() if count and what != "stored"]
    shell.emit(plain(commit_out(done)), f"{repository.name} {done.id[:12]}: {', '.join(parts) or 'nothing new'}.")
