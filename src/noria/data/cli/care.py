"""Commands that keep the store healthy."""

from __future__ import annotations

import click

from noria.base.times import duration_text
from noria.data.cli.shared import plain
from noria.terminal import Shell, command


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
