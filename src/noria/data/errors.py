from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.base.errors import Conflict, Failed, Invalid, NotFound, Refused


class RepositoryNotFound(NotFound):
    """There is no such repository."""

    code = "repository_not_found"


class BranchNotFound(NotFound):
    """There is no such branch, tag or commit."""

    code = "branch_not_found"


class CommitForgotten(NotFound):
    """A branch stood at a commit that was dropped, squashed or pruned since."""

    code = "commit_forgotten"

    def __init__(self, name: str, branch: str, commit: str, kept: str | None) -> None:
        hint = f"noria data moves {name} --branch {branch}   shows where it went."
        if kept is not None:
            hint = f"noria data log {name} --ref {branch}@{kept}   is the next that is still there. Or: {hint}"
        super().__init__(
            f"{name}@{branch} stood at {commit[:12]} then; that commit was dropped, squashed or pruned since.",
            hint=hint,
            details={"repository": name, "branch": branch, "commit": commit, "kept": kept},
        )


class CommitGone(NotFound):
    """A commit that another one stands on is not there."""

    code = "commit_gone"

    def __init__(self, name: str, commit: str, child: str) -> None:
        super().__init__(
            f"{child[:12]} of {name} stands on {commit[:12]}, which is not there.",
            hint=f"It may have been dropped or pruned a moment ago: noria data log {name}   shows what is there now.",
            details={"repository": name, "commit": commit, "child": child},
        )


class RepositoryExists(Conflict):
    """The name is taken."""

    code = "repository_exists"


_KIND = {"table": "is a table", "files": "is a repository of files"}
_WORKS_ON = {"table": "tables", "files": "repositories of files"}
_OF_KIND = {
    "table": "noria data read {name}   shows its rows.",
    "files": "noria data ls {name}   lists its files; noria data cat {name} PATH   shows one.",
}


class WrongRepositoryKind(Invalid):
    """A verb for tables was used on files, or the other way round."""

    code = "wrong_repository_kind"

    def __init__(self, name: str, kind: str, wanted: str) -> None:
        super().__init__(
            f"{name!r} {_KIND.get(kind, f'is of the kind {kind}')}; this works on {_WORKS_ON.get(wanted, wanted)}.",
            hint=_OF_KIND.get(kind, "noria data list   tells the kinds.").format(name=name),
            details={"repository": name, "kind": kind},
        )


class HeadMoved(Conflict):
    """Somebody committed in between, and the branch was to be where the caller had seen it."""

    code = "head_moved"

    def __init__(self, name: str, branch: str, expected: str | None, found: str | None) -> None:
        super().__init__(
            f"{name}@{branch} stands at {(found or 'nothing')[:12]}, not at {(expected or 'nothing')[:12]}.",
            hint=f"noria data log {name} --ref {branch}   shows what was committed in between. Look, then ask again.",
            details={"repository": name, "branch": branch, "expected": expected, "found": found},
        )


class HeadMovesOn(HeadMoved):
    """The branch moved with every try, so that nobody can say where it stands."""

    def __init__(self, name: str, branch: str) -> None:
        Conflict.__init__(
            self,
            f"{name}@{branch} moved while this was done, again with each try. Nothing was changed.",
            hint="Try again when fewer write to it.",
            details={"repository": name, "branch": branch},
        )


class RemoteNotFound(NotFound):
    """There is no such remote, or it does not hold what was asked for."""

    code = "remote_not_found"


class RemoteExists(Conflict):
    """The name of a remote is taken."""

    code = "remote_exists"


class Diverged(Conflict):
    """Both sides have commits that the other one lacks."""

    code = "diverged"

    def __init__(self, name: str, branches: list[str], hint: str) -> None:
        super().__init__(
            f"{name}: {', '.join(branches)} went on here and there. Nothing was moved.",
            hint=hint,
            details={"repository": name, "branches": branches},
        )


class ContentLost(Failed):
    """A repository of another tool names contents that it does not have."""

    code = "content_lost"

    def __init__(self, lost: list[dict[str, str]], hint: str) -> None:
        first = lost[0]
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        super().__init__(
            f"{first['path']} of commit {first['commit'][:12]} {first['why']}{more}.",
            hint=hint,
            details={"lost": lost[:1000], "count": len(lost)},
        )


