"""What a process that runs others' code sees of this one's environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

_HARMLESS: Final = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV"}
)
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


def of_child(
    environment: Mapping[str, str], *, also: Collection[str] = (), threads: int | None = None
) -> dict[str, str]:
    """The variables of a child: those that tell where things lie; everything else may hold a secret.

    Args:
        also: names that it sees too. threads: how many the libraries of it may start.
    """
    made = {name: value for name, value in environment.items() if name in _HARMLESS or name in also}
    if threads is not None:
        made |= dict.fromkeys(_THREADS, str(threads))
    return made
