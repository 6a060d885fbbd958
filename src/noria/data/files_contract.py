"""Contracts of repositories of files: which paths may be there, how large, and which have to be.

    [files]
    allowed = ["*.jpg", "labels.csv"]     # nothing else; a star crosses folders
    denied = ["*.tmp", "*/.*"]
    required = ["labels.csv"]             # for each, at least one file that fits
    max_size = "10 MB"                    # of one file
    min_files = 1
    max_files = 100000

A commit is checked at the cost of what it changes; the whole tree only where the contract is new. No Polars here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.names import is_pattern
from noria.store import Entry, EntryKind, ObjectStore, tree

EVALUATOR: Final = "noria.data.files_contract:1"
_SHOWN: Final = 3
_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_ENDINGS: Final = 20


class FilesRules(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectations on a tree; see the module."""

    allowed: list[str] = []
    denied: list[str] = []
    required: list[str] = []
    max_size: int | str | None = None
    min_files: int = 0
    max_files: int | None = None


class FilesContract(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    files: FilesRules


def parse(value: Any) -> FilesContract:
    """A contract from a plain value; mistakes are named with their place."""
    try:
        made = msgspec.convert(value, FilesContract)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The contract does not fit: {error}.", hint="A repository of files has [files] and nothing else."
        ) from None
    if made.files.max_size is not None:
        size_of(made.files.max_size)
    return made


def size_of(value: int | str) -> int:
    """Bytes of ``1000`` or ``"10 MB"``."""
    found = _SIZE.fullmatch(str(value).strip())
    if found is None or found[2].upper() not in _UNITS:
        raise Invalid(f"{value!r} is not a size.", hint='max_size = "10 MB", or a number of bytes')
    return int(float(found[1]) * _UNITS[found[2].upper()])


def infer(entries: Iterable[Entry]) -> FilesContract:
    """A contract that the files keep: their endings, twice their largest size."""
    endings: dict[str, None] = {}
    largest = 0
    for entry in entries:
        name = entry.path.rsplit("/", 1)[-1]
        dot = name.rfind(".")
        endings["*" + name[dot:] if dot > 0 else "*/" + name if "/" in entry.path else name] = None
        largest = max(largest, entry.size)
    allowed = sorted(endings) if len(endings) <= _ENDINGS else []
    return FilesContract(files=FilesRules(allowed=allowed, max_size=max(1_000, 2 * largest), min_files=1))


def check(contract: FilesContract, store: ObjectStore, before: Digest | None, after: Digest) -> list[dict[str, Any]]:
    """What a tree breaks.

    Args:
        before: a tree that keeps the contract: only what differs from it is looked at; None to look at everything.
    """
    rules = contract.files
    if before is None:
        found: Iterable[Entry] = tree.walk(store, after)
    else:
        found = (c.after for c in tree.diff(store, before, after) if c.after is not None)
    limit = None if rules.max_size is None else size_of(rules.max_size)
    broken: dict[str, list[Entry]] = {"files.allowed": [], "files.denied": [], "files.max_size": []}
    for entry in found:
        if entry.kind == EntryKind.FOLDER:
            continue
        if rules.allowed and not any(fnmatchcase(entry.path, one) for one in rules.allowed):
            broken["files.allowed"].append(entry)
        if any(fnmatchcase(entry.path, one) for one in rules.denied):
            broken["files.denied"].append(entry)
        if limit is not None and entry.size > limit:
            broken["files.max_size"].append(entry)
    words = {
        "files.allowed": f"fit none of {', '.join(rules.allowed)}",
        "files.denied": f"fit one of {', '.join(rules.denied)}",
        "files.max_size": f"are larger than {rules.max_size}",
    }
    findings = [_finding(rule, entries, words[rule]) for rule, entries in broken.items() if entries]
    return findings + _whole(rules, store, after)


def _whole(rules: FilesRules, store: ObjectStore, root: Digest) -> list[dict[str, Any]]:
    findings: list[dict[str, Any]] = []
    for pattern in rules.required:
        one = not is_pattern(pattern)
        there = tree.find(store, root, pattern) is not None if one else _any_fits(store, root, pattern)
        if not there:
            text = f"no file fits {pattern!r}, which is required"
            findings.append({"rule": "files.required", "column": pattern, "count": 1, "message": text, "rows": []})
    count = tree.totals(store, root)[0]
    if count < rules.min_files:
        text = f"there would be {count} files, at least {rules.min_files} are expected"
        findings.append({"rule": "files.min_files", "column": "", "count": count, "message": text, "rows": []})
    if rules.max_files is not None and count > rules.max_files:
        text = f"there would be {count} files, at most {rules.max_files} are expected"
        findings.append({"rule": "files.max_files", "column": "", "count": count, "message": text, "rows": []})
    return findings


def _any_fits(store: ObjectStore, root: Digest, pattern: str) -> bool:
    prefix = pattern[: min(at for at in map(pattern.find, "*?[") if at >= 0)]
    return any(fnmatchcase(entry.path, pattern) for entry in tree.walk(store, root, prefix))


def _finding(rule: str, entries: list[Entry], what: str) -> dict[str, Any]:
    shown = [{"path": e.path, "size": e.size} for e in entries[:_SHOWN]]
    named = ", ".join(repr(e.path) for e in entries[:_SHOWN])
    text = f"{len(entries)} paths {what}: {named}"
    return {"rule": rule, "column": entries[0].path, "count": len(entries), "message": text, "rows": shown}
