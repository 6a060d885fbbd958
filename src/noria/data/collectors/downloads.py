"""Objects of a bucket as local files, fetched once each and resumed.

A download that was interrupted goes on: objects that are whole are kept until they are committed, of a big one the
ranges that are there. Bytes of two states of an object are never put together: every request names the ETag.
"""

from __future__ import annotations

import errno
import hashlib
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import blake3

from noria.base.errors import DiskFull
from noria.data.collectors.url import alone, strong
from noria.data.errors import SourceFailed
from noria.store.buckets import Bucket, ObjectInfo
from noria.store.local import sync_file

RANGE: Final = 16 << 20
"""Objects larger than two of these are fetched by ranges, several at once."""
AT_ONCE: Final = 8
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')

Advance = Callable[..., None]


class Downloads:
    """Fetches objects of one bucket into a folder. Thread-safe; one process at a time fetches an object."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket = bucket
        self._folder = folder
        self._ranges = threading.Semaphore(AT_ONCE)

    def fetch(self, info: ObjectInfo, advance: Advance | None = None) -> Path:
        """The object as a file, whole and verified.

        Raises:
            ObjectChanged: it is no longer what the list said.
            SourceFailed: what arrives is not what the bucket says of it.
        """
        path = self._place(info)
        with alone(path.with_name(path.name + ".lock")):
            if path.exists() and path.stat().st_size == info.size:
                _report(advance, info.size)
                return path
            with _room(path):
                self._fetch(info, path, advance)
        return path

    def fetch_all(
        self, infos: Iterable[ObjectInfo], advance: Advance | None = None
    ) -> Iterator[tuple[ObjectInfo, Path]]:
        """Many objects, several at once, in the order in which they arrive."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="noria-fetch") as pool:
            waiting: dict[Future[Path], ObjectInfo] = {}
            try:
                for info in infos:
                    waiting[pool.submit(self.fetch, info, advance)] = info
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def drop(self, info: ObjectInfo) -> None:
        """The object was committed: the file is not needed any more."""
        path = self._place(info)
        for end in ("", ".part", ".ranges", ".lock"):
            path.with_name(path.name + end).unlink(missing_ok=True)

    def _place(self, info: ObjectInfo) -> Path:
        """One place for each state of an object; the name keeps its ending, which says what is in it."""
        state = f"{self._bucket.url.scheme}://{self._bucket.url.bucket}/{info.key}\n{info.etag}\n{info.version}"
        state += f"\n{info.size}\n{'' if info.etag else info.modified}"
        name = info.key.rsplit("/", 1)[-1][-60:]
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{blake3.blake3(state.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}-{name}"

    def _fetch(self, info: ObjectInfo, path: Path, advance: Advance | None) -> None:
        part = path.with_name(path.name + ".part")
        found = ""
        for last in (False, True):
            if strong(info.etag or "") and info.size > 2 * RANGE:
                self._by_ranges(info, part, advance)
            else:
                self._in_one(info, part, advance)
            before, found = found, _fault(part, info)
            if not found or (found == before and part.stat().st_size == info.size):
                break  # the same bytes twice: the ETag is no MD5 (of an object that is encrypted, for instance)
            self._forget(part)
            if last:
                raise SourceFailed(
                    f"{info.key} arrives with {found}, not as the bucket's list says ({info.size} bytes, {info.etag}).",
                    hint="Repeat the command. If it stays so, something between here and the bucket changes bytes.",
                )
        part.replace(path)
        path.with_name(path.name + ".ranges").unlink(missing_ok=True)

    def _in_one(self, info: ObjectInfo, part: Path, advance: Advance | None) -> None:
        have = part.stat().st_size if part.exists() and strong(info.etag or "") else 0
        if have >= info.size and info.size:
            have = 0
        _report(advance, have)
        with part.open("ab" if have else "wb") as file:
            _, pieces = self._bucket.stream(info.key, offset=have, if_match=info.etag)
            for piece in pieces:
                file.write(piece)
                _report(advance, len(piece))

    def _by_ranges(self, info: ObjectInfo, part: Path, advance: Advance | None) -> None:
        """Ranges that arrived are noted once their bytes are on the disk, in any order."""
        note = _note(part)
        done = {int(line) for line in note.read_text().split()} if note.exists() and part.exists() else set[int]()
        if not done:
            part.write_bytes(b"")
            with part.open("r+b") as file:
                file.truncate(info.size)
        count = -(-info.size // RANGE)
        _report(advance, min(info.size, len(done) * RANGE))
        lock = threading.Lock()

        def fetch(number: int) -> None:
            with self._ranges:
                start = number * RANGE
                data = self._bucket.read_part(info.key, start, min(info.size, start + RANGE), if_match=info.etag)
            with part.open("r+b") as file:
                file.seek(start)
                file.write(data)
            sync_file(part)
            with lock, note.open("a") as file:
                file.write(f"{number}\n")
            _report(advance, len(data))

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="noria-range") as pool:
            try:
                for future in as_completed([pool.submit(fetch, n) for n in range(count) if n not in done]):
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @staticmethod
    def _forget(part: Path) -> None:
        part.unlink(missing_ok=True)
        _note(part).unlink(missing_ok=True)


def _fault(part: Path, info: ObjectInfo) -> str:
    """What of a file is not as the list said; empty where nothing is."""
    size = part.stat().st_size
    if size != info.size:
        return f"{size} bytes"
    md5 = _MD5.fullmatch(info.etag or "")
    if md5 is None:  # of an upload in several parts; its size is all that can be checked
        return ""
    hasher = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while data := file.read(4 << 20):
            hasher.update(data)
    return "" if hasher.hexdigest() == md5[1] else f"the MD5 {hasher.hexdigest()}"


def _note(part: Path) -> Path:
    """Where the ranges that arrived are noted."""
    return part.with_name(part.name.removesuffix(".part") + ".ranges")


def _report(advance: Advance | None, count: int) -> None:
    if advance is not None and count:
        advance(count)


@contextmanager
def _room(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(str(path)) from error
        raise
