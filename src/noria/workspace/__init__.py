"""The composition root: from a URL to everything."""

from __future__ import annotations

from noria.workspace.composition import CAPTURE, FORMATS, SUBSCRIPTIONS, Workspace
from noria.workspace.errors import WorkspaceExists, WorkspaceMissing, WorkspaceUrlInvalid
from noria.workspace.location import HOME, place_of, redacted
from noria.workspace.opening import connect, ensure, init, migrate

__all__ = [
    "CAPTURE",
    "FORMATS",
    "HOME",
    "SUBSCRIPTIONS",
    "Workspace",
    "WorkspaceExists",
    "WorkspaceMissing",
    "WorkspaceUrlInvalid",
    "connect",
    "ensure",
    "init",
    "migrate",
    "place_of",
    "redacted",
]
