"""What a search understands, as data, and what is read from its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from noria.base.errors import Invalid

EQUAL: Final = frozenset({"=", "!="})
TEXT: Final = EQUAL | {"like", "ilike"}
LIST: Final = frozenset({"in", "not_in"})
NULL: Final = frozenset({"is_null", "is_not_null"})
ORDERED: Final = EQUAL | {"<", "<=", ">", ">="}

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
