"""What could not be imported, and how much was."""

from __future__ import annotations

from dataclasses import dataclass, field

from noria.data.errors import ContentLost
from noria.data.records import Lost


@dataclass(slots=True, kw_only=True)
class Report:
    files: int = 0
    read: int = 0
    lost: dict[tuple[str, str], Lost] = field(default_factory=dict[tuple[str, str], Lost])
    left: dict[tuple[str, str], Lost] = field(default_factory=dict[tuple[str, str], Lost])

    def lose(self, path: str, commit: str, why: str) -> None:
        self.lost.setdefault((path, why), Lost(path=path, commit=commit, why=why))

    def leave(self, path: str, commit: str, why: str) -> None:
        self.left.setdefault((path, why), Lost(path=path, commit=commit, why=why))

    def error(self) -> ContentLost:
        lost = [{"path": one.path, "commit": one.commit, "why": one.why} for one in self.lost.values()]
        hint = "dvc fetch --all-commits   brings contents from a remote; --skip-missing imports without them."
        return ContentLost(lost, hint)
