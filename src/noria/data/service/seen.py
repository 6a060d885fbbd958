"""Verbs that take something away act on what somebody was shown, and on nothing that came later."""

from __future__ import annotations

from noria.base.ids import CommitId
from noria.data.errors import HeadMoved
from noria.data.records import Commit, Repository


class Seen:
    """The head of a branch as the first try saw it. A try after a lost race has to find the same one.

    Args:
        expected: where the caller saw the branch; None where it did not say.
    """

    def __init__(self, repository: Repository, branch: str, expected: str | None = None) -> None:
        self._name, self._branch = repository.name, branch
        self._stood: str | None = expected
        self._fixed = expected is not None

    def check(self, head: Commit | None) -> CommitId | None:
        """Where the branch stands.

        Raises:
            HeadMoved: it stood elsewhere when it was seen first.
        """
        found = None if head is None else head.id
        if self._fixed and found != self._stood:
            raise HeadMoved(self._name, self._branch, self._stood, found)
        self._stood, self._fixed = found, True
        return found
