from __future__ import annotations

from noria.base.errors import Failed, NotFound


class TruthFailed(Failed):
    """The labels function of a served model could not be run on new rows."""

    code = "truth_failed"


class AlertNotFound(NotFound):
    """There is no such alert."""

    code = "alert_not_found"
