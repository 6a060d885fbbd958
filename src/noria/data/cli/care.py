"""Commands that keep the store healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from noria.base.times import duration_text
from noria.data.cli.shared import counted, get, plain
from noria.terminal import Shell, command

if TYPE_CHECKING:
    from noria.data.service.care.checking import Damage


def size_text(size: int) -> str:
    """Bytes for people: 0 B, 12.3 KB, 4.0 MB."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


@command("gc")
@click.option("--run", "--yes", "go", is_flag=True, help="Do it. Without this, only what would go is shown.")
@click.option("--dry-run", is_flag=True, help="Only show what would go (the default).")
@click.option("--wait", default=0.0, help="Seconds to wait for writers that began before.", show_default=True)
@click.pass_obj
def gc(shell: Shell, go: bool, dry_run: bool, wait: float) -> None:
    """Remove stored bytes that nothing needs; shows what would go, and does it with --run."""
    from noria.data.wire.care import collected_out

    with shell.progress("Looking for what is needed") as advance:
        done = shell.ws.care.collect(dry_run=dry_run or not go, wait=wait, actor=shell.ws.actor, advance=advance)

    def human() -> None:
        would = "would go" if done.dry_run else "go"
        shell.say(f"{done.packs} packs, {size_text(done.size)}; {done.objects} objects are needed.")
        stray = f" ({done.stray} of them of writers that never finished)" if done.stray else ""
        shell.say(f"{done.dead} packs with nothing needed {would}: {size_text(done.dead_bytes)}{stray}.")
        if done.rewritten:
            copied, whole = size_text(done.copied_bytes), size_text(done.rewritten_bytes)
            shell.say(f"{done.rewritten} packs under half needed {would}: {copied} of {whole} copied first.")
        if done.adopted:
            shell.say(f"{done.adopted} packs without a record hold something needed; they have one now.")
        if done.dry_run:
            for fault in done.faults[:10]:
                shell.say(f"- damaged: {fault}")
            shell.say(f"Frees {size_text(done.freed)}. To do it: noria data gc --run")
            return
        shell.say(f"{done.removed} files deleted, {size_text(done.removed_bytes)}.")
        if done.reprieved:
            shell.say(f"{done.reprieved} packs are needed again and stay.")
        if done.waiting:
            shell.say(
                f"{done.waiting} packs wait for writers that began before, at most {duration_text(600_000)}: "
                "run it again, or leave it to the server, which does it each day."
            )

    shell.emit(plain(collected_out(done)), human)


@command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also where runs read it: they cannot be traced to its rows any more.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(shell: Shell, name: str, force: bool, yes: bool) -> None:
    """Delete a repository with its whole history; its name stays in the lineage."""
    from noria.data.wire.care import deleted_out

    ws, repository = shell.ws, get(shell, name)
    forced = " --force" if force else ""
    shell.confirm(
        f"{name} would be deleted with all its branches, tags and commits.",
        yes=yes,
        again=f"noria data delete {name}{forced} --yes",
        typed=name,
    )
    done = ws.data.delete(repository, actor=ws.actor, force=force)
    kept = f" {done.kept} versions stay, since something else needs them." if done.kept else ""
    shell.emit(
        plain(deleted_out(done)),
        f"{name}: {counted(done.commits, 'commit')} deleted.{kept} Its bytes go with: noria data gc --run",
    )


@command("storage")
@click.argument("name", required=False)
@click.option("--commits", is_flag=True, help="Of each commit of NAME (the default where NAME is given).")
@click.pass_obj
def storage(shell: Shell, name: str | None, commits: bool) -> None:
    """Show what repositories, or the commits of one, need of the store."""
    from noria.data.wire.care import storage_out

    if commits and name is None:
        raise click.UsageError("--commits needs the NAME of a repository.")
    with shell.progress("Walking") as advance:
        if name is None:
            found = shell.ws.care.storage(advance)
        else:
            found = shell.ws.care.storage_of_commits(get(shell, name), advance)
    first = "repository" if name is None else "commit"
    columns = [first, "commits", "content", "stored", "added", "only here"]
    rows = [
        [n.name if name is None else n.name[:12], n.commits]
        + [size_text(size) for size in (n.logical, n.stored, n.added, n.exclusive)]
        for n in found
    ]
    if name is not None:
        columns, rows = [c for c in columns if c != "commits"], [[r[0], *r[2:]] for r in rows]
    shell.emit(plain(storage_out(found))["items"], lambda: shell.table(columns, rows, right=columns[1:]))


@command("check")
@click.argument("name", required=False)
@click.option("--full", is_flag=True, help="Read and hash every byte, too.")
@click.pass_obj
def check(shell: Shell, name: str | None, full: bool) -> None:
    """Check that every commit has its bytes; names pack, offset, and who uses what is damaged."""
    from noria.data.wire.care import checked_out

    repository = None if name is None else get(shell, name)
    with shell.progress("Checking") as advance:
        found = shell.ws.care.check(repository, full=full, advance=advance)

    def human() -> None:
        _say_damage(shell, found.damage)
        how = "every byte read" if found.full else "structure only; --full reads every byte"
        text = f"{len(found.damage)} things do not hold" if found.damage else "Everything holds"
        shell.say(f"{text} ({found.packs} packs, {found.objects} objects, {how}).")
        if found.damage:
            shell.say("To heal what can be healed: noria data repair")

    shell.emit(plain(checked_out(found)), human)
    if found.damage:
        raise click.exceptions.Exit(1)


