"""Labels: the truth, which comes late; joined by key, with coverage.

The runner is ``noria.labels.run``; human labelling queues come with the features issue.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room and the decorator share a name: once this package is imported, ``nr.labels`` is this module.

    So the module itself can be called, and does what the decorator does.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from noria.pipelines.declare import labels

        return labels(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
