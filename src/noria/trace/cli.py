from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from noria.data.records import MAIN
from noria.data.values import key_of
from noria.terminal import Shell, command
from noria.trace.records import Node, Trail
from noria.trace.service import ROWS
from noria.trace.wire import trail_out

_SHORT = 12
_HEX = frozenset("0123456789abcdef")
_COUNT = click.IntRange(0, 1000)


@command("trace")
@click.argument("thing")
@click.argument("key", nargs=-1)
@click.option("--ref", default=MAIN, show_default=True, help="Of a row: the commit that has it.")
@click.option("--rows", default=ROWS, show_default=True, type=_COUNT, help="Rows of each look-up; 0: the commits only.")
@click.pass_obj
def trace(shell: Shell, thing: str, key: tuple[str, ...], ref: str, rows: int) -> None:
    """Follow a thing back to the rows it was made from, and forth to what it touched.

    THING is prediction:ID or ENDPOINT/ID, a run, model/3 or model@champion, an asset, a digest or a commit. With
    COLUMN=VALUE after the name of a table it is the row with this key.
    """
    with shell.progress(f"Following {thing}"):
        trail = shell.ws.trace.row(thing, key_of(key), ref=ref) if key else shell.ws.trace.trace(thing, rows=rows)
    shell.emit(msgspec.to_builtins(trail_out(trail)), lambda: _show(shell, trail))


def _show(shell: Shell, trail: Trail) -> None:
    table: list[list[str]] = []
    _lines(table, [trail.backward], "", top=True)
    shell.table(["comes from", "id", "facts"], table)
    if trail.forward:
        table = []
        _lines(table, trail.forward, "", top=True)
        shell.say()
        shell.table(["leads to", "id", "facts"], table)


def _lines(table: list[list[str]], nodes: Sequence[Node], indent: str, *, top: bool = False) -> None:
    for number, node in enumerate(nodes):
        last = number == len(nodes) - 1
        branch = "" if top else "└─ " if last else "├─ "
        label = f"{indent}{branch}{node.kind} {node.name if node.name != node.kind else ''}".rstrip()
        table.append([label, _id(node.id), _facts(node.facts)])
        _lines(table, node.children, indent if top else indent + ("   " if last else "│  "))


def _id(text: str) -> str:
    """Long ids by their beginning; a run's is told whole, since runs of one minute begin alike."""
    return text[:_SHORT] if len(text) > 32 and set(text) <= _HEX else text


def _facts(facts: dict[str, Any]) -> str:
    return "  ".join(f"{name}={_value(value)}" for name, value in facts.items())


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
