"""The verbs of delivery, in four parts that stand on each other."""

from __future__ import annotations

from noria.delivery.service.base import Services
from noria.delivery.service.delivery import Delivery

__all__ = ["Delivery", "Services"]
