"""Pipelines: functions are assets; only what changed runs, and it says why.

The room's service is imported from ``noria.pipelines.service``: importing a declaration must stay light.
"""

from __future__ import annotations
