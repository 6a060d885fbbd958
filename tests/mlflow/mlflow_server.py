"""The control port of a workspace, served by this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import uvicorn

from noria.server.control import Server, Settings
from noria.workspace import Workspace


@contextlib.contextmanager
def serve(opened: Workspace) -> Iterator[str]:
    """The address of the control port of a workspace, served by a thread of this process."""
    control = Server(opened, Settings(port=0))
    config = uvicorn.Config(
        control.app(None), log_level="warning", access_log=False, lifespan="off", server_header=False,
        date_header=False, timeout_graceful_shutdown=5,
    )  # fmt: skip
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [control._socket]}, daemon=True)
    thread.start()
    try:
        yield control.url
    finally:
        running.should_exit = True
        thread.join()
        control._socket.close()
        control._writer.close()
