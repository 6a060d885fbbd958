from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))  # trained_shop
sys.path.insert(0, str(Path(__file__).parents[1] / "monitoring"))  # looped_shop
sys.path.insert(0, str(Path(__file__).parents[1] / "http"))  # rooms_client

from looped_shop import labeller, shop, template  # pyright: ignore[reportMissingImports]

__all__ = ["labeller", "shop", "template"]
