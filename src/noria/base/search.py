"""The language of every search: comparisons joined by ``and``, read into clauses. No SQL, no I/O.

    loss < 0.5 and tags.team like "fly%" and labels.`what is it` is not null and id in ("a", "b")

What may stand on the left is said by a ``Grammar``, which belongs to the room that is searched. The shape is that of
MLflow's searches:

- ``and`` only separates: it may be missing between two comparisons, and one too many does no harm.
- A name that holds more than letters, digits and ``_ . - / :`` is put into backticks or double quotes.
- A text stands in single or double quotes. Inside, everything is taken as it is: a doubled quote or one after a
  backslash does not end the text, and stays as it was written.
- There is no ``or``, no ``between``, and no parentheses but those of a list.

For whoever turns clauses into SQL: in a pattern ``%`` is any text and ``_`` any character, nothing escapes them;
``like`` minds upper and lower case, ``ilike`` does not; ``!=`` on a key that may be missing fits only where it
is there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn

from noria.base.errors import Invalid
from noria.base.names import nearest

MAX_TEXT: Final = 10_000
MAX_CLAUSES: Final = 50

EQUAL: Final = frozenset({"=", "!="})
TEXT: Final = EQUAL | {"like", "ilike"}
LIST: Final = frozenset({"in", "not_in"})
NULL: Final = frozenset({"is_null", "is_not_null"})
ORDERED: Final = EQUAL | {"<", "<=", ">", ">="}
_SHOWN: Final = {"not_in": "not in", "is_null": "is null", "is_not_null": "is not null"}
_OPS: Final = ("=", "!=", "<", "<=", ">", ">=", "like", "ilike", "in", "not_in", "is_null", "is_not_null")
_INT64: Final = 1 << 63

# Neighbouring parts of a pattern share no character: none of them ever reads a text over and over.
_WORD: Final = re.compile(r"\w+(?:[./:-]+\w+)*\.?")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_SIGNS: Final = re.compile(r"[=<>!~]+")
_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.])")
_QUOTES: Final = "'\"`"
_INSTEAD: Final = {
    "==": "One = is enough.",
    "<>": "Write != for that.",
    "~": "Write like, with % for any text.",
    "rlike": "Write like, with % for any text.",
    "regexp": "Write like, with % for any text.",
    "between": "Write two comparisons: x >= 1 and x <= 2",
}

Type = Literal["text", "number", "integer", "whole", "either"]


class SearchInvalid(Invalid):
    """A filter or an order cannot be read."""

    code = "filter_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a name is compared with.

    ``number`` values become floats; ``integer`` ones stay whole where they are written so and fit into 64 bits;
    ``whole`` ones must be; ``either`` takes numbers for < and > and texts otherwise. ``name`` and ``kind``, where
    given, are what the clause says instead of what was typed. A key without ``ops`` only orders.
    """

    type: Type = "text"
    ops: frozenset[str] = TEXT
    name: str = ""
    kind: str = ""
    sort: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One group of names: those that are known, and what any other name is (``None``: there is no other)."""

    name: str
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    other: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What one search understands.

    ``what`` names the things found, in the plural. ``prefixes`` says which kind a name before the first dot means;
    a prefix may hold a dot itself. Names without a prefix are of the kind ``default``. ``bare_texts``: a text of one
    word or number needs no quotes. ``quoted_numbers``: a number may stand in quotes.
    """

    what: str
    prefixes: Mapping[str, Kind]
    default: Kind
    example: str
    order_example: str
    bare_texts: bool = False
    quoted_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One comparison. ``value``: a tuple for ``in`` and ``not_in``, nothing for ``is_null`` and ``is_not_null``."""

    kind: str
    key: str
    op: str
    value: str | float | tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a list is ordered by."""

    kind: str
    key: str
    descending: bool = False


