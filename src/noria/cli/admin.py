from __future__ import annotations

import click

from noria.base.times import duration_text, parse_duration, to_text
from noria.terminal import Shell, group

admin = group("admin", "Migrate, back up, verify, prune, audit.")


@admin.command()
@click.pass_obj
def migrate(shell: Shell) -> None:
    """Bring an older workspace to this version; writes a backup first."""
    from noria.workspace import migrate as run

    with shell.progress("Backup and migration"):
        before, after, backup = run(shell.url)
    value = {"before": before, "after": after, "backup": backup}
    done = f"Schema revision {before} -> {after}." if before != after else f"Revision {after} already."
    shell.emit(value, done + (f" Backup: {backup}" if backup else ""))


@admin.command()
@click.argument("target", type=click.Path(dir_okay=False))
@click.pass_obj
def backup(shell: Shell, target: str) -> None:
    """Write a consistent copy of the metadata (SQLite) to TARGET. Packs are immutable files: copy them as they are."""
    from pathlib import Path

    from noria.base.errors import Invalid

    with shell.progress("Copying"):
        made = shell.ws.db.backup(Path(target))
    if made is None:
        raise Invalid("A PostgreSQL workspace is backed up by PostgreSQL itself.", hint="pg_dump --format=custom ...")
    shell.emit({"backup": made}, f"Written: {made}")


@admin.command()
@click.option("--data", is_flag=True, help="Read and hash every byte, too.")
@click.pass_obj
def verify(shell: Shell, data: bool) -> None:
    """Check that every row has its objects, and with --data every byte."""
    with shell.progress("Verifying") as advance:
        faults = shell.ws.verify(data=data, advance=advance)

    def human() -> None:
        for fault in faults:
            shell.say(f"- {fault}")
        shell.say(f"{len(faults)} faults." if faults else "Everything holds.")

    shell.emit({"faults": faults}, human)
    if faults:
        raise click.exceptions.Exit(1)


@admin.command()
@click.pass_obj
def prune(shell: Shell) -> None:
    """Remove what is older than its retention: records, logs, captured segments. A server does it once a day."""
    removed = shell.ws.retention.prune(shell.ws.project.id)
    shell.emit({"removed": removed}, lambda: shell.table(["what", "removed"], removed.items(), right=["removed"]))


@admin.command()
@click.pass_obj
def pack(shell: Shell) -> None:
    """Merge small packs of the store into larger ones; remove those merged earlier. A server does it each day."""
    done = shell.ws.packing.run(enough=2)
    value = {"merged": done.merged, "made": done.made, "bytes": done.size}
    merged = f"{done.merged} packs merged into {done.made}" if done.merged else "Nothing to merge"
    waiting = f", {done.waiting} wait for the next time" if done.waiting else ""
    text = f"{merged}; {done.removed} removed{waiting}."
    shell.emit({**value, "removed": done.removed, "waiting": done.waiting}, text)


@admin.command()
@click.argument("what", required=False)
@click.argument("keep", required=False)
@click.pass_obj
def retention(shell: Shell, what: str | None, keep: str | None) -> None:
    """Show how long records are kept, or set it: noria admin retention events 90d"""
    ws = shell.ws
    if what is not None and keep is not None:
        with ws.changes.begin("admin.retention", ws.project.id, ws.actor) as change:
            ws.retention.set(change.tx, ws.project.id, what, parse_duration(keep))
            change.note(what, keep=keep)
    settings = {name: duration_text(ms) for name, ms in sorted(ws.retention.settings(ws.project.id).items())}
    shell.emit(settings, lambda: shell.table(["what", "kept"], settings.items()))


@admin.command()
@click.argument("what", required=False)
@click.argument("most", required=False)
@click.pass_obj
def quota(shell: Shell, what: str | None, most: str | None) -> None:
    """Show how much this project may hold and holds, or set it: noria admin quota runs 100000, or none"""
    from noria.base.errors import Invalid
    from noria.tracking.quotas import WHAT

    ws = shell.ws
    if what is not None and most is not None:
        plain = most.replace("_", "").replace(",", "")
        if plain != "none" and not (plain.isascii() and plain.isdecimal()):
            raise Invalid(f"{most!r:.60} is no limit.", hint="Write a number, or none.")
        limit = None if plain == "none" else int(plain[:20])
        ws.tracking.set_quota(ws.project.id, what, limit, actor=ws.actor)
    found = ws.tracking.quotas(ws.project.id)
    value = {name: {"most": limit, "used": used} for name, (limit, used) in found.items()}
    rows = [
        [name, "none" if limit is None else f"{limit:,}", "" if used is None else f"{used:,}", WHAT[name]]
        for name, (limit, used) in found.items()
    ]
    shell.emit(value, lambda: shell.table(["quota", "limit", "used", "of"], rows, right=["limit", "used"]))


