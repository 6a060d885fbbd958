"""Walks over the text of a filter or an order and makes clauses of it: in one pass, without recursion."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from noria.base.names import nearest
from noria.base.search.grammar import LIST, NULL, TEXT, Clause, Grammar, Key, Kind, Order, SearchInvalid, Type

MAX_TEXT: Final = 10_000
MAX_CLAUSES: Final = 50
_SHOWN: Final = {"not_in": "not in", "is_null": "is null", "is_not_null": "is not null"}
_OPS: Final = ("=", "!=", "<", "<=", ">", ">=", "like", "ilike", "in", "not_in", "is_null", "is_not_null")
_INT64: Final = 1 << 63

# Neighbouring parts of a pattern share no character: none of them ever reads a text over and over.
_WORD: Final = re.compile(r"\w+(?:[./:-]+\w+)*\.?")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_SIGNS: Final = re.compile(r"[=<>!~]+")
_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?![\w.])")
_UNKEPT: Final = re.compile("[\x00\ud800-\udfff]")  # no database takes them
_QUOTES: Final = "'\"`"
_INSTEAD: Final = {
    "==": "One = is enough.",
    "<>": "Write != for that.",
    "~": "Write like, with % for any text.",
    "rlike": "Write like, with % for any text.",
    "regexp": "Write like, with % for any text.",
    "between": "Write two comparisons: x >= 1 and x <= 2",
}


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
        odd = _UNKEPT.search(text)
        if odd is not None:
            raise SearchInvalid(
                f"The character {odd.group()!r} is in no name and no text.",
                hint="Leave it out.",
                details={"position": odd.start()},
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
