from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

KNOWN: Final = "_known"
"""Column of every labels table: since when the truth is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """What a labels function needs and makes, as plain values.

    Attributes:
        of: the source that it is the truth of; ``key`` its key.
        target: the column of the truth; ``type`` its type.
        after_ms: how long after a row's moment the truth is waited for.
        tables: parameter -> source.
    """

    name: str
    entry: str
    of: str
    key: tuple[str, ...]
    target: str
    type: str
    after_ms: int
    tables: dict[str, str]

    def as_value(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "entry": self.entry,
            "of": self.of,
            "key": list(self.key),
            "target": self.target,
            "type": self.type,
            "after_ms": self.after_ms,
            "tables": self.tables,
        }

    @classmethod
    def of_value(cls, value: dict[str, Any]) -> LabelSpec:
        return cls(
            name=value["name"],
            entry=value["entry"],
            of=value["of"],
            key=tuple(value["key"]),
            target=value["target"],
            type=value["type"],
            after_ms=value["after_ms"],
            tables=value["tables"],
        )
