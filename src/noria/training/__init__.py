"""Training: splits, baselines first, evaluation with intervals, sweeps, models in safe formats.

``nr.Rows`` and ``nr.Evaluation`` come from ``rows`` and ``evaluation``; the service from ``service``.
"""

from __future__ import annotations
