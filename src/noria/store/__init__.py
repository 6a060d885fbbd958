"""Immutable objects, named by what they hold, in packs. Knows bytes; knows nothing of machine learning or SQL."""

from __future__ import annotations

from noria.store.incoming import Incoming, join
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry, EntryKind, FileContent, Kind, PackInfo

__all__ = ["Entry", "EntryKind", "FileContent", "Incoming", "Kind", "ObjectStore", "PackInfo", "Writer", "join"]
