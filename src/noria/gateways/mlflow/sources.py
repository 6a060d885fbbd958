"""Where a client says that a model version comes from. A source is read as text and never opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from noria.base.errors import Invalid

PROXIED: Final = "mlflow-artifacts"
_ROUTE: Final = "/api/2.0/mlflow-artifacts/artifacts/"
_LOGGED: Final = re.compile(r"m-[\w\-]+")


class SourceInvalid(Invalid):
    """A model version cannot come from there."""

    code = "source_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source, taken apart.

    Attributes:
        kind: ``run`` (``runs:/ID/path``), ``logged`` (``models:/m-ID``), ``version`` (``models:/name/3`` and the like),
            ``proxied`` (files that lie here), or ``foreign``: only clients know what it is.
        name: of the run, the logged model, or the version (``name/3``, ``name@alias``, ``name``).
        path: below the run, or in the proxy's own tree.
    """

    kind: str
    name: str = ""
    path: str = ""


def parse(text: str) -> Source:
    """Takes a source apart.

    Raises:
        SourceInvalid: it is a path of this machine, or leads out of itself.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _wrong(text, "it is no URI") from None
    scheme = parts.scheme.lower()
    if not scheme or scheme == "file" or len(scheme) == 1:  # one letter is a drive
        raise _wrong(text, "it is a path of a machine, and files of this one are never opened for a client")
    plain = _unquoted(text)
    segments = re.split(r"[/\\]", plain)
    if ".." in segments or "." in segments or any(ord(char) < 32 for char in plain):
        raise _wrong(text, "it leads out of itself")
    if scheme in ("runs", "models"):
        if parts.netloc:
            raise _wrong(text, "it names another server")
        name, _, path = text.partition(":")[2].strip("/").partition("/")
        if not name:
            raise _wrong(text, "it names nothing")
        if scheme == "runs":
            return Source(kind="run", name=name, path=path)
        if _LOGGED.fullmatch(name) and not path:
            return Source(kind="logged", name=name)
        return Source(kind="version", name=f"{name}/{path}" if path else name)
    if scheme == PROXIED:
        return Source(kind="proxied", path=_tree_path(parts.path))
    if scheme in ("http", "https") and _ROUTE in _unquoted(parts.path):
        return Source(kind="proxied", path=_unquoted(parts.path).partition(_ROUTE)[2].strip("/"))
    return Source(kind="foreign")


def tree_path(uri: str) -> str:
    """The path in the proxy's tree of a place that we named ourselves; empty for a place elsewhere."""
    parts = urlsplit(uri)
    return _tree_path(parts.path) if parts.scheme == PROXIED else ""


def within(path: str, root: str) -> bool:
    """Whether a path of the proxy's tree is the root or lies below it."""
    return bool(root) and (path == root or path.startswith(root + "/"))


def wrong_owner(text: str, field: str) -> SourceInvalid:
    return SourceInvalid(
        f"Invalid model version source: {text!r:.300}.", hint=f"{field} has to name what the source is a part of."
    )


def _tree_path(path: str) -> str:
    return "/".join(part for part in _unquoted(path).split("/") if part)


def _unquoted(text: str) -> str:
    for _ in range(8):
        plain = unquote(text)
        if plain == text:
            return text
        text = plain
    raise _wrong(text, "it is quoted over and over")


def _wrong(text: str, reason: str) -> SourceInvalid:
    return SourceInvalid(
        f"Invalid model version source: {text!r:.300}: {reason}.",
        hint="For instance models:/m-..., runs:/ID/model or s3://bucket/model.",
    )
