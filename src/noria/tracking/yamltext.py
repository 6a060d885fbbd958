"""Reads the YAML that programs write: block maps and lists, quoted and plain texts, as PyYAML dumps them.

Not a reader of YAML: what it does not know (anchors, tags, flow collections, block texts) is refused, never guessed.
"""

from __future__ import annotations

import re
from typing import Any, Final

_KEY: Final = re.compile(
    r"""(?P<key>'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s'"\-?&*!|>%@`{\[#][^#]*?|-[^\s#][^#]*?):(?:\s|$)"""
)
_CLOSED: Final = {
    "'": re.compile(r"'((?:[^']|'')*+)'[ \t]*", re.DOTALL),
    '"': re.compile(r'"((?:[^"\\]|\\.)*+)"[ \t]*', re.DOTALL),
}
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT: Final = re.compile(r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_WORDS: Final = {"null": None, "~": None, "": None, "true": True, "false": False}
_ESCAPES: Final = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", " ": " ",
    '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_REFUSED: Final = tuple("&*!|>{[%@`?#")
_DEPTH: Final = 40


class Unreadable(Exception):
    """The text is not of the kind that is read here."""


def sections(text: str) -> dict[str, str]:
    """The top keys of a document, and the text of each with its key; what is in them is not looked at."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        match = _KEY.match(line) if line[:1].strip(" \t") else None
        if match is not None:
            lines = found.setdefault(str(_scalar(match["key"])), [])
        lines.append(line)
    return {key: "\n".join(part) for key, part in found.items()}


def read(text: str) -> Any:
    """The value of a document.

    Raises:
        Unreadable: it holds something that is not known here.
    """
    reader = _Reader(text.split("\n"))
    value = reader.node(-1, 0)
    if reader.peek() is not None:
        raise Unreadable(f"line {reader.at + 1}")
    return value


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0

    def peek(self) -> str | None:
        while self.at < len(self.lines) and not self.lines[self.at].strip(" \t"):
            self.at += 1
        return self.lines[self.at] if self.at < len(self.lines) else None

    def node(self, parent: int, depth: int) -> Any:
        """What stands on the lines below a key or a dash: deeper than ``parent``."""
        line = self.peek()
        if line is None:
            return None
        if depth > _DEPTH:
            raise Unreadable("too deep")
        indent = _indent(line)
        if indent <= parent:
            return None
        if _is_item(line[indent:]):
            return self._list(indent, depth)
        if _KEY.match(line, indent):
            return self._map(indent, depth)
        self.at += 1
        return self._value(line[indent:], parent, depth)

    def _map(self, indent: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while (line := self.peek()) is not None and _indent(line) == indent and not _is_item(line[indent:]):
            match = _KEY.match(line, indent)
            if match is None:
                raise Unreadable(line)
            self.at += 1
            made[_scalar(match["key"])] = self._value(line[match.end("key") + 1 :].strip(" \t"), indent, depth)
        return made

    def _list(self, indent: int, depth: int) -> list[Any]:
        made: list[Any] = []
        while (line := self.peek()) is not None and _indent(line) == indent and _is_item(line[indent:]):
            rest = line[indent + 1 :].strip(" \t")
            if rest and (_KEY.match(rest) or _is_item(rest)):  # a map or list that begins beside its dash
                self.lines[self.at] = " " * (len(line) - len(line[indent + 1 :].lstrip())) + rest
                made.append(self.node(indent, depth + 1))
            else:
                self.at += 1
                made.append(self._value(rest, indent, depth, item=True))
        return made

    def _value(self, rest: str, indent: int, depth: int, *, item: bool = False) -> Any:
        if not rest:
            line = self.peek()
            same = line is not None and not item and _indent(line) == indent and _is_item(line[indent:])
            return self.node(indent - 1 if same else indent, depth + 1)
        if rest[0] in "'\"":
            return self._quoted(rest)
        if rest in ("{}", "[]"):
            return {} if rest == "{}" else []
        if rest.startswith(_REFUSED) or " #" in rest:
            raise Unreadable(rest)
        parts = [rest]
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.strip(" \t") and _indent(line) <= indent:
                break
            parts.append(line.strip(" \t"))
            self.at += 1
        while len(parts) > 1 and not parts[-1]:
            parts.pop()
        return _scalar(_folded(parts))

    def _quoted(self, text: str) -> str:
        closed = _CLOSED[text[0]]
        while (match := closed.fullmatch(text)) is None:
            if self.at >= len(self.lines) or closed.match(text):
                raise Unreadable(text)
            text += "\n" + self.lines[self.at]
            self.at += 1
        return _unquoted(text[0], match[1])


def _unquoted(quote: str, body: str) -> str:
    lines = body.split("\n")
    parts = [line.strip(" \t") if 0 < n < len(lines) - 1 else line for n, line in enumerate(lines)]
    if len(parts) > 1:
        parts[0], parts[-1] = parts[0].rstrip(" \t"), parts[-1].lstrip(" \t")
    if quote == "'":
        return _folded(parts).replace("''", "'")
    joined: list[str] = []
    glued = False
    for raw, part in zip(lines, parts, strict=True):
        ends = (len(raw) - len(raw.rstrip("\\"))) % 2 == 1  # the line's end is escaped: nothing stands between
        text = raw.lstrip(" \t")[:-1] if ends and joined else raw[:-1] if ends else part
        if glued:
            joined[-1] += text
        else:
            joined.append(text)
        glued = ends
    return _ESCAPE.sub(_unescaped, _folded(joined))


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if code is None:
        if match[4] not in _ESCAPES:
            raise Unreadable(match[0])
        return _ESCAPES[match[4]]
    if int(code, 16) > 0x10FFFF:
        raise Unreadable(match[0])
    return chr(int(code, 16))


def _folded(parts: list[str]) -> str:
    """Lines as one text: a line's end is a space, and each empty line a line's end."""
    made, empty = parts[0], 0
    for part in parts[1:]:
        if not part:
            empty += 1
            continue
        made += "\n" * empty if empty else " "
        made += part
        empty = 0
    # An empty last part is the quote that closes on a line of its own.
    return made + ("\n" * (empty - 1) if empty > 1 else " " if empty else "")


def _scalar(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return _unquoted(text[0], text[1:-1])
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")
