from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable

import pytest


def _in_a_child(work: Callable[[], object]) -> int:
    """Runs ``work`` in a process of its own that may be ended at any point; its exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no thread of this process
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def in_a_child() -> Callable[[Callable[[], object]], int]:
    """Runs a call in a process of its own that may be ended at any point; its exit status."""
    return _in_a_child
