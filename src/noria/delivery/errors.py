from __future__ import annotations

from noria.base.errors import Conflict, Failed, Invalid, NotFound


class CandidateNotFound(NotFound):
    """There is no such candidate."""

    code = "candidate_not_found"


class ReleaseOpen(Conflict):
    """A release of this endpoint is on its way."""

    code = "release_open"


class NothingBefore(Invalid):
    """There is no champion to go back to."""

    code = "nothing_before"


class NotApplied(Invalid):
    """The project's definitions were never applied here."""

    code = "not_applied"


class TrainingFailed(Failed):
    """A training that a trigger started has failed."""

    code = "training_failed"
