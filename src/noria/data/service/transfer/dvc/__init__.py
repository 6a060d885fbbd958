"""Moving in from DVC: the history of tracked data in git becomes commits here."""

from __future__ import annotations

from noria.data.service.transfer.dvc.importing import DvcImport

__all__ = ["DvcImport"]