class WasErased(NotFound):
    """It was erased from all history of the repository, for a stated reason."""

    code = "erased"

    def __init__(self, what: str, repository: str, number: int, reason: str) -> None:
        super().__init__(
            f"{what} was erased from all history of {repository} (erasure {number}: {reason}).",
            hint="noria data erasures",
            details={"repository": repository, "erasure": number, "reason": reason},
        )


class RepositoryInUse(Conflict):
    """Something was made from the repository, and could not be traced without it."""

    code = "repository_in_use"


class TransferRefused(Refused):
    """What another workspace sent cannot be taken."""

    code = "transfer_refused"


class ContractBroken(Refused):
    """Data does not keep its contract."""

    code = "contract_broken"

    def __init__(self, name: str, number: int, findings: list[dict[str, Any]], quarantine_id: int | None) -> None:
        first = findings[0]
        more = f" and {len(findings) - 1} more findings" if len(findings) > 1 else ""
        super().__init__(
            f"The batch for {name!r} does not keep contract {number}: {first['message']}{more}. Nothing was committed.",
            hint=_to_mend(name, findings, quarantine_id),
            details={"repository": name, "contract": number, "findings": findings, "quarantine": quarantine_id},
        )


def _to_mend(name: str, findings: list[dict[str, Any]], quarantine_id: int | None) -> str:
    shown = f"noria data contract show {name}"
    batch = f"noria data quarantine show {quarantine_id}   has the findings and the rows."
    if findings[0]["rule"].endswith(".known"):
        add = f"Add [columns.{findings[0]['column']}] to the contract: {shown} > {name}.toml, edit it, then: "
        add += f"noria data contract set {name} {name}.toml"
        return add if quarantine_id is None else f"{add}\n{batch}"
    return shown if quarantine_id is None else batch


class LinesSetAside(ContractBroken):
    """Lines of a file do not fit the table. They lie in quarantine, and the others were taken."""

    code = "lines_set_aside"

    def __init__(
        self, name: str, source: str, count: int, lines: int, findings: list[dict[str, Any]], quarantine_id: int
    ) -> None:
        more = f" and {len(findings) - 1} more findings" if len(findings) > 1 else ""
        Refused.__init__(
            self,
            f"{count} of {lines} line{'s' * (lines != 1)} do{'es' * (count == 1)} not fit {name!r}: "
            f"{findings[0]['message']}{more}. The others are taken.",
            hint=f"noria data quarantine show {quarantine_id}   has the findings and the rows.",
            details={
                "repository": name,
                "contract": None,
                "findings": findings,
                "quarantine": quarantine_id,
                "source": source,
            },
        )


class HeadBreaksContract(Refused):
    """A contract was to be set only if what is there keeps it, and that does not."""

    code = "head_breaks_contract"

    def __init__(self, name: str, commit: str, findings: list[dict[str, Any]]) -> None:
        more = f" and {len(findings) - 1} more findings" if len(findings) > 1 else ""
        super().__init__(
            f"{name}@main ({commit[:12]}) does not keep the contract: {findings[0]['message']}{more}. "
            "The contract in force stays as it was.",
            hint=f"noria data contract check {name} --contract FILE   shows all. Mend the data, or set it without "
            "--strict: what is there stays, what comes has to keep it.",
            details={"repository": name, "commit": commit, "findings": findings},
        )


class QuarantineDecided(Conflict):
    """The refused batch was accepted or dropped already."""

    code = "quarantine_decided"

    def __init__(self, number: int, state: str, wanted: str, verdict: dict[str, Any] | None) -> None:
        commit = (verdict or {}).get("commit")
        by = f" by the commit {commit[:12]}" if commit else ""
        super().__init__(
            f"The batch {number} is {state}{by}; it cannot become {wanted}.",
            hint=f"noria data quarantine show {number}",
            details={"quarantine": number, "state": state, "wanted": wanted},
        )


class Refusal(Refused):
    """What a hook says no with; see ``nr.refuse``."""

    code = "refused_by_hook"


class HookRefused(Refused):
    """A hook of the user's own refused a change."""

    code = "hook_refused"

    def __init__(self, hook: str, event: str, name: str, branch: str, said: str, place: str) -> None:
        what = event.partition("-")[2]
        super().__init__(
            f"The hook {hook!r} refused the {what} to {name}@{branch}: {said}. Nothing was committed.".replace(
                "..", "."
            ),
            hint=place or "noria data hooks   lists the hooks of the project.",
            details={"hook": hook, "event": event, "repository": name, "branch": branch},
        )


class HookFailed(Failed):
    """A hook that was told of a commit did not end well."""

    code = "hook_failed"


