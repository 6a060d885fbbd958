"""A DVC repository as it lies on disk: ``.dvc`` files and ``dvc.lock`` in git, contents in caches by MD5.

    NAME.dvc     YAML: outs: [{path, md5, size, hash: md5, isexec, files}], wdir
    dvc.lock     YAML: stages: {name: {outs: [...]}} (schema 2.0), or the stages themselves (1.0)
    dvc.yaml     YAML: of each stage, wdir: paths of its outs begin there
    cache        files/md5/ab/cdef... (version 3), ab/cdef... (before); of a folder, ....dir: JSON [{md5, relpath}]

Before version 3 a text's MD5 is that of its bytes with CRLF read as LF.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import posixpath
import re
import stat
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, Final

from noria.base.errors import Invalid, MissingExtra
from noria.base.names import check_path
from noria.data.collectors.git import Git
from noria.data.errors import SourceFailed

PATTERNS: Final = ("**/*.dvc", "**/dvc.lock", "**/dvc.yaml")
_MD5: Final = re.compile(r"[0-9a-f]{32}(\.dir)?")
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """One output that DVC tracks, as a commit of git names it.

    Attributes:
        path: below the DVC repository. md5: of a folder it ends in ``.dir``.
        legacy: hashed as before version 3.
        files: of a folder whose files are listed in the ``.dvc`` file itself: (path, md5) of each; else None.
    """

    path: str
    md5: str
    legacy: bool
    executable: bool
    files: tuple[tuple[str, str], ...] | None = None

    @property
    def is_folder(self) -> bool:
        return self.files is not None or self.md5.endswith(".dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A content by its MD5."""

    md5: str
    legacy: bool
    executable: bool


