"""What a folder looked like, by the folders in it."""

from __future__ import annotations

from collections.abc import Mapping

from noria.data import statcache
from noria.data.statcache import NEVER, Place
from noria.data.worktree.changes import Changes, text
from noria.store import EntryKind, writing
from noria.store.tree import Row


class View:
    """Places by folder (empty, or with a slash at its end), as they are remembered."""

    def __init__(self, places: dict[str, Place]) -> None:
        self.places = places

    @property
    def bare(self) -> bool:
        """Whether there is no file at all."""
        return not any(found.names for found in self.places.values())

    def seen(self) -> writing.Seen:
        """What the look saw of a path."""
        last: tuple[str, dict[str, tuple[int, ...]]] = ("/", {})

        def stats_of(path: str) -> tuple[int, ...] | None:
            nonlocal last
            prefix, slash, name = path.rpartition("/")
            if last[0] != prefix + slash:
                found = self.places.get(prefix + slash)
                last = (prefix + slash, {} if found is None else found.files())
            return last[1].get(name)

        return stats_of

    def settle(self, written: writing.Written, removed: list[str]) -> None:
        """Brings what is remembered of the folder up to what was written."""
        todo: dict[str, dict[str, tuple[int, ...] | None]] = {}
        for path in removed:
            prefix, slash, name = path.rpartition("/")
            todo.setdefault(prefix + slash, {})[name] = None
            self.places.pop(path + "/", None)
        for prefix, (names, numbers) in written.files.items():
            for name in names:  # where a folder was
                self.places.pop(f"{prefix}{name}/", None)
            if prefix in self.places or prefix in todo:
                stats = zip(numbers[::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True)
                todo.setdefault(prefix, {}).update(zip(names, stats, strict=True))
            else:
                self.places[prefix] = statcache.place(names, numbers, empty=False)
        for prefix, names in todo.items():
            self._edit(prefix, names)
        for prefix in written.empty:
            self.places[prefix] = Place(b"", b"", True)

    def look_again(self, changes: Changes, before: Mapping[bytes, Row]) -> None:
        """Makes the next look see these paths as they are: other than in the tree that is remembered."""
        todo: dict[str, dict[str, tuple[int, ...] | None]] = {}
        for key, row in changes.items():
            path = text(key)
            if row is not None and row[1] == EntryKind.FOLDER:
                self.places.pop(path + "/", None)
            elif row is None and key in before and before[key][1] == EntryKind.FOLDER:
                found = self.places.get(path + "/") or Place(b"", b"", True)
                self.places[path + "/"] = found._replace(empty=True)
            else:
                prefix, slash, name = path.rpartition("/")
                todo.setdefault(prefix + slash, {})[name] = NEVER
        for prefix, names in todo.items():
            self._edit(prefix, names)

    def _edit(self, prefix: str, names: Mapping[str, tuple[int, ...] | None]) -> None:
        found = self.places.get(prefix)
        seen = {} if found is None else found.files()
        for name, stats in names.items():
            if stats is None:
                seen.pop(name, None)
            else:
                seen[name] = stats
        self.places[prefix] = statcache.place(
            seen, (number for stats in seen.values() for number in stats), empty=False
        )
