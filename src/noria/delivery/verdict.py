"""The verdict of a canary: valid however often it is looked at (decision 18; reference serving.md, section 5).

Champion and candidate score the same requests. Each complete day of event time is one block: the mean difference of
the clipped losses of its rows, candidate minus champion. Rows of one day are alike, days count as the units. Against
each of two hypotheses, "worse by at least the margin" and "not worse", a bettor stakes a share of its wealth on every
block; its wealth is an average over fixed shares, so nothing is estimated. Under the hypothesis the expected wealth
never grows, so it reaches 1/alpha with a chance of at most alpha, whenever one looks (Ville's inequality).

What a bet can win is bounded: a block that speaks for the bet is cut at 2.5 running standard deviations of the blocks
before it, which is known before the block is. What speaks against the bet is not cut, except where a bettor has lost
all but a hundredth of its wealth. So the hypotheses are about cut blocks: the mean of a day's difference, cut at the
clip on the side of the bet and beyond that loss on the other. Record 0011 has it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SHARES: Final = (0.2, 0.5, 0.9)
"""Stakes, as shares of what a bet can lose; the wealth is the mean of the wealths of these bettors."""
CLIP: Final = 2.5
"""Running standard deviations at which a block is clipped; with the stakes chosen by simulation (record 0011)."""
LOSS_CLIP: Final = 5.0
"""A row's loss counts at most this much: one sure error must not decide a release."""
LEAST: Final = 0.01
"""What a lost bet leaves of a bettor's wealth."""
_SURE: Final = (2.0, 4.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the blocks so far say.

    Attributes:
        kind: ``better`` (not worse by the margin: promote), ``worse`` (roll back) or ``open``.
        promote, roll_back: evidence against each hypothesis; a verdict falls at 1/alpha.
        mean: the mean difference of the losses, candidate minus champion.
    """

    kind: str
    promote: float
    roll_back: float
    mean: float
    days: int
    rows: int

    def as_value(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "promote": round(self.promote, 6),
            "roll_back": round(self.roll_back, 6),
            "mean": round(self.mean, 8),
            "days": self.days,
            "rows": self.rows,
        }


def judge(blocks: Sequence[Sequence[float]], *, margin: float, alpha: float) -> Verdict:
    """The verdict after these blocks ([day, rows, mean difference], in order); the first to fall holds."""
    better, worse = _Bettor(), _Bettor()
    before: list[float] = []
    kind = "open"
    for block in blocks:
        difference = float(block[2])
        clip = clip_of(before, margin)
        better.bet((margin - max(-clip, difference)) / (clip + margin))
        worse.bet(min(clip, difference) / clip)
        before.append(max(-clip, min(clip, difference)))
        if kind == "open":
            kind = "worse" if worse.wealth >= 1 / alpha else "better" if better.wealth >= 1 / alpha else "open"
    rows = sum(int(b[1]) for b in blocks)
    mean = sum(b[1] * b[2] for b in blocks) / rows if rows else 0.0
    return Verdict(kind=kind, promote=better.wealth, roll_back=worse.wealth, mean=mean, days=len(blocks), rows=rows)


def clip_of(before: Sequence[float], margin: float) -> float:
    """2.5 standard deviations about zero of the blocks so far; four margins stand for one block before the first."""
    first = 4 * margin
    return CLIP * math.sqrt((first**2 + sum(d * d for d in before)) / (1 + len(before)))


class _Bettor:
    def __init__(self) -> None:
        self._logs = [0.0] * len(SHARES)

    def bet(self, outcome: float) -> None:
        """``outcome`` is at most 1, its expectation under the hypothesis is at most 0."""
        self._logs = [
            log + math.log(max(LEAST, 1 + share * min(1.0, outcome)))
            for log, share in zip(self._logs, SHARES, strict=True)
        ]

    @property
    def wealth(self) -> float:
        top = max(self._logs)
        return math.exp(min(700.0, top)) * sum(math.exp(log - top) for log in self._logs) / len(self._logs)


def too_many(count: int, n: int, limit: float) -> float:
    """Evidence that something happens more often than ``limit``: the mean of four likelihood ratios.

    Each is a bet on a fixed higher rate, so under any rate up to ``limit`` its expectation never grows.
    """
    if not n or limit >= 1:
        return 1.0
    logs: list[float] = []
    for factor in _SURE:
        rate = min(max(0.95, (1 + limit) / 2), limit * factor)
        logs.append(count * math.log(rate / limit) + (n - count) * math.log((1 - rate) / (1 - limit)))
    top = max(logs)
    return math.exp(min(700.0, top)) * sum(math.exp(log - top) for log in logs) / len(logs)