def parse(
    text: str | None, grammar: Grammar, *, max_text: int = MAX_TEXT, max_clauses: int = MAX_CLAUSES
) -> tuple[Clause, ...]:
    """The clauses of a filter; an empty one has none. ``max_text`` counts characters.

    Raises:
        SearchInvalid: with what is wrong, and where.
    """
    reader = _Reader(text or "", grammar, max_text, grammar.example)
    clauses: list[Clause] = []
    while reader.another():
        if len(clauses) == max_clauses:
            raise SearchInvalid(
                f"The filter has more than {max_clauses} comparisons.", hint="Search in several steps, with fewer."
            )
        clauses.append(reader.clause())
    return tuple(clauses)


def parse_order(text: str, grammar: Grammar, *, max_text: int = MAX_TEXT) -> Order:
    """What ``key``, ``key asc`` or ``key desc`` orders by.

    Raises:
        SearchInvalid: with what is wrong, and where.
    """
    reader = _Reader(text, grammar, max_text, grammar.order_example)
    return reader.order()


def order_of(name: str, grammar: Grammar, *, descending: bool = False) -> Order:
    """The order by a name that is not text of this language: nothing in it is quoted.

    Raises:
        SearchInvalid: nothing is ordered by this name.
    """
    reader = _Reader(name, grammar, MAX_TEXT, grammar.order_example)
    prefix, dot, key = name.strip().partition(".")
    return reader.ordered(reader.find(prefix if dot else None, key if dot else prefix), descending)


@dataclass(frozen=True, slots=True)
class _Found:
    """A name that was read: its kind and key for the clause, how it was written, and where."""

    kind: str
    key: str
    rule: Key
    shown: str
    at: int


