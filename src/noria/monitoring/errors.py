from __future__ import annotations

from noria.base.errors import Failed, Invalid, NotFound


class TruthFailed(Failed):
    """The labels function of a served model could not be run on new rows."""

    code = "truth_failed"


class TruthUnfit(Invalid):
    """Rows of truth do not fit the endpoint."""

    code = "truth_unfit"


class AlertNotFound(NotFound):
    """There is no such alert."""

    code = "alert_not_found"
