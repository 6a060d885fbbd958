"""What git has to say of the outputs that DVC tracks, read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.base.errors import Invalid
from noria.base.names import check_branch, check_name
from noria.data.collectors.dvc import PATTERNS, DvcRepository, Out
from noria.data.collectors.git import Git, GitCommit
from noria.data.records import MAIN
from noria.data.service.transfer.dvc.report import Report

State = Mapping[str, Out]
"""Path -> output: what DVC tracks at one commit of git."""


@dataclass(slots=True, kw_only=True)
class History:
    """What git has to say, read once."""

    commits: list[GitCommit]
    states: dict[str, State]
    branches: dict[str, str]
    tags: dict[str, str]


def read(
    dvc: DvcRepository, git: Git, report: Report, targets: Sequence[str], refs: Sequence[str], everything: bool
) -> History:
    branches, tags = _refs(git, report, refs, everything)
    tips = sorted({*branches.values(), *tags.values()})
    touching = git.touching(tips, PATTERNS)
    made = History(commits=list(git.commits(tips)), states={}, branches=branches, tags=tags)
    wanted = [target.rstrip("/").removesuffix(".dvc") for target in targets]
    for commit in made.commits:
        before = made.states.get(commit.parents[0]) if len(commit.parents) == 1 else None
        if before is not None and commit.id not in touching:
            made.states[commit.id] = before
            continue
        outs, left = dvc.outs(git, git.files(commit.id))
        for path, why in left:
            report.leave(path, commit.id, why)
        made.states[commit.id] = {p: o for p, o in outs.items() if not wanted or _below_any(p, wanted)}
    return made


def _refs(git: Git, report: Report, refs: Sequence[str], everything: bool) -> tuple[dict[str, str], dict[str, str]]:
    """(our branch -> commit of git, tag -> commit of git). The branch that is checked out becomes main."""
    current, head = git.head()
    branches, tags = git.refs() if everything or refs else ({}, {})
    unknown = [ref for ref in refs if ref not in branches]
    if unknown:
        raise Invalid(f"git has no branch {unknown[0]!r}.", hint=f"Branches: {', '.join(branches)}.")
    chosen = {ref: branches[ref] for ref in refs} if refs else branches
    if not refs or current in chosen:
        chosen = {name: commit for name, commit in chosen.items() if name != current}
        chosen[current if MAIN in chosen else MAIN] = head
    return _allowed(report, chosen), _allowed(report, tags if everything else {})


def _allowed(report: Report, refs: dict[str, str]) -> dict[str, str]:
    """Those whose names may be names here."""
    allowed: dict[str, str] = {}
    for name, commit in refs.items():
        try:
            allowed[check_branch(name)] = commit
        except Invalid as error:
            report.leave(name, commit, error.message)
    return allowed


def groups(history: History, folder: Path, name: str | None, single: bool) -> dict[str, list[str]]:
    """Our repository -> paths of the outputs that it takes."""
    paths = sorted({path for state in history.states.values() for path in state})
    if not paths:
        raise Invalid(
            f"No output that DVC tracks was found in {folder}.",
            hint="Only what a .dvc file or dvc.lock in git names is imported; see --target.",
        )
    if single:
        return {check_name(name or _valid(folder.name), "a repository"): paths}
    if len(paths) == 1 and name is not None:
        return {check_name(name, "a repository"): paths}
    found: dict[str, list[str]] = {}
    for path in paths:
        made = _valid(path) if name is None else check_name(f"{name}.{_valid(path)}", "a repository")
        if made in found:
            raise Invalid(
                f"{path} and {found[made][0]} would both become the repository {made!r}.",
                hint="Import them one by one, with --target PATH and a name; or all in one, with --single.",
            )
        found[made] = [path]
    return found


def _below_any(path: str, targets: Iterable[str]) -> bool:
    return any(path == target or path.startswith(f"{target}/") for target in targets)


def _valid(path: str) -> str:
    """A path as the name of a repository: data/images becomes data.images."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", path.replace("/", "."))
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"
