from __future__ import annotations

from dataclasses import dataclass

from noria.base.ids import CommitId


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineHead:
    """Up to which commit of a table the online store holds one use."""

    use_id: str
    table: str
    commit: CommitId | None
    generation: int
    rows: int