class DvcRepository:
    """Args: folder: that holds ``.dvc``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / ".dvc").is_dir():
            raise SourceFailed(
                f"{folder} is not a DVC repository: it has no folder .dvc.", hint="Give the folder that holds .dvc."
            )
        self._parsed: dict[tuple[str, ...], tuple[tuple[Out, ...], tuple[str, ...]]] = {}
        self.places = list(self._places())

    # ---- what is tracked

    def outs(self, git: Git, files: dict[str, str]) -> tuple[dict[str, Out], list[tuple[str, str]]]:
        """(path -> output, [(path, why it is left out)]) of a commit with these files."""
        found: dict[str, Out] = {}
        left = list[tuple[str, str]]()
        for path, blob in files.items():
            folder, _, name = path.rpartition("/")
            if name == "dvc.lock":
                key = (path, blob, files.get(posixpath.join(folder, "dvc.yaml"), ""))
            elif name.endswith(".dvc") and name != ".dvc":
                key = (path, blob)
            else:
                continue
            if key not in self._parsed:
                self._parsed[key] = self._parse(git, folder, key)
            outs, problems = self._parsed[key]
            found.update({out.path: out for out in outs})
            left.extend((path, problem) for problem in problems)
        names = sorted(files)
        for path in [path for path in found if _kept_by_git(names, path)]:
            left.append((path, "it is kept by git, not by DVC's cache"))
            del found[path]
        return found, left

    def _parse(self, git: Git, folder: str, key: tuple[str, ...]) -> tuple[tuple[Out, ...], tuple[str, ...]]:
        outs, problems = list[Out](), list[str]()
        try:
            value = _yaml(git.blob(key[1]))
            if len(key) == 2:
                groups = [(_text(value.get("wdir")), value.get("outs"))]
            else:
                groups = _stages(value, _yaml(git.blob(key[2])) if key[2] else {})
        except ValueError as error:
            return (), (f"it cannot be read: {error}",)
        for wdir, rows in groups:
            for row in rows if isinstance(rows, list) else []:
                try:
                    outs.append(_out(posixpath.join(folder, wdir), row))
                except ValueError as error:
                    problems.append(str(error))
        return tuple(outs), tuple(problems)

    # ---- contents

    def listing(self, out: Out) -> dict[str, Blob] | None:
        """Path below the output -> content; of a file, its own name. None where the listing of a folder is missing.

        Raises:
            Invalid: a path in it leaves the folder.
        """
        if not out.is_folder:
            name = out.path.rpartition("/")[2]
            return {name: Blob(md5=out.md5, legacy=out.legacy, executable=out.executable)}
        if out.files is not None:
            return {check_path(p): Blob(md5=m, legacy=out.legacy, executable=False) for p, m in out.files}
        for data in self._whole(out.md5):
            try:
                rows = json.loads(data)
                made: dict[str, Blob] = {}
                for row in rows:
                    md5 = _digest(row["md5"])
                    executable = bool(row.get("isexec"))
                    made[check_path(row["relpath"])] = Blob(md5=md5, legacy=out.legacy, executable=executable)
                return made
            except (ValueError, TypeError, KeyError) as error:
                raise Invalid(f"The listing {out.md5} of {out.path} is none: {error!s:.200}") from None
        return None

    def _whole(self, md5: str) -> Iterator[bytes]:
        """A listing from each place that holds it whole."""
        for path in self.paths(md5):
            data = path.read_bytes()
            if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir"):
                yield data

    def paths(self, md5: str) -> list[Path]:
        """Where a content lies: in the cache, else in a remote that is a folder."""
        found = list[Path]()
        for place in self.places:
            for path in (place / "files" / "md5" / md5[:2] / md5[2:], place / md5[:2] / md5[2:]):
                try:
                    if stat.S_ISREG(path.stat().st_mode):
                        found.append(path)
                except OSError:
                    continue
        return found

    def _places(self) -> Iterator[Path]:
        """The cache, then remotes that are folders, the default one first."""
        dot = self.folder / ".dvc"
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        for name in ("config", "config.local"):
            try:
                parser.read_string((dot / name).read_text("utf-8"))
            except FileNotFoundError:
                continue
            except (configparser.Error, UnicodeDecodeError) as error:
                raise SourceFailed(f"{dot / name} cannot be read: {error!s:.200}") from None
        yield _below(dot, parser.get("cache", "dir", fallback="cache"))
        default = parser.get("core", "remote", fallback="")
        sections = sorted(parser.sections(), key=lambda name: f'"{default}"' not in name)
        for section in sections:
            url = parser.get(section, "url", fallback="") if "remote" in section else ""
            if url and ("://" not in url or url.startswith("file://")):
                yield _below(dot, url.removeprefix("file://"))


class Md5Reader:
    """A file that is hashed as it is read, both as it is and as versions before 3 hashed texts."""

    def __init__(self, file: RawIOBase, *, legacy: bool) -> None:
        self._file = file
        self._plain = hashlib.md5(usedforsecurity=False)
        self._text = hashlib.md5(usedforsecurity=False) if legacy else None
        self._block = bytearray()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size) or b""
        self._plain.update(data)
        if self._text is not None:
            self._block += data
            while len(self._block) >= _BLOCK:
                self._text.update(self._block[:_BLOCK].replace(b"\r\n", b"\n"))
                del self._block[:_BLOCK]
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def fits(self, md5: str) -> bool:
        """Whether what was read is the content of this name."""
        if self._plain.hexdigest() == md5:
            return True
        if self._text is None:
            return False
        self._text.update(self._block.replace(b"\r\n", b"\n"))
        self._block.clear()
        return self._text.hexdigest() == md5


def _kept_by_git(names: list[str], path: str) -> bool:
    """Whether git holds the path itself, or a file below it."""
    for start in (path, f"{path}/"):
        number = bisect_left(names, start)
        if number < len(names) and (names[number] == path or names[number].startswith(f"{path}/")):
            return True
    return False


def _yaml(data: bytes) -> dict[str, Any]:
    """Plain YAML with every value as text: a digest of digits alone stays what it is."""
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "dvc", "An import from DVC") from None
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        value = yaml.load(data, Loader=loader)  # noqa: S506 - the base loader makes texts, lists and dictionaries only
    except (yaml.YAMLError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error).splitlines()[0][:200]) from None
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")
    return value


def _stages(lock: dict[str, Any], plan: dict[str, Any]) -> list[tuple[str, Any]]:
    """(folder, outs) of each stage of a ``dvc.lock``."""
    stages = lock.get("stages") if "schema" in lock else lock
    planned = plan.get("stages")
    found = list[tuple[str, Any]]()
    for name, stage in (stages if isinstance(stages, dict) else {}).items():
        if isinstance(stage, dict):
            how = planned.get(name.partition("@")[0]) if isinstance(planned, dict) else None
            how = how if isinstance(how, dict) else {}
            inner = how.get("do")
            found.append((_text((inner if isinstance(inner, dict) else how).get("wdir")), stage.get("outs")))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _out(folder: str, row: Any) -> Out:
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        raise ValueError("an output of it has no path")
    name = row["path"]
    if "://" in name or name.startswith("/"):
        raise ValueError(f"{name} lies outside of the repository")
    path = posixpath.normpath(posixpath.join(folder, name))
    try:
        check_path(path)
    except Invalid as error:
        raise ValueError(error.message) from None
    listed = row.get("files")
    if row.get("cache") == "false":
        raise ValueError(f"{path} is kept by git (cache: false)")
    files = None
    if isinstance(listed, list):
        files = tuple((_text(f.get("relpath")), _digest(f.get("md5"))) for f in listed if isinstance(f, dict))
    elif "md5" not in row:
        raise ValueError(f"{path} has no MD5")
    return Out(
        path=path,
        md5=_digest(row["md5"]) if files is None else "",
        legacy=row.get("hash") != "md5",
        executable=row.get("isexec") == "true",
        files=files,
    )


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _MD5.fullmatch(value):
        raise ValueError(f"{value!r:.60} is not an MD5")
    return value


def _below(dot: Path, place: str) -> Path:
    path = Path(place).expanduser()
    return path if path.is_absolute() else (dot / path).resolve()
