"""How other processes of a machine talk to its supervisor: a Unix socket, one line of JSON each way."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, Final

from noria.base.errors import Unavailable
from noria.base.times import SECOND

LEASE = "supervisor"
LEASE_MS: Final = 15 * SECOND


class SupervisorGone(Unavailable):
    """No supervisor answers."""

    code = "supervisor_gone"


def socket_path(workspace_id: str, pid: int) -> Path:
    """A short path that only this user can reach; socket paths may have 100 characters, workspaces lie deeper."""
    folder = Path(tempfile.gettempdir()) / f"noria-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise Unavailable(f"{folder} belongs to somebody else or is open to others.", hint=f"chmod 700 {folder}")
    return folder / f"{workspace_id[:12]}-{pid}.sock"


def call(path: str, op: str, timeout: float = 60.0, **fields: Any) -> dict[str, Any]:
    """Asks a supervisor: ``sync``, ``flush``, ``status`` or ``stop``.

    Raises:
        SupervisorGone: nobody listens, or no answer came in time.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout)
            link.connect(path)
            link.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
            parts: list[bytes] = []
            while not (parts and parts[-1].endswith(b"\n")):
                part = link.recv(1 << 16)
                if not part:
                    break
                parts.append(part)
    except OSError as error:
        raise SupervisorGone(f"The supervisor of the endpoints does not answer: {error}.", hint="noria up") from None
    if not parts:
        raise SupervisorGone("The supervisor of the endpoints ended while it was asked.", hint="noria up")
    return json.loads(b"".join(parts))
