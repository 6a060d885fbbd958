"""Committing a folder of small files, against copying it."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import blake3

from bench.places import ME, folder, project
from bench.result import Result, in_turns, seconds
from noria.data.records import RepositoryKind

_CHANGES = 10
_HOUR = 3600


def _make(root: Path, count: int) -> list[Path]:
    """Files of 0.5 to 4 KiB, a hundred in a folder, as old as files that somebody works with usually are."""
    rng = random.Random(1)
    old = time.time() - _HOUR
    made: list[Path] = []
    for number in range(count):
        path = root / f"{number // 100:04d}" / f"{number:06d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randint(512, 4096)))
        os.utime(path, (old, old))
        made.append(path)
    return made


def _scan(root: Path) -> int:
    """Asks for the size and times of every file: what any tool has to do that looks for changes."""
    total = 0
    for entry in os.scandir(root):
        total += _scan(Path(entry.path)) if entry.is_dir() else entry.stat().st_size
    return total


def _pack(files: list[Path], target: Path) -> None:
    """The bare limit of what we do: read every file, hash it, append it to one file, make that durable."""
    with target.open("wb") as out:
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            data = os.read(descriptor, 1 << 20)
            os.close(descriptor)
            out.write(blake3.blake3(data).digest())
            out.write(data)
        out.flush()
        os.fsync(out.fileno())


def measure(*, quick: bool = False) -> list[Result]:
    """The folder is in the page cache. Each commit of all goes to a new workspace; ours is durable, the copy is not.

    Nothing is deleted before the end: for minutes after a deletion ext4 looks for inodes that were not used lately,
    and ``cp -r`` of so many files then takes ten times as long.
    """
    count, rounds = (1000, 1) if quick else (10_000, 5)
    with ExitStack() as stack:
        here = stack.enter_context(folder())
        files = _make(here / "files", count)
        numbers = itertools.count()

        def commit_all() -> float:
            fresh = stack.enter_context(project())
            repository = fresh.data.create(fresh.project.id, "files", RepositoryKind.FILES, actor=ME)
            return seconds(lambda: fresh.data.commit(repository, here / "files", actor=ME))

        def copy() -> float:
            command = ["cp", "-r", "files", f"copy{next(numbers)}"]
            return seconds(lambda: subprocess.run(command, cwd=here, check=True))

        def pack() -> float:
            return seconds(lambda: _pack(files, here / f"pack{next(numbers)}"))

        ws = stack.enter_context(project())

        def commit_some() -> float:
            for path in random.Random(time.time_ns()).sample(files, _CHANGES):
                path.write_bytes(os.urandom(1024))
            return 1000 * seconds(lambda: ws.data.commit(repository, here / "files", actor=ME))

        whole, copied, packed = in_turns(rounds, commit_all, copy, pack)
        repository = ws.data.create(ws.project.id, "files", RepositoryKind.FILES, actor=ME)
        ws.data.commit(repository, here / "files", actor=ME)
        some, scanned = in_turns(rounds, commit_some, lambda: 1000 * seconds(lambda: _scan(here / "files")))
    name = f"commit of {count:,} small files"
    return [
        Result(
            name=name,
            unit="s",
            ours=whole,
            peer=copied,
            peer_name="cp -r",
            goal=0.15,
            compare="ratio",
        ),
        Result(name=name, unit="s", ours=whole, peer=packed, peer_name="read, hash, one file"),
        Result(
            name=f"commit of {_CHANGES} changes among them",
            unit="ms",
            ours=some,
            peer=scanned,
            peer_name="scan",
            goal=50,
            compare="difference",
        ),
    ]