class _Reader:
    """Walks once over a text, from left to right."""

    def __init__(self, text: str, grammar: Grammar, max_text: int, example: str) -> None:
        if len(text) > max_text:
            raise SearchInvalid(
                f"A filter or order of {len(text)} characters is too long; {max_text} are allowed.",
                hint="Search in several steps, with fewer comparisons.",
            )
        self._text = text
        self._grammar = grammar
        self._example = example
        self._at = 0

    def fail(self, message: str, at: int, hint: str = "") -> NoReturn:
        where = "" if at < 0 else f" (character {at + 1})"
        raise SearchInvalid(f"{message}{where}.", hint=hint or self._example, details={"position": max(at, 0)})

    def _peek(self) -> str:
        """The next character after any space, or nothing at the end."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _next_shown(self) -> str:
        return repr(self._text[self._at : self._at + 30])

    def another(self) -> bool:
        """Whether a comparison follows; steps over ``and``."""
        while self._peek():
            word = _WORD.match(self._text, self._at)
            if word is None or word.group().lower() != "and":
                return True
            self._at = word.end()
        return False

    # ---- names

    def _name(self) -> _Found:
        at = self._at
        if self._peek() in ("`", '"'):
            first = self._quoted()
            prefix, key = None, first
            if self._text[self._at : self._at + 1] == ".":
                self._at += 1
                prefix, key = first, self._part()
            return self.find(prefix, key, at)
        word = _WORD.match(self._text, self._at)
        if word is None:
            hint = "No parentheses: comparisons are joined by and." if self._peek() == "(" else ""
            self.fail(f"A name was expected, not {self._next_shown()}", self._at, hint)
        self._at = word.end()
        if word.group().endswith("."):
            return self.find(word.group()[:-1], self._part(), at)
        prefix, dot, key = word.group().partition(".")
        if not dot and prefix.lower() in ("or", "not"):
            self.fail(f"`{prefix}` is not understood: comparisons are joined by and", at)
        return self.find(prefix if dot else None, key if dot else prefix, at)

    def _part(self) -> str:
        """The part of a name after its dot."""
        char = self._text[self._at : self._at + 1]
        if char and char in _QUOTES:
            return self._quoted()
        word = _WORD.match(self._text, self._at)
        if word is None:
            self.fail("The name ends with a dot", self._at)
        self._at = word.end()
        return word.group()

    def find(self, prefix: str | None, key: str, at: int = -1) -> _Found:
        """What a grammar knows under a name."""
        grammar = self._grammar
        shown = key if prefix is None else f"{prefix}.{key}"
        kind: Kind | None = grammar.default
        if prefix is not None:
            prefix = prefix.lower()
            head, dot, tail = key.partition(".")
            if dot and f"{prefix}.{head}".lower() in grammar.prefixes:
                prefix, key = f"{prefix}.{head}".lower(), _bare(tail)
            kind = grammar.prefixes.get(prefix)
        if kind is None:
            known = sorted(grammar.prefixes)
            self.fail(
                f"{grammar.what.capitalize()} have nothing under {prefix + '.' if prefix else ''!r:.80}",
                at,
                nearest(prefix or "", known) or "Known: " + ", ".join(f"{one}." for one in known),
            )
        rule = kind.keys.get(key, kind.other)
        if rule is None or not key:
            self.fail(f"{grammar.what.capitalize()} have no {kind.name} {key!r:.80}", at, self._other_names(kind, key))
        return _Found(rule.kind or kind.name, rule.name or key, rule, shown, at)

    def _other_names(self, kind: Kind, key: str) -> str:
        near = nearest(key, kind.keys)
        if near or not key:
            return near
        firsts: dict[str, str] = {}
        for prefix, one in self._grammar.prefixes.items():
            if one.other is not None and kind is self._grammar.default:
                firsts.setdefault(one.name, prefix)
        if firsts:
            return " or ".join(f"{prefix}.{key}" for prefix in firsts.values()) + "?"
        return "Known: " + ", ".join(sorted({rule.name or name for name, rule in kind.keys.items()}))

    # ---- comparisons

    def clause(self) -> Clause:
        found = self._name()
        self._peek()
        at = self._at
        op = self._operator(found)
        self._check(found, op, at)
        if op in NULL:
            return Clause(kind=found.kind, key=found.key, op=op)
        if not self._peek():
            self.fail(f"{found.shown} {_SHOWN.get(op, op)} is compared with nothing", self._at)
        if op in LIST:
            return Clause(kind=found.kind, key=found.key, op=op, value=self._list(found))
        kind = found.rule.type
        if kind == "either":
            kind = "text" if op in TEXT else "number"
        value = self._text_value(found) if kind == "text" else self._number_value(found, kind)
        return Clause(kind=found.kind, key=found.key, op=op, value=value)

    def _operator(self, found: _Found) -> str:
        at = self._at
        signs = _SIGNS.match(self._text, at)
        if signs is not None:
            self._at = signs.end()
            return signs.group()
        words = self._words(1)
        if words[0] in ("is", "not"):
            words += self._words(1)
        if words == ["is", "not"]:
            words += self._words(1)
        if not words[0]:
            shown = self._next_shown() if self._peek() else "the end"
            self.fail(f"{found.shown} needs a comparison, not {shown}", at, _listed(found.rule.ops) or self._example)
        return "_".join(words)

    def _words(self, count: int) -> list[str]:
        found: list[str] = []
        for _ in range(count):
            self._peek()
            word = _LETTERS.match(self._text, self._at)
            found.append(word.group().lower() if word else "")
            self._at = word.end() if word else self._at
        return found

    def _check(self, found: _Found, op: str, at: int) -> None:
        ops = found.rule.ops
        if op in ops:
            return
        shown = _SHOWN.get(op, op).replace("_", " ").strip()
        if not ops:
            self.fail(f"{found.shown} orders {self._grammar.what}, but does not filter them", found.at)
        if op not in _OPS:
            self.fail(f"{shown!r:.40} is not a comparison", at, _INSTEAD.get(op) or _listed(ops))
        self.fail(f"{found.shown} is not compared by {shown}", at, _listed(ops))

    # ---- values

    def _quoted(self) -> str:
        """The text between quotes; a doubled quote or one after a backslash stays inside.

        Where no quote ends it, the last one that stayed inside does: a folder may end with its backslash.
        """
        text, quote, start = self._text, self._text[self._at], self._at + 1
        at, last = start, -1
        while True:
            at = text.find(quote, at)
            if at < 0:
                break
            escaped = quote != "`" and at > start and text[at - 1] == "\\"
            doubled = text[at + 1 : at + 2] == quote
            if not escaped and not doubled:
                self._at = at + 1
                return text[start:at]
            last, at = at, at + (1 if escaped else 2)
        if last < 0:
            self.fail(f"The quote {quote} is not closed: {text[self._at : self._at + 30]!r}", self._at)
        self._at = last + 1
        return text[start:last]

    def _text_value(self, found: _Found) -> str:
        char = self._peek()
        if char in ("'", '"'):
            return self._quoted()
        at = self._at
        word = _NUMBER.match(self._text, at) or _WORD.match(self._text, at)
        raw = word.group() if word else self._text[at : at + 30]
        if word is None or not self._grammar.bare_texts:
            hint = "One value, without parentheses." if char == "(" else f'{found.shown} = "{raw.strip("`")}"'
            self.fail(f"{found.shown} is compared with a text in quotes, not with {raw!r:.60}", at, hint)
        self._at = word.end()
        return raw

    def _number_value(self, found: _Found, kind: Type) -> float:
        at = self._at
        may = self._grammar.quoted_numbers and found.rule.type != "either"
        quoted = may and self._peek() in ("'", '"')
        raw = self._quoted() if quoted else ""
        match = _NUMBER.fullmatch(raw) if quoted else _NUMBER.match(self._text, at)
        if match is None:
            raw = raw or (self._text[at : at + 30].split() or [""])[0]
            self.fail(f"{found.shown} is compared with a number, not with {raw!r}", at, f"{found.shown} > 5")
        self._at = self._at if quoted else match.end()
        value = float(match.group())
        if kind != "number" and value.is_integer() and abs(value) <= _INT64:
            # A float has not all digits of a large integer.
            whole = (
                int(match.group()) if match.group().lstrip("-").isdigit() and len(match.group()) < 25 else int(value)
            )
            if -_INT64 <= whole < _INT64:
                return whole
        if kind == "whole":
            self.fail(f"{found.shown} is a whole number of at most 64 bits, not {match.group()!r:.60}", at)
        if math.isinf(value):
            self.fail(f"The number {match.group()!r:.60} is too large", at, f"{found.shown} < 1e308")
        return value

    def _list(self, found: _Found) -> tuple[str, ...]:
        hint = f'{found.shown} in ("a", "b")'
        if self._peek() != "(":
            self.fail(f"A list in parentheses was expected, not {self._next_shown()}", self._at, hint)
        self._at += 1
        values: list[str] = []
        while (char := self._peek()) != ")" or not values:
            if char not in ("'", '"'):
                self.fail(f"The list holds texts in quotes, at least one, not {self._next_shown()}", self._at, hint)
            values.append(self._quoted())
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != ")":
                self.fail(f"A comma or ) was expected, not {self._next_shown()}", self._at, hint)
        self._at += 1
        return tuple(values)

    # ---- orders

    def order(self) -> Order:
        if not self._peek():
            self.fail("The order names nothing", 0)
        found = self._name()
        direction = self._words(1)[0]
        if self._peek() or direction not in ("", "asc", "desc"):
            self.fail(f"{self._text!r:.80} is not an order: after {found.shown} only asc or desc may follow", self._at)
        return self.ordered(found, direction == "desc")

    def ordered(self, found: _Found, descending: bool) -> Order:
        if not found.rule.sort:
            self.fail(f"{self._grammar.what.capitalize()} are not ordered by {found.shown}", found.at)
        return Order(kind=found.kind, key=found.key, descending=descending)


def _bare(key: str) -> str:
    quoted = len(key) >= 2 and key[0] == key[-1] and key[0] in _QUOTES
    return key[1:-1] if quoted else key


def _listed(ops: frozenset[str]) -> str:
    return " ".join(_SHOWN.get(op, op) for op in _OPS if op in ops)
