"""MLflow's clients inside of steps: ``door`` stands in the driver's process, ``inside`` in the step's.

Both are named by rooms below (``workspace``, ``pipelines``) as texts and imported when they are needed, so neither may
import more than it has to: a step that never touches MLflow pays for what stands here.
"""

from __future__ import annotations
