from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "monitoring"))  # looped_shop

from looped_shop import labeller, shop, template  # pyright: ignore[reportMissingImports]

__all__ = ["labeller", "shop", "template"]
