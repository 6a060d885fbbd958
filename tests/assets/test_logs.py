"""Log files: whose time is over, and which are too large."""

from __future__ import annotations

import os
from pathlib import Path

from noria.assets import logs
from noria.assets.logs import prune_logs
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.workspace import Workspace


def written(path: Path, text: str, at: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at / 1000, at / 1000))
    return path


def prune(ws: Workspace, before: int, project: ProjectId | None = None) -> int:
    with ws.db.write() as tx:
        return prune_logs(tx, project or ws.project.id, ws.home / "logs", before)


def test_logs_of_ended_runs_go_and_of_running_ones_stay(both: Workspace, actor: Actor) -> None:
    now = both.clock.now_ms()
    with both.db.write() as tx:
        running = both.assets.start_run(tx, both.project.id, kind="step", name="slow", actor=actor)
        ended = both.assets.record_run(tx, both.project.id, kind="step", name="fast", actor=actor)
    folder = both.home / "logs" / "runs"
    files = {one: written(folder / f"{one}.log", "x", now) for one in (running.id, ended)}
    assert prune(both, now - 1) == 0
    assert prune(both, now, both.assets.ensure_project("other").id) == 0
    assert prune(both, now) == 1
    assert [one for one, path in files.items() if path.exists()] == [running.id]


def test_the_log_of_a_process_keeps_its_end_and_goes_on(workspace: Workspace) -> None:
    folder = workspace.home / "logs"
    folder.mkdir(exist_ok=True)
    path = folder / "supervisor.log"
    with path.open("ab") as process:
        line = b"x" * 99 + b"\n"
        process.write(line * (logs.LARGEST // 100 + 1))
        process.flush()
        assert prune(workspace, 0) == 1
        assert path.stat().st_size <= 1 << 20
        assert path.read_bytes().startswith(line)
        process.write(b"on it goes\n")
        process.flush()
        assert path.read_bytes().endswith(line + b"on it goes\n")
        assert prune(workspace, 0) == 0