@command("repair")
@click.pass_obj
def repair(shell: Shell) -> None:
    """Heal what can be healed, set damaged packs aside; never makes anything up."""
    from noria.data.wire.care import repaired_out

    with shell.progress("Repairing") as advance:
        done = shell.ws.care.repair(actor=shell.ws.actor, advance=advance)

    def human() -> None:
        _say_damage(shell, done.lost)
        aside = f", {len(done.quarantined)} packs set aside in damaged/ of the store" if done.quarantined else ""
        shell.say(f"{done.healed} objects healed{aside}; {len(done.lost)} lost.")
        if done.lost:
            shell.say("Restore the packs from a backup, or commit the files again: noria data commit")

    shell.emit(plain(repaired_out(done)), human)
    if done.lost:
        raise click.exceptions.Exit(1)


@command("purge")
@click.argument("name")
@click.option("--path", help="Glob of files; * crosses folders, and the name of a folder means all in it.")
@click.option("--rows", help="Condition in SQL for rows of a table: what stands after WHERE.")
@click.option("--key", "keys", multiple=True, metavar="COLUMN=VALUE", help="Rows with this value; several times: and.")
@click.option("--reason", default="", help="Why. It is kept, with who and when; never what was erased.")
@click.option("--yes", is_flag=True, help="Do it. Without this, only what would go is shown.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for writers that began before.")
@click.pass_obj
def purge(
    shell: Shell,
    name: str,
    path: str | None,
    rows: str | None,
    keys: tuple[str, ...],
    reason: str,
    yes: bool,
    wait: float,
) -> None:
    """Erase paths or rows from all history, bytes and all; shows what would go, and does it with --yes.

    A row in quarantine stays only where the condition can be evaluated on it, and is not met. Lines that are no rows,
    values that do not fit the table and batches without the columns are erased, too, and so are lines that were set
    aside with a text of the condition in another column; their number is told.
    """
    from noria.data.service.care.purge import Erase
    from noria.data.wire.care import erased_out

    ws, repository = shell.ws, get(shell, name)
    key = dict(_pair(text) for text in keys)
    what = Erase(path=path, rows=rows, key=key)
    with shell.progress(f"Erasing from {name}" if yes else f"Looking through {name}") as advance:
        if yes:
            done = ws.care.purge(repository, what, reason=reason, actor=ws.actor, wait=wait, advance=advance)
        else:
            done = ws.care.look(repository, what, advance)

    def human() -> None:
        found = counted(done.paths, "path") if path is not None else counted(done.rows, "stored row")
        were = (
            "would be erased from" if not yes else "was erased from" if found.startswith("1 ") else "were erased from"
        )
        commits, batches = counted(done.commits, "commit"), counted(done.batches, "refused batch")
        shell.say(f"{found} {were} {commits} and {batches} of {name}.")
        if done.undecided:
            shell.say(
                f"{done.undecided} more rows of refused batches {were} quarantine: they do not fit the table, so it "
                "cannot be told whether they are meant."
            )
        if done.unseen:
            shell.say(f"{done.unseen} versions lack the columns; their rows were not looked at.")
        if done.shared:
            shell.say(
                f"{done.shared} of {done.objects} stored objects stay, since something else needs the same bytes."
            )
        shell.say("What else may hold a copy:")
        for place in done.elsewhere:
            shell.say(f"- {escape(place)}")
        if not yes and not (done.paths or done.rows or done.batches or done.undecided):
            shell.say("There is nothing to erase.")
        elif not yes:
            shell.say("To do it: the same with --reason TEXT --yes. It cannot be undone.")
        elif done.done:
            shell.say(f"Erasure {done.number} is done; {size_text(done.freed)} of files deleted.")
        else:
            shell.say(
                f"Erasure {done.number} is not done: writers that began before are at work, or a pack is damaged. "
                "The same command again finishes it."
            )

    shell.emit(plain(erased_out(done)), human)
    if yes and not done.done:
        raise click.exceptions.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.UsageError(f"--key {text!r}: write COLUMN=VALUE.")
    return name, value


@command("erasures")
@click.argument("name", required=False)
@click.pass_obj
def erasures(shell: Shell, name: str | None) -> None:
    """List what was erased, when, by whom and why; never what it held."""
    from noria.data.wire.care import erasures_out

    found = erasures_out(shell.ws.care.erasures(name)).items
    rows = [[e.number, e.repository, _stated(e.what), e.reason, e.actor, e.state, e.created_at] for e in found]
    columns = ["number", "repository", "what", "reason", "by", "state", "at"]
    shell.emit([plain(e) for e in found], lambda: shell.table(columns, rows, right=["number"]))


def _stated(what: dict[str, Any]) -> str:
    return what["path"] if "path" in what else f"rows by {', '.join(what['columns'])}"


def _say_damage(shell: Shell, found: list[Damage]) -> None:
    for damage in found:
        shell.say(f"- {escape(damage.what)}")
        for user in damage.users:
            shell.say(f"    needed by {escape(user)}")
        if damage.more:
            shell.say(f"    and {damage.more} more")
