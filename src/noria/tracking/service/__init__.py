"""The verbs of tracking. Runs themselves belong to the asset graph; this room adds what they say by run id."""

from __future__ import annotations

from functools import cached_property

from noria.base.ids import ProjectId
from noria.db import Tx
from noria.tracking.records import Owner, OwnerKind
from noria.tracking.service.artifacts import Receiving
from noria.tracking.service.base import DEFAULT, MOST_PARAM, MOST_TAG, lock_of
from noria.tracking.service.bringing import Bringing
from noria.tracking.service.exporting import Exporting
from noria.tracking.service.folding import Folding
from noria.tracking.service.limiting import Limiting
from noria.tracking.service.organizing import NOTE
from noria.tracking.service.packages import Packages
from noria.tracking.service.purging import Purging
from noria.tracking.service.uploads import MOST_PARTS, Uploads
from noria.tracking.traces.service import Traces

__all__ = ["DEFAULT", "MOST_PARAM", "MOST_PARTS", "MOST_TAG", "NOTE", "Receiving", "Tracking", "lock_of"]


class Tracking(Purging, Exporting, Bringing, Folding, Limiting, Packages, Uploads):
    """One per workspace."""

    @cached_property
    def traces(self) -> Traces:
        """What applications did for their requests."""
        return Traces(self._db, self._assets, self._changes, self._keys, self.ensure_default)

    def check_owner(self, tx: Tx, owner: Owner, project_id: ProjectId) -> None:
        if owner.kind is OwnerKind.TRACE:
            self.traces.check(project_id, owner.id, tx)
        else:
            super().check_owner(tx, owner, project_id)
