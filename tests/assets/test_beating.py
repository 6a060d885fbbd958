from __future__ import annotations

import threading

import pytest

from noria.assets.beating import beating


def test_a_lease_is_renewed_while_a_block_runs_and_no_longer() -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 2:
            raise OSError("busy")  # one beat that fails is not the end
        if len(beats) > 3:
            enough.set()

    with beating(beat, seconds=0.001):
        assert enough.wait(10)
    count = len(beats)
    assert not [t for t in threading.enumerate() if t.name == "beating"]
    assert len(beats) == count


def test_what_the_block_raises_ends_the_thread_too() -> None:
    with pytest.raises(ZeroDivisionError), beating(lambda: None, seconds=0.001):
        _ = 1 / 0
    assert not [t for t in threading.enumerate() if t.name == "beating"]
