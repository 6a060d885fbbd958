"""Helpers for tests of noria and of what is built on it: fakes that pass the contracts, and the contracts.

Nothing in production imports this package.
"""

from __future__ import annotations

from noria.testing.clock import ManualClock
from noria.testing.store import ByteStoreContract, MemoryBytes

__all__ = ["ByteStoreContract", "ManualClock", "MemoryBytes"]
