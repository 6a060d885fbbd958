"""Wire shapes of hooks."""

from __future__ import annotations

import msgspec

from noria.data.hooks import AppliedHook


class HookOut(msgspec.Struct):
    name: str
    event: str
    on: list[str]
    branch: str
    entry: str


class HookPage(msgspec.Struct):
    items: list[HookOut]


def hook_out(hook: AppliedHook) -> HookOut:
    return HookOut(hook.name, hook.event, list(hook.on), hook.branch, hook.entry)
