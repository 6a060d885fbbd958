"""What moves a branch without new data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from noria.data.cli.shared import by_path, counted, get, plain, say_commit, told_stats
from noria.data.records import MAIN, MergePreview, Repository, RepositoryKind
from noria.data.service.history import hint_of
from noria.data.wire.history import preview_out
from noria.terminal import Shell, command
from noria.terminal.exits import CONFLICT

_SHOWN = 50

_STRATEGY = click.option(
    "--strategy",
    type=click.Choice(["conflict", "ours", "theirs"]),
    default="conflict",
    show_default=True,
    help="What wins where both sides changed the same: nobody, the branch, or what comes in.",
)


def _verbs(shell: Shell, repository: Repository) -> Any:
    """The verbs for this repository: files do without Polars."""
    return shell.ws.files if repository.kind == RepositoryKind.FILES else shell.ws.data


@command("merge")
@click.argument("name")
@click.argument("source")
@click.option("--into", default=MAIN, show_default=True)
@click.option("-m", "--message", default="")
@click.option("--no-fast-forward", is_flag=True, help="Make a merge commit also where the branch could just move.")
@_STRATEGY
@click.option("--dry-run", is_flag=True, help="Only show what would come, and what is in conflict (exit code 5).")
@click.pass_obj
@by_path
def merge(
    shell: Shell,
    name: str,
    source: str,
    into: str,
    message: str,
    no_fast_forward: bool,
    strategy: str,
    resolve: dict[str, str],
    dry_run: bool,
) -> None:
    """Bring what happened on a branch, tag or commit into a branch."""
    repository = get(shell, name)
    how: dict[str, Any] = {"into": into, "strategy": strategy, "resolve": resolve, "fast_forward": not no_fast_forward}
    if dry_run:
        _preview(shell, repository, source, _verbs(shell, repository).preview_merge(repository, source, **how), into)
        return
    how["message"] = message
    before = shell.ws.files.head(repository, into)
    with shell.progress(f"Merging {source}"):
        done = _verbs(shell, repository).merge(repository, source, actor=shell.ws.actor, **how)
    say_commit(shell, repository, done, before)


def _preview(shell: Shell, repository: Repository, source: str, found: MergePreview, into: str) -> None:
    where = f"{repository.name}@{into}"

    def human() -> None:
        if found.how == "nothing":
            shell.say(f"Nothing would come: {where} has all of {source}.")
            return
        counts, coming = told_stats(found.stats), counted(found.count, "commit")
        if found.conflicts:
            whole = counted(len(found.conflicts), "conflict")
            shell.say(f"The merge of {coming} into {where} is refused as it stands: {whole}.")
        elif found.how == "merge":
            shell.say(f"{coming} would come into {where} with a merge commit: {counts}.")
        else:
            shell.say(f"{coming} would come: {where} would move to {found.source[:12]}: {counts}.")
        if found.changes:
            rows = [[c.kind, c.path, c.size_before, c.size_after] for c in found.changes[:_SHOWN]]
            shell.table(["", "path", "before", "after"], rows, right=["before", "after"])
        if len(found.changes) > _SHOWN:
            shell.say(f"and {len(found.changes) - _SHOWN} more; --json lists them all.")
        if found.conflicts:
            shell.table(["both sides changed"], [[one] for one in found.conflicts])
            shell.say(hint_of(repository))

    shell.emit(plain(preview_out(found)), human)
    if found.conflicts:
        raise click.exceptions.Exit(CONFLICT)


def _replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments of a command that does a commit again, or takes it back."""
    for option in (
        by_path,
        click.pass_obj,
        _STRATEGY,
        click.option("-m", "--message", default=""),
        click.option("--branch", default=MAIN, show_default=True),
        click.argument("ref"),
        click.argument("name"),
    ):
        function = option(function)
    return function


def _replay(shell: Shell, verb: str, name: str, ref: str, **how: Any) -> None:
    repository = get(shell, name)
    before = shell.ws.files.head(repository, how["branch"])
    done = getattr(_verbs(shell, repository), verb)(repository, ref, actor=shell.ws.actor, **how)
    say_commit(shell, repository, done, before)


@command("revert")
@_replayed
def revert(shell: Shell, name: str, ref: str, **how: Any) -> None:
    """Take back what a commit did, in a new commit; later changes stay."""
    _replay(shell, "revert", name, ref, **how)


@command("cherry-pick")
@_replayed
def cherry_pick(shell: Shell, name: str, ref: str, **how: Any) -> None:
    """Do on a branch what a commit did elsewhere."""
    _replay(shell, "cherry_pick", name, ref, **how)


@command("reset")
@click.argument("name")
@click.argument("to")
@click.option("--branch", default=MAIN, show_default=True)
@click.option("--expected", help="Only if the branch stands at this commit.")
@click.pass_obj
def reset(shell: Shell, name: str, to: str, branch: str, expected: str | None) -> None:
    """Move a branch to another commit; what it held is found by its id until it is pruned.

    What a collection took in commits that the branch does not hold any more, `noria data collect` takes again.
    """
    repository = get(shell, name)
    verbs = _verbs(shell, repository)
    before = verbs.head(repository, branch)
    done = verbs.reset(repository, to, branch=branch, expected=expected, actor=shell.ws.actor)
    back = "" if before is None else f" It stood at {before.id[:12]}."
    shell.emit(
        {"commit": done.id, "before": None if before is None else before.id},
        f"{name}@{branch} stands at {done.id[:12]}.{back}",
    )


@command("squash")
@click.argument("name")
@click.argument("since")
@click.option("--branch", default=MAIN, show_default=True)
@click.option("-m", "--message", default="")
@click.pass_obj
def squash(shell: Shell, name: str, since: str, branch: str, message: str) -> None:
    """Make one commit of all that came after SINCE; those between are gone for good."""
    repository = get(shell, name)
    how = {"branch": branch, "message": message}
    say_commit(shell, repository, _verbs(shell, repository).squash(repository, since, actor=shell.ws.actor, **how))


@command("drop")
@click.argument("name")
@click.option("--branch", default=MAIN, show_default=True)
@click.option(
    "--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many commits, from the newest."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop(shell: Shell, name: str, branch: str, count: int, yes: bool) -> None:
    """Take the newest commits of a branch away for good.

    What a collection took in them, `noria data collect` takes again. To keep it out, use `noria data revert` instead.
    """
    repository = get(shell, name)
    verbs = _verbs(shell, repository)
    head = verbs.head(repository, branch)
    if not yes and head is not None:
        about = f" ({head.message})" if head.message else ""
        rest = f" and the {count - 1} before it" if count > 1 else ""
        options = "" if branch == MAIN else f" --branch {branch}"
        options += "" if count == 1 else f" --count {count}"
        shell.confirm(
            f"{name}@{branch} would lose its newest commit {head.id[:12]}{about}{rest}, for good.",
            yes=yes,
            again=f"noria data drop {name}{options} --yes",
        )
    expected = None if yes or head is None else head.id  # what was shown is what goes
    done = verbs.drop(repository, branch=branch, count=count, expected=expected, actor=shell.ws.actor)
    shell.emit({"commit": done.id}, f"{name}@{branch} stands at {done.id[:12]}.")


@command("prune")
@click.argument("name")
@click.pass_obj
def prune(shell: Shell, name: str) -> None:
    """Remove commits that no branch, tag or open commit leads to."""
    gone = shell.ws.files.prune(get(shell, name), actor=shell.ws.actor)
    shell.emit({"commits": gone}, f"{counted(len(gone), 'commit')} removed.")
