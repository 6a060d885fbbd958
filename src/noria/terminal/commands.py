"""Click, with what every command of ours has: ``--json``, ``--workspace``, ``--project``, lazy sub-commands."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import click

from noria.base.names import nearest
from noria.terminal.shell import Shell


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Shell), name, value)

    return callback


def _shared() -> list[click.Option]:
    return [
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_store("json"), help="Answer with JSON."),
        click.Option(
            ["-w", "--workspace"],
            metavar="URL",
            expose_value=False,
            callback=_store("url"),
            help="A folder or postgresql:// URL. Default: the nearest project's.",
        ),
        click.Option(
            ["--project"], metavar="NAME", expose_value=False, callback=_store("project"), help="Another project."
        ),
    ]


class NoriaCommand(click.Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared()


class NoriaGroup(click.Group):
    command_class = NoriaCommand
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = nearest(args[0], self.list_commands(ctx)) if args else ""
            raise click.UsageError(f"{error.message} {hint}".rstrip(), ctx=ctx) from None


class LazyGroup(NoriaGroup):
    """A group whose commands are imported when they are called: ``--help`` imports none of them.

    Args:
        lazy: name -> (``module:attribute``, one line of help).
        sections: heading -> names, for a help of many commands; without it all stand in one list.
    """

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, tuple[str, str]],
        sections: dict[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.sections = sections or {"Commands": list(lazy)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.lazy[name][1]) for name in names])


def command(name: str | None = None, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of its own, outside of a group."""
    return click.command(name, cls=NoriaCommand, **kwargs)


def group(name: str, help: str) -> NoriaGroup:
    return NoriaGroup(name, help=help)
