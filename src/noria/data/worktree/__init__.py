"""A folder beside a repository."""

from __future__ import annotations

from noria.data.worktree.folder import Worktree

__all__ = ["Worktree"]
