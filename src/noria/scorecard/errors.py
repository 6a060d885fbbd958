from __future__ import annotations

from collections.abc import Sequence

from noria.base.errors import Invalid


class SubjectUnclear(Invalid):
    """Several models serve, and none was named."""

    code = "subject_unclear"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"{len(names)} of them could be scored: {', '.join(names)}.",
            hint=f"noria scorecard {names[0]}",
            details={"names": list(names)},
        )
