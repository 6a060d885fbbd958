"""Versioned files at the size of real data, beside ``cp``, a bare walk, and other tools that are installed.

DVC is asked where ``NORIA_BENCH_DVC`` names its command; restic, borg and git-annex where they are on the PATH. Each
figure is a wall time; a second line of the same name gives the processor time (user and system) of the same rounds,
which tells more on a busy machine.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3

from bench.places import ME, folder, project
from bench.result import Compare, Result, in_turns
from noria.data.records import RepositoryKind
from noria.store import Kind, ObjectStore, files, tree
from noria.store.local import LocalBytes
from noria.workspace import Workspace

_CHANGES = 10
_HOUR = 3600
_MIB = 1 << 20
_PEAK = """
import sys
from pathlib import Path
from bench.places import ME, project
from noria.data.records import RepositoryKind
with project() as ws:
    repository = ws.files.create(ws.project.id, "files", RepositoryKind.FILES, actor=ME)
    ws.files.commit(repository, Path(sys.argv[1]), actor=ME)
# Not getrusage: a process starts with the peak of the one that made it.
print(next(int(line.split()[1]) // 1024 for line in Path("/proc/self/status").open() if line.startswith("VmHWM")))
"""


class Timed:
    """Wall and processor time of works that take turns."""

    def __init__(self) -> None:
        self._cpu: dict[Any, list[float]] = {}

    def of(self, work: Callable[[], object], before: Callable[[], object] | None = None) -> Callable[[], float]:
        """The work as ``in_turns`` wants it; ``before`` is not timed."""
        spent = self._cpu.setdefault(work, [])

        def timed() -> float:
            if before is not None:
                before()
            used, start = _used(), time.perf_counter()
            work()
            wall = time.perf_counter() - start
            spent.append(_used() - used)
            return wall

        timed.work = work  # type: ignore[attr-defined]
        return timed

    def cpu(self, timed: Callable[[], float]) -> float:
        """The median of the processor time, without the first round."""
        return statistics.median(self._cpu[timed.work][1:])  # type: ignore[attr-defined]


def _used() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _pair(
    name: str,
    timed: Timed,
    ours: tuple[Callable[[], float], float],
    peer: tuple[Callable[[], float], float],
    peer_name: str,
    *,
    goal: float | None = None,
    compare: Compare = "ratio",
    unit: str = "s",
) -> list[Result]:
    scale = 1000 if unit == "ms" else 1
    wall = {"ours": scale * ours[1], "peer": scale * peer[1], "peer_name": peer_name, "unit": unit}
    cpu = {"ours": scale * timed.cpu(ours[0]), "peer": scale * timed.cpu(peer[0]), "unit": unit}
    return [
        Result(name=name, **wall, goal=goal, compare=compare),
        Result(name=f"{name}: processor", **cpu, peer_name=peer_name, compare=compare),
    ]


def _make(root: Path, count: int) -> list[str]:
    """Files of 1 to 4 KiB that do not shrink, a hundred in a folder, an hour old."""
    rng, old = random.Random(1), time.time() - _HOUR
    made: list[str] = []
    for number in range(count):
        if number % 100 == 0:
            (root / f"{number // 100:04d}").mkdir(parents=True)
        path = f"{root}/{number // 100:04d}/{number:06d}.bin"
        Path(path).write_bytes(rng.randbytes(rng.randint(1024, 4096)))
        os.utime(path, (old, old))
        made.append(path)
    return made


def _scan(place: str) -> int:
    """Asks for the size and times of every file: what any tool has to do that looks for changes."""
    total = 0
    for entry in os.scandir(place):
        if entry.is_dir(follow_symlinks=False):
            total += _scan(entry.path)
        else:
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _pack(paths: list[str], target: Path) -> None:
    """The bare limit of what we do: read every file, hash it, append it to one file, make that durable."""
    with target.open("wb") as out:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            data = os.read(descriptor, 1 << 16)
            os.close(descriptor)
            out.write(blake3.blake3(data).digest())
            out.write(data)
        out.flush()
        os.fsync(out.fileno())


@dataclass(frozen=True)
class _Tool:
    """Another tool that is there.

    Attributes:
        prepare: what is not timed: a new repository.
        store: stores the folder in it.
    """

    name: str
    prepare: Callable[[], object]
    store: Callable[[], object]


def _others(here: Path, source: Path) -> Iterator[_Tool]:
    numbers = itertools.count()
    place = here

    def quiet(*command: str, **settings: str) -> None:
        subprocess.run(command, cwd=place, check=True, capture_output=True, env={**os.environ, **settings})

    def new() -> None:
        nonlocal place
        place = here / f"other{next(numbers)}"
        place.mkdir()

    dvc = os.environ.get("NORIA_BENCH_DVC")
    if dvc:

        def dvc_new() -> None:
            new()
            shutil.copytree(source, place / "files", copy_function=os.link)
            quiet(dvc, "init", "--no-scm", "-q")
            quiet(dvc, "config", "core.analytics", "false")

        yield _Tool("dvc add", dvc_new, lambda: quiet(dvc, "add", "-q", "files"))
    if shutil.which("restic"):
        secret = {"RESTIC_PASSWORD": "x"}

        def restic_new() -> None:
            new()
            quiet("restic", "init", "-q", "-r", ".", **secret)

        yield _Tool("restic", restic_new, lambda: quiet("restic", "backup", "-q", "-r", ".", str(source), **secret))
    if shutil.which("borg"):
        own = {"BORG_BASE_DIR": str(here / "borg")}

        def borg_new() -> None:
            new()
            quiet("borg", "init", "-e", "none", ".", **own)

        yield _Tool("borg", borg_new, lambda: quiet("borg", "create", ".::one", str(source), **own))
    if shutil.which("git-annex"):
        who = {"HOME": str(here), "GIT_CONFIG_GLOBAL": os.devnull}
        who |= {
            f"GIT_{role}_{what}": "bench@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

        def annex_new() -> None:
            new()
            shutil.copytree(source, place / "files")  # it takes the files themselves away
            quiet("git", "init", "-q", **who)
            quiet("git", "annex", "init", "-q", **who)

        def annex() -> None:
            quiet("git", "annex", "add", "-q", "files", **who)
            quiet("git", "commit", "-q", "-m", "one", **who)

        yield _Tool("git-annex", annex_new, annex)


def measure(*, quick: bool = False) -> list[Result]:
    """The folders are in the page cache. Commits are durable, copies are not.

    Nothing is deleted before the end: for minutes after a deletion ext4 looks for inodes that were not used lately,
    and ``cp -r`` of so many files then takes many times as long.
    """
    with ExitStack() as stack:
        here = stack.enter_context(folder())
        return [
            *_many(stack, here, 1_000 if quick else 100_000, 1 if quick else 3),
            *_beside_others(stack, here, 500 if quick else 20_000),
            *_million(here, 10_000 if quick else 1_000_000, 1 if quick else 5),
            *_big(stack, here, (16 if quick else 2048) * _MIB, 1 if quick else 3),
            *_inserts(here, (16 if quick else 1024) * _MIB),
        ]


def _many(stack: ExitStack, here: Path, count: int, rounds: int) -> list[Result]:
    source = here / "files"
    paths = _make(source, count)
    numbers, timed = itertools.count(), Timed()
    ws = stack.enter_context(project())
    repository = ws.files.create(ws.project.id, "files", RepositoryKind.FILES, actor=ME)
    first = ws.files.commit(repository, source, actor=ME)
    spare: list[Workspace] = []

    def fresh() -> None:
        spare.append(stack.enter_context(project()))
        spare[-1].files.create(spare[-1].project.id, "files", RepositoryKind.FILES, actor=ME)

    def commit_all() -> None:
        one = spare[-1].files
        one.commit(one.get(spare[-1].project.id, "files"), source, actor=ME)

    def copy() -> None:
        subprocess.run(["cp", "-r", "files", f"copy{next(numbers)}"], cwd=here, check=True)

    def restore() -> None:
        ws.files.checkout(repository, here / f"out{next(numbers)}", first.id)

    name = f"{count:,} files of 1-4 KB"
    works = [
        timed.of(commit_all, fresh),
        timed.of(copy),
        timed.of(lambda: _pack(paths, here / f"pack{next(numbers)}")),
        timed.of(restore),
    ]
    walls = in_turns(rounds, *works)
    found = [
        *_pair(f"commit of {name}", timed, (works[0], walls[0]), (works[1], walls[1]), "cp -r", goal=0.15),
        *_pair(f"commit of {name}", timed, (works[0], walls[0]), (works[2], walls[2]), "read, hash, one file"),
        *_pair(f"full restore of {name}", timed, (works[3], walls[3]), (works[1], walls[1]), "cp -r", goal=1.2),
    ]
    peak = subprocess.run([sys.executable, "-c", _PEAK, str(source)], check=True, capture_output=True, text=True)
    found.append(Result(name=f"memory of a commit of {name}", unit="MB", ours=float(peak.stdout), goal=400))

    out = here / "switched"
    ws.files.checkout(repository, out, first.id)
    stored: list[float] = []

    def change() -> None:
        for path in random.Random(time.time_ns()).sample(paths, _CHANGES):
            Path(path).write_bytes(os.urandom(1024))

    def size() -> int:
        return sum(path.stat().st_size for path in (ws.home / "store").rglob("*.pack"))

    def commit_some() -> None:
        ws.files.commit(repository, source, actor=ME)

    def noted() -> None:
        change()
        stored.append(size())

    turns = itertools.cycle(["main", "main~1"])
    works = [
        timed.of(lambda: ws.files.status(repository, source)),
        timed.of(lambda: _scan(str(source))),
        timed.of(commit_some, noted),
        timed.of(lambda: ws.files.checkout(repository, out, next(turns))),
        timed.of(lambda: _scan(str(out))),
    ]
    time.sleep(0.2)
    ws.files.status(repository, source)
    walls = in_turns(max(rounds, 5), *works)
    stored.append(size())
    each = statistics.median(b - a for a, b in itertools.pairwise(stored)) / _CHANGES - 1024 - 48
    scan, scan_out = (works[1], walls[1]), (works[4], walls[4])
    return [
        *found,
        *_pair(f"status of {name}", timed, (works[0], walls[0]), scan, "scan", goal=2),
        *_pair(f"commit of {_CHANGES} changes among {name}", timed, (works[2], walls[2]), scan, "scan",
               goal=50, compare="difference", unit="ms"),
        Result(name=f"metadata a change among {name}", unit="KB", ours=each / 1000, goal=15),
        *_pair(f"switch, {_CHANGES} of {name} differ", timed, (works[3], walls[3]), scan_out, "scan",
               goal=100, compare="difference", unit="ms"),
    ]  # fmt: skip


def _beside_others(stack: ExitStack, here: Path, count: int) -> list[Result]:
    """Fewer files, and one round after the first: some of the others take minutes."""
    source, timed = here / "some", Timed()
    _make(source, count)
    tools = list(_others(here, source))
    spare: list[Workspace] = []

    def fresh() -> None:
        spare.append(stack.enter_context(project()))
        spare[-1].files.create(spare[-1].project.id, "files", RepositoryKind.FILES, actor=ME)

    def commit() -> None:
        one = spare[-1].files
        one.commit(one.get(spare[-1].project.id, "files"), source, actor=ME)

    works = [timed.of(commit, fresh), *(timed.of(tool.store, tool.prepare) for tool in tools)]
    walls = in_turns(1, *works)
    name, found = f"commit of {count:,} files of 1-4 KB", list[Result]()
    for tool, work, wall in zip(tools, works[1:], walls[1:], strict=True):
        found += _pair(name, timed, (works[0], walls[0]), (work, wall), tool.name)
    return found


def _million(here: Path, count: int, rounds: int) -> list[Result]:
    """A tree without files, by API."""
    store = ObjectStore(LocalBytes(here / "million"), here / "million-cache")
    rng, timed = random.Random(1), Timed()
    keys = sorted(f"{number // 1000:05d}/{number:08d}.jpg".encode() for number in range(count))

    def row(key: bytes) -> list[Any]:
        return [key, 1, 0, 2000, int(Kind.CHUNK), rng.randbytes(32), {}]

    with store.writer() as writer:
        roots = [tree.build_rows(writer, [row(key) for key in keys])]
        writer.flush()
    stored: list[int] = []

    def apply() -> None:
        with store.writer() as writer:
            changes = {key: row(key) for key in rng.sample(keys, _CHANGES)}
            roots.append(tree.apply_rows(store, writer, roots[-1], changes))
            writer.flush()
            stored.append(writer.stored)

    works = [timed.of(apply), timed.of(lambda: tree.diff(store, roots[-2], roots[-1]))]
    walls = in_turns(rounds, *works)
    store.close()
    name = f"{count:,} entries"
    return [
        Result(name=f"{_CHANGES} changes to a tree of {name}", unit="ms", ours=1000 * walls[0], goal=50),
        Result(
            name=f"metadata a change to {name}", unit="KB", ours=statistics.median(stored) / _CHANGES / 1000, goal=15
        ),
        Result(name=f"diff of two trees of {name}", unit="ms", ours=1000 * walls[1], goal=50),
        Result(name=f"diff of two trees of {name}: processor", unit="ms", ours=1000 * timed.cpu(works[1])),
    ]


def _big(stack: ExitStack, here: Path, size: int, rounds: int) -> list[Result]:
    place = here / "big"
    place.mkdir()
    with (place / "file").open("wb") as file:
        for _ in range(size // _MIB):
            file.write(os.urandom(_MIB))
    os.utime(place / "file", (time.time() - _HOUR,) * 2)
    numbers, timed = itertools.count(), Timed()
    spare: list[Workspace] = []
    targets: list[Path] = []

    def fresh() -> None:
        spare.append(stack.enter_context(project()))
        spare[-1].files.create(spare[-1].project.id, "big", RepositoryKind.FILES, actor=ME)

    def commit() -> None:
        one = spare[-1].files
        one.commit(one.get(spare[-1].project.id, "big"), place, actor=ME)

    def checkout() -> None:
        one = spare[-1].files
        targets.append(here / f"bigout{next(numbers)}")
        one.checkout(one.get(spare[-1].project.id, "big"), targets[-1])

    def copy() -> None:
        targets.append(here / f"bigcopy{next(numbers)}")
        subprocess.run(["cp", "big/file", targets[-1]], cwd=here, check=True)

    works = [timed.of(commit, fresh), timed.of(copy), timed.of(checkout)]
    walls = in_turns(rounds, *works)
    name = f"one file of {size // _MIB:,} MiB"
    return [
        *_pair(f"commit of {name}", timed, (works[0], walls[0]), (works[1], walls[1]), "cp", goal=2),
        *_pair(f"restore of {name}", timed, (works[2], walls[2]), (works[1], walls[1]), "cp"),
    ]


def _inserts(here: Path, size: int) -> list[Result]:
    store = ObjectStore(LocalBytes(here / "inserts"), here / "inserts-cache")
    whole = b"".join(random.Random(n).randbytes(_MIB) for n in range(size // _MIB))

    def put(data: bytes) -> int:
        with store.writer() as writer:
            files.put_bytes(writer, data)
            writer.flush()
            return writer.stored

    put(whole)
    appended = put(whole + os.urandom(_MIB))
    middle = [put(whole[:at] + os.urandom(1024) + whole[at:]) for at in (size // 2, size // 3, size // 5)]
    store.close()
    name = f"a file of {size // _MIB:,} MiB"
    return [
        Result(name=f"stored for 1 MiB at the end of {name}", unit="MiB", ours=appended / _MIB, goal=1.1),
        Result(name=f"stored for 1 KiB in {name}", unit="MiB", ours=statistics.median(middle) / _MIB, goal=0.2),
    ]
