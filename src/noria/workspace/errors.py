from __future__ import annotations

from noria.base.errors import Conflict, Invalid, NotFound


class WorkspaceMissing(NotFound):
    """There is no workspace here."""

    code = "workspace_missing"


class WorkspaceExists(Conflict):
    """There is a workspace here already."""

    code = "workspace_exists"


class WorkspaceUrlInvalid(Invalid):
    """No workspace is opened by an URL of this kind."""

    code = "workspace_url_invalid"