@admin.command()
@click.option("--verify", "check", is_flag=True, help="Check the hash chain.")
@click.option("--limit", default=20, show_default=True)
@click.pass_obj
def audit(shell: Shell, check: bool, limit: int) -> None:
    """Show who changed what."""
    ws = shell.ws
    if check:
        faults = ws.audit.verify(ws.project.id)
        shell.emit({"faults": faults}, "\n".join(faults) or "The chain holds.")
        if faults:
            raise click.exceptions.Exit(1)
        return
    entries = ws.audit.list(ws.project.id, limit=limit).items
    value = [
        {"seq": e.seq, "at": to_text(e.at), "actor": e.actor, "verb": e.verb, "subject": e.subject} for e in entries
    ]
    shell.emit(
        value,
        lambda: shell.table(["#", "at", "actor", "verb", "subject"], [list(v.values()) for v in value], right=["#"]),
    )


@admin.command()
@click.option("--dead", is_flag=True, help="Only deliveries that were given up.")
@click.option("--after", default=0, metavar="ID", help="Only those after this event.")
@click.option("--type", "types", multiple=True, help="For instance model.registered; several times.")
@click.option("--limit", default=20, show_default=True)
@click.pass_obj
def events(shell: Shell, dead: bool, after: int, types: tuple[str, ...], limit: int) -> None:
    """Show what happened, newest first; with --after oldest first, to read on from there."""
    ws = shell.ws
    if dead:
        value = [{"id": e.id, "type": e.type, "to": to, "error": error} for e, to, error in ws.deliveries.dead()]
        shell.emit(value, lambda: shell.table(["id", "type", "to", "error"], [list(v.values()) for v in value]))
        return
    kinds = list(types) or None
    found = ws.assets.list_events(ws.project.id, types=kinds, after=after, limit=limit, newest=after == 0)
    rows = [{"id": e.id, "at": to_text(e.event_ms), "type": e.type, "subject": e.subject} for e in found]
    shell.emit(rows, lambda: shell.table(["id", "at", "type", "subject"], [list(v.values()) for v in rows]))


@admin.command()
@click.option("--test", "id", metavar="ID", help="Send it an example now, from here.")
@click.option("--event", metavar="NAME", help="Of which an example is sent; the first that it hears of by default.")
@click.option("--webhook-host", "hosts", multiple=True, metavar="HOST[:PORT]", help="Where --test may send to.")
@click.option("--limit", default=100, show_default=True)
@click.option("--after", metavar="TOKEN", help="Go on behind an earlier page: its `next` under --json.")
@click.pass_obj
def webhooks(
    shell: Shell, id: str | None, event: str | None, hosts: tuple[str, ...], limit: int, after: str | None
) -> None:
    """Show webhooks and what came of the last message to each, or test one. MLflow's clients make and change them."""
    import msgspec

    from noria.gateways.mlflow.webhooks import MlflowForm
    from noria.webhooks import Sender, allowed_places
    from noria.webhooks import wire as w

    ws = shell.ws
    if id is not None:
        places = allowed_places(hosts)
        sender = ws.webhooks.sender = Sender(ws.webhooks, ws.deliveries, ws.project.id, MlflowForm(ws), places)
        try:
            outcome = w.outcome_out(ws.webhooks.test(ws.project.id, id, event).result())
        finally:
            sender.stop()
        text = f"It arrived: {outcome.status}." if outcome.arrived else f"It did not arrive. {outcome.error}"
        shell.emit(msgspec.to_builtins(outcome), lambda: shell.say(text.replace("[", "\\[")))
        if not outcome.arrived:
            raise click.exceptions.Exit(1)
        return
    page = ws.webhooks.list(ws.project.id, limit=limit, after=after)
    made = [w.webhook_out(one) for one in page.items]
    rows = [
        [
            one.id,
            one.name,
            one.url,
            ", ".join(one.events),
            "on" if one.active else "off",
            str(one.sent),
            str(one.failed),
            one.last_error or str(one.last_status or ""),
        ]
        for one in made
    ]
    columns = ["id", "name", "to", "events", "state", "sent", "failed", "last"]
    shell.emit(
        {"items": msgspec.to_builtins(made), "next": page.next},
        lambda: shell.table(columns, rows, right=["sent", "failed"]),
    )
