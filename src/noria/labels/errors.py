from __future__ import annotations

from noria.base.errors import Invalid


class LabelsInvalid(Invalid):
    """A labels function does not make a truth."""

    code = "labels_invalid"
