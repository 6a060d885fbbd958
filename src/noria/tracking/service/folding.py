"""The verb that makes the points of ended runs small."""

from __future__ import annotations

import time
from typing import Final

from noria.base.times import DAY, MINUTE
from noria.tracking import folding
from noria.tracking.folding import Candidate
from noria.tracking.service.base import Base, lock_of

_RUNS: Final = 100
"""Runs that are looked at together."""
_REST: Final = 5 * MINUTE
"""Between two rounds through all runs with rows in the tail."""
_QUIET: Final = DAY
"""A run that never ended, and whose newest point is so old, counts as ended."""
_BREATH: Final = 0.001
"""Seconds between two transactions, in which others who write come in."""


class Folding(Base):
    _behind = -1
    """The run that the last call came to."""
    _rests_until = 0

    def fold_ended(self, seconds: float | None = None) -> int:
        """Folds the points of runs that ended, or said nothing for a day, into a few bytes each; answers stay what they
        are. A server calls it every second; it goes from run to run and rests for some minutes after the last.

        Args:
            seconds: about so long; None: all runs, now.

        Returns:
            How many points were folded.
        """
        now = self._assets.now_ms()
        if seconds is None:
            self._behind, self._rests_until = -1, 0
        if now < self._rests_until:
            return 0
        until = None if seconds is None else time.monotonic() + seconds
        done = 0
        while until is None or time.monotonic() < until:
            with self._db.read() as conn:
                found = folding.waiting(conn, self._behind, _RUNS, now - _QUIET)
            if not found:
                self._behind, self._rests_until = -1, now + _REST
                break
            for run in found:
                if until is not None and time.monotonic() >= until:
                    break
                if run.ended and not run.purged:
                    done += self._fold(run)
                self._behind = run.no
        return done

    def _fold(self, run: Candidate) -> int:
        done, behind = 0, -1
        while True:
            with self._db.write(durable=False) as tx:  # nothing is promised: it is there as rows or as a bundle
                tx.lock(lock_of(run.run_id))
                if folding.is_purged(tx.conn, run.run_id):  # since it was looked at
                    return done
                step = folding.fold(tx, run.no, behind)
            done += step.points
            if step.behind is None:
                return done
            behind = step.behind
            time.sleep(_BREATH)
