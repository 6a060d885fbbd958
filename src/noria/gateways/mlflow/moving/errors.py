from __future__ import annotations

from noria.base.errors import Invalid, NotFound, Unavailable


class SourceInvalid(Invalid):
    """It cannot be read as what it should be."""

    code = "import_source_invalid"


class SourceMissing(NotFound):
    """There is nothing to import from."""

    code = "import_source_missing"


class SourceFailed(Unavailable):
    """A server that is imported from does not answer, or answers otherwise than MLflow does."""

    code = "import_source_failed"
