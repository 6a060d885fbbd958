"""Features: one definition for bulk and for a single request, with time in both senses.

The service is imported from ``noria.features.service``; ``nr.asof`` and ``nr.history`` come from ``api``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room and the decorator share a name: once this package is imported, ``nr.features`` is this module.

    So the module itself can be called, and does what the decorator does.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from noria.pipelines.declare import features

        return features(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
