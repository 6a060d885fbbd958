from __future__ import annotations

import click

from noria.base.times import to_text
from noria.data.cli.shared import get, plain, say_rows_diff
from noria.data.records import MAIN, Commit, Names, PathChange, RepositoryKind
from noria.data.wire import branch_out, named_commit_out, path_change_out
from noria.data.wire.history import move_out, touched_out
from noria.data.wire.tables import rows_diff_out
from noria.terminal import Shell, command


@command("log")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True, help="Branch, tag, commit, main~2 or @2013-04-01.")
@click.option("--path", help="Only commits that changed this path, or paths that fit a pattern like 'train/*'.")
@click.option("--limit", default=20, show_default=True)
@click.option("--after", help="Go on after this page: the value of `next` of the page before.")
@click.pass_obj
def log(shell: Shell, name: str, ref: str, path: str | None, limit: int, after: str | None) -> None:
    """Show the history, newest first."""
    repository, files = get(shell, name), shell.ws.files
    if path is not None:
        page = files.touched(repository, path, ref, limit=limit, after=after)
        commits = [t.commit for t in page.items]
        names = files.names(repository, commits)
        value = [plain(touched_out(t, names.get(t.commit.id))) for t in page.items]
        seen = [[c.id[:12], to_text(c.at), c.author, _paths(t.changes), _named(names.get(c.id)), c.message]
                for c, t in zip(commits, page.items, strict=True)]  # fmt: skip
        columns = ["commit", "at", "author", "changed", "names", "message"]
    else:
        page = files.log_page(repository, ref, limit=limit, after=after)
        names = files.names(repository, page.items)
        value = [plain(named_commit_out(c, names.get(c.id))) for c in page.items]
        seen = [[c.id[:12], to_text(c.at), c.author, c.stats.get("rows", c.stats.get("files")), _changed(c),
                 _named(names.get(c.id)), c.message]
                for c in page.items]  # fmt: skip
        columns = ["commit", "at", "author", "total", "changed", "names", "message"]

    def human() -> None:
        shell.table(columns, seen, right=["total"])
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    shell.emit(value, human)


def _named(names: Names | None) -> str:
    """Branches as they are, tags marked as such."""
    return "" if names is None else ", ".join([*names.branches, *(f"tag {tag}" for tag in names.tags)])


def _changed(commit: Commit) -> str:
    """Numbers of rows or files: added, updated, deleted."""
    marks = (("+", "added"), ("~", "updated"), ("-", "deleted"))
    parts = [f"{mark}{commit.stats[name]}" for mark, name in marks if commit.stats.get(name)]
    return " ".join(parts) + (" merge" if len(commit.parents) > 1 else "")


def _paths(changes: list[PathChange]) -> str:
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(f"{c.path} {c.kind}" for c in changes[:3]) + more


@command("moves")
@click.argument("name")
@click.option("--branch", help="Only this one; it need not be there any more. Default: all.")
@click.option("--limit", default=20, show_default=True)
@click.option("--after", help="Go on after this page: the value of `next` of the page before.")
@click.pass_obj
def moves(shell: Shell, name: str, branch: str | None, limit: int, after: str | None) -> None:
    """Show where branches went, newest first: who moved them, when, by what, from and to.

    `noria data reset NAME FROM --branch BRANCH` undoes a move, as long as FROM was not dropped, squashed or pruned.
    """
    page = shell.ws.files.moves(get(shell, name), branch, limit=limit, after=after)
    out = [move_out(move) for move in page.items]
    seen = [[to_text(move.at), move.branch, one.verb, _short(move.before), _short(move.after), move.actor]
            for move, one in zip(page.items, out, strict=True)]  # fmt: skip

    def human() -> None:
        shell.table(["at", "branch", "by", "from", "to", "who"], seen)
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    shell.emit([plain(one) for one in out], human)


def _short(commit: str | None) -> str:
    return "" if commit is None else commit[:12]


@command("diff")
@click.argument("name")
@click.argument("before")
@click.argument("after", default=MAIN)
@click.pass_obj
def diff(shell: Shell, name: str, before: str, after: str) -> None:
    """Compare two commits: files, or rows with samples."""
    repository, ws = get(shell, name), shell.ws
    if repository.kind == RepositoryKind.FILES:
        found = ws.data.diff(repository, before, after)
        rows = [[c.kind, c.path, c.size_before, c.size_after] for c in found]
        value = [plain(path_change_out(c)) for c in found]
        shell.emit(value, lambda: shell.table(["", "path", "before", "after"], rows, right=["before", "after"]))
        return
    out = rows_diff_out(ws.data.compare_rows(repository, before, after))
    shell.emit(plain(out), lambda: say_rows_diff(shell, out))


@command("branch")
@click.argument("name")
@click.argument("branch", required=False)
@click.option("--at", default=MAIN, show_default=True)
@click.option("--delete", is_flag=True, help="Remove it; its commits are found by their ids until they are pruned.")
@click.pass_obj
def branch(shell: Shell, name: str, branch: str | None, at: str, delete: bool) -> None:
    """Make a branch, remove one, or list them."""
    files, repository = shell.ws.files, get(shell, name)
    if branch is None:
        found = files.branches(repository)
        rows = [[b.name, b.head and b.head[:12], to_text(b.updated_at)] for b in found]
        shell.emit([plain(branch_out(b)) for b in found], lambda: shell.table(["branch", "commit", "moved at"], rows))
    elif delete:
        head = files.delete_branch(repository, branch, actor=shell.ws.actor)
        shell.emit({"branch": branch, "head": head}, f"{name}@{branch} is gone; it stood at {(head or '')[:12]}.")
    else:
        made = files.create_branch(repository, branch, at=at, actor=shell.ws.actor)
        shell.emit({"branch": made.name, "head": made.head}, f"{name}@{made.name} at {(made.head or '')[:12]}.")


@command("tag")
@click.argument("name")
@click.argument("tag", required=False)
@click.option("--at", default=MAIN, show_default=True)
@click.option("--delete", is_flag=True)
@click.pass_obj
def tag(shell: Shell, name: str, tag: str | None, at: str, delete: bool) -> None:
    """Give a commit a name that does not move, remove one, or list them."""
    files, repository = shell.ws.files, get(shell, name)
    if tag is None:
        found = files.tags(repository)
        rows = [[t, commit[:12]] for t, commit in found.items()]
        shell.emit(found, lambda: shell.table(["tag", "commit"], rows))
    elif delete:
        files.delete_tag(repository, tag, actor=shell.ws.actor)
        shell.emit({"tag": tag}, f"{name} has no tag {tag} any more.")
    else:
        commit = files.tag(repository, tag, at=at, actor=shell.ws.actor)
        shell.emit({"tag": tag, "commit": commit}, f"{name}@{tag} is {commit[:12]}.")
