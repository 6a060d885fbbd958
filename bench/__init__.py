"""What noria costs, measured against the barest way to the same result in the same run."""

from __future__ import annotations
