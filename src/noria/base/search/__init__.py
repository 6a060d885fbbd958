"""The language of every search: comparisons joined by ``and``, read into clauses. No SQL, no I/O.

    loss < 0.5 and tags.team like "fly%" and labels.`what is it` is not null and id in ("a", "b")

What may stand on the left is said by a ``Grammar``, which belongs to the room that is searched. The shape is that of
MLflow's searches:

- ``and`` only separates: it may be missing between two comparisons, and one too many does no harm.
- A name that holds more than letters, digits and ``_ . - / :`` is put into backticks or double quotes.
- A text stands in single or double quotes. Inside, everything is taken as it is: a doubled quote or one after a
  backslash does not end the text, and stays as it was written.
- There is no ``or``, no ``between``, and no parentheses but those of a list.

For whoever answers (``noria.db.compare`` makes conditions of clauses): in a pattern ``%`` is any text and ``_`` any
character, nothing escapes them; ``like`` minds upper and lower case, ``ilike`` does not; ``!=`` on a key that may be
missing fits only where it is there.
"""

from __future__ import annotations

from noria.base.search.grammar import (
    EQUAL,
    LIST,
    NULL,
    ORDERED,
    TEXT,
    Clause,
    Grammar,
    Key,
    Kind,
    Order,
    SearchInvalid,
)
from noria.base.search.reader import MAX_CLAUSES, MAX_TEXT, order_of, parse, parse_order

__all__ = [
    "EQUAL",
    "LIST",
    "MAX_CLAUSES",
    "MAX_TEXT",
    "NULL",
    "ORDERED",
    "TEXT",
    "Clause",
    "Grammar",
    "Key",
    "Kind",
    "Order",
    "SearchInvalid",
    "order_of",
    "parse",
    "parse_order",
]
