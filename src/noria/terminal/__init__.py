"""What every command of the shell is made of: output for people and for programs, progress, errors, exit codes."""

from __future__ import annotations

from noria.terminal.commands import LazyGroup, NoriaCommand, NoriaGroup, command, group
from noria.terminal.shell import Shell

__all__ = ["LazyGroup", "NoriaCommand", "NoriaGroup", "Shell", "command", "group"]
