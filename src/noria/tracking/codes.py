"""Which code a client's run says that it ran: a commit of a git repository, known by name only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

COMMIT: Final = "mlflow.source.git.commit"
_REPOSITORY: Final = "mlflow.source.git.repoURL"
_BRANCH: Final = "mlflow.source.git.branch"
_SOURCE: Final = "mlflow.source.name"
_ENTRY: Final = "mlflow.project.entryPoint"
CODE_TAGS: Final = frozenset({COMMIT, _REPOSITORY})
"""Tags that say which version it is; the others say how this run used it."""
SLOT: Final = "git"
"""Of the edge. Not ``code``: that is a snapshot, whose files are here."""
_LONGEST: Final = 1_000
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A commit as a client names it.

    Attributes:
        repository: its address, without a password; empty where it was not said.
        branch, source, entry_point: what this run used of it; empty where it was not said.
    """

    commit: str
    repository: str = ""
    branch: str = ""
    source: str = ""
    entry_point: str = ""

    @property
    def asset(self) -> str:
        """The name of the asset whose versions are the commits of this repository."""
        last = re.split(r"[/:\\]", self.repository.rstrip("/"))[-1].removesuffix(".git")
        name = _NAME.sub("-", last).strip(".-")
        return f"git.{name}"[:128] if name else "git"

    def identity(self) -> dict[str, Any]:
        """What makes it the same version for every run."""
        return {"git": {"commit": self.commit, "repository": self.repository}}

    def use(self) -> dict[str, str]:
        """What this run used of it, as far as it was said."""
        said = {"branch": self.branch, "entry_point": self.entry_point, "source": self.source}
        return {name: value for name, value in said.items() if value}


def code_of(tags: Mapping[str, str]) -> Code | None:
    """The commit that a run's tags name; None where they name none."""
    commit = tags.get(COMMIT, "").strip()
    if not commit:
        return None
    return Code(
        commit=commit[:_LONGEST],
        repository=_address(tags.get(_REPOSITORY, "").strip()[:_LONGEST]),
        branch=tags.get(_BRANCH, "")[:_LONGEST],
        source=tags.get(_SOURCE, "")[:_LONGEST],
        entry_point=tags.get(_ENTRY, "")[:_LONGEST],
    )


def _address(url: str) -> str:
    """An address without the password or token that clients put into it: a version is kept for good."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    kept = user.partition(":")[0] + at if scheme.lower() == "ssh" else ""
    return f"{scheme}://{kept}{host}{slash}{path}"