class ContractMissing(NotFound):
    """The repository has no contract."""

    code = "contract_missing"


class SourceFailed(Failed):
    """A source could not be read."""

    code = "source_failed"


class FilesBroken(Refused):
    """A commit of files does not keep its contract."""

    code = "contract_broken"

    def __init__(self, name: str, number: int, findings: list[dict[str, Any]]) -> None:
        more = f" and {len(findings) - 1} more findings" if len(findings) > 1 else ""
        super().__init__(
            f"The commit to {name!r} does not keep contract {number}: {findings[0]['message']}{more}. "
            "Nothing was committed.",
            hint=f"noria data contract show {name}",
            details={"repository": name, "contract": number, "findings": findings},
        )


class MoveBreaksContract(Refused):
    """What a pull, a push or an import brings to a branch does not keep the contract that is in force there."""

    code = "contract_broken"

    def __init__(self, name: str, branch: str, commit: str, remote: str, verb: str, details: Mapping[str, Any]) -> None:
        first, more = details["findings"][0]["message"], len(details["findings"]) - 1
        there = " there" if verb == "data.push" else ""
        allow = f"noria data contract set {name} FILE"
        look = f"noria data branch {name} LOOK --at {commit[:12]}"
        hint = {
            "data.push": f"Mend it here and push again; or push it to a branch that is new there; or allow it there: "
            f"{allow}",
            "data.import": f"{look}\nto mend it on that branch and merge it; or allow it: {allow}   and import again.",
        }.get(
            verb,
            f"noria data fetch {name} {remote}   then   {look}\n"
            f"to mend it on that branch and merge it; or allow it: {allow}",
        )
        super().__init__(
            f"What comes to {name}@{branch}{there} does not keep contract {details['contract']}: "
            f"{first}{f' and {more} more findings' if more else ''}. Nothing was moved.",
            hint=hint,
            details={**details, "branch": branch, "commit": commit},
        )


class TagExists(Conflict):
    """Tags do not move."""

    code = "tag_exists"


class MergeConflict(Conflict):
    """Two sides changed the same thing, and not to the same."""

    code = "merge_conflict"

    def __init__(self, name: str, what: str, conflicts: Sequence[str], hint: str) -> None:
        shown = ", ".join(conflicts[:5]) + (f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else "")
        super().__init__(
            f"{what} does not fit {name}: both sides changed {shown}. Nothing was committed.",
            hint=hint,
            details={"repository": name, "conflicts": list(conflicts[:1000]), "count": len(conflicts)},
        )


class PathExists(Conflict):
    """A copy or a new name would take the place of something else."""

    code = "path_exists"

    def __init__(self, paths: Sequence[str]) -> None:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        super().__init__(
            f"{paths[0]!r:.200}{more} is there already, and would be overwritten.",
            hint="Give another name, or overwrite it with --force (overwrite in Python and over HTTP).",
            details={"paths": list(paths[:20]), "count": len(paths)},
        )


class CommitInUse(Conflict):
    """A commit that something else still needs."""

    code = "commit_in_use"


class DraftNotFound(NotFound):
    """There is no such open commit."""

    code = "draft_not_found"


class DraftClosed(Conflict):
    """The open commit was finished or dropped before."""

    code = "draft_closed"


class FolderLeft(Conflict):
    """The branch was moved away (reset, dropped) from the commit that a folder holds: committing would undo that."""

    code = "folder_left"

    def __init__(self, name: str, branch: str, base: str) -> None:
        short = base[:12]
        super().__init__(
            f"{name}@{branch} was moved away from {short}, which the folder came from; a commit of it would bring "
            "back what was taken away.",
            hint=f"noria data checkout {name} FOLDER   makes the folder what the branch is now. What was changed in\n"
            f"it can be kept on a branch: noria data branch {name} kept --at {short}; noria data commit --branch kept\n"
            f"So that the branch is this folder after all: noria data commit {name} FOLDER --snapshot",
            details={"repository": name, "branch": branch, "commit": base},
        )


class FolderAdrift(Conflict):
    """A folder came from a commit that is gone, so that what it would take back of others cannot be told."""

    code = "folder_adrift"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The folder came from a commit of {name} that is gone: dropped, pruned, or purged.",
            hint=f"noria data checkout {name} OTHER_FOLDER   and copy your changes there; or, so that the branch is\n"
            f"this folder whatever others did: noria data commit {name} FOLDER --snapshot",
            details={"repository": name},
        )
