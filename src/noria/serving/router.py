"""Which arm answers: a hash of the request's key and the release's salt, so the same caller gets the same arm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from noria.serving.records import Arm

_STEPS = 10_000


def place(salt: str, key: str) -> int:
    """A number from 0 to 9,999 that depends on the key and the salt only."""
    digest = hashlib.blake2b(f"{salt}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _STEPS


def choose(arms: Sequence[Arm], salt: str, key: str) -> Arm:
    """The arm for a key. The canary takes the low places, so that a growing weight only ever adds callers to it."""
    ordered = sorted((a for a in arms if a.weight > 0), key=lambda a: (a.role == "champion", a.deployment))
    spot = place(salt, key)
    edge = 0.0
    for arm in ordered:
        edge += arm.weight * _STEPS
        if spot < round(edge):
            return arm
    return ordered[-1]
