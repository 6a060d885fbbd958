from __future__ import annotations

from collections.abc import Sequence

from noria.assets.records import RunState
from noria.base.errors import Conflict, Invalid, NotFound, Unavailable


class ProjectNotFound(NotFound):
    """There is no such project."""

    code = "project_not_found"


class AssetNotFound(NotFound):
    """There is no asset of this name."""

    code = "asset_not_found"


class VersionNotFound(NotFound):
    """There is no such version."""

    code = "version_not_found"


class RunNotFound(NotFound):
    """There is no such run."""

    code = "run_not_found"


class AssetKindTaken(Conflict):
    """The name belongs to an asset of another kind."""

    code = "asset_kind_taken"


class RunMove(Conflict):
    """A run cannot go from its state to the one asked for."""

    code = "run_move"

    def __init__(self, run_id: str, before: RunState, after: RunState) -> None:
        super().__init__(
            f"The run {run_id} is {before.value} and cannot become {after.value}.",
            hint=f"noria runs show {run_id}",
            details={"run_id": run_id, "from": before.value, "to": after.value},
        )


class RunFenced(Conflict):
    """A process that had lost its lease tried to finish a run."""

    code = "run_fenced"


class KeyReused(Conflict):
    """An idempotency key came back with another request."""

    code = "idempotency_key_reused"


class SessionBroken(Unavailable):
    """Garbage collection took this writer for dead."""

    code = "session_broken"

    def __init__(self) -> None:
        super().__init__(
            "This process was silent for so long that its write session was closed; nothing was changed.",
            hint="Repeat the command.",
        )


class ClockBackwards(Invalid):
    """Event time only goes forward."""

    code = "clock_backwards"


class StoreDamaged(Conflict):
    """Something that is needed cannot be read, so nothing is removed."""

    code = "store_damaged"

    def __init__(self, faults: Sequence[str]) -> None:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        super().__init__(
            f"The store is damaged, so nothing was removed: {'; '.join(faults[:3])}{more}.",
            hint="noria data check   tells what is affected; then noria data repair.",
            details={"faults": list(faults[:1000]), "count": len(faults)},
        )


class VersionGone(NotFound):
    """The content of a version was removed on purpose."""

    code = "version_gone"

    def __init__(self, asset: str, digest: str) -> None:
        super().__init__(
            f"The version {digest} of {asset} is known by name only: its content was removed with the history that "
            "it was part of.",
            hint=f"noria data log {asset}   lists what there is.",
            details={"asset": asset, "digest": digest},
        )
