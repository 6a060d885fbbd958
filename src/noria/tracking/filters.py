"""The filter language of run search: comparisons joined by ``and``. Parsed here, never pasted into SQL.

metrics.log_loss < 0.5 and params.depth = "3" and tags.team like "fly%" and state = "done"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from noria.base.names import nearest
from noria.tracking.errors import FilterInvalid

MAX_CLAUSES: Final = 50
_MAX_TEXT: Final = 10_000
_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<op>>=|<=|!=|=|<|>)
    | (?P<text>"(?:[^"]*)"|'(?:[^']*)')
    | (?P<number>-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)
    | (?P<word>[A-Za-z_][\w./:-]*(?:`[^`]*`)?|`[^`]*`)
    )""",
    re.VERBOSE,
)
_KINDS: Final = {
    "metrics": "metric", "metric": "metric", "params": "param", "param": "param", "parameters": "param",
    "parameter": "param", "tags": "tag", "tag": "tag", "attributes": "attribute", "attribute": "attribute",
    "attr": "attribute", "run": "attribute",
}  # fmt: skip
ATTRIBUTES: Final = {
    "state",
    "status",
    "run_name",
    "name",
    "run_id",
    "start_time",
    "end_time",
    "kind",
    "user",
    "user_id",
}
_NUMERIC: Final = {"start_time", "end_time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One comparison. ``kind`` is metric, param, tag or attribute."""

    kind: str
    key: str
    op: str
    value: str | float


def parse(text: str) -> list[Clause]:
    """The clauses of a filter; an empty filter has none.

    Raises:
        FilterInvalid: with the place that is not understood.
    """
    if len(text) > _MAX_TEXT:
        raise FilterInvalid(f"The filter is longer than {_MAX_TEXT} characters.")
    tokens = _tokens(text)
    clauses: list[Clause] = []
    position = 0
    while position < len(tokens):
        if clauses:
            if tokens[position][1].lower() != "and":
                raise FilterInvalid(
                    f"Expected `and` before {tokens[position][1]!r}.", hint="Clauses are joined by and."
                )
            position += 1
        clauses.append(_clause(tokens[position : position + 3], text))
        position += 3
        if len(clauses) > MAX_CLAUSES:
            raise FilterInvalid(f"The filter has more than {MAX_CLAUSES} clauses.")
    return clauses


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.end() == position:
            raise FilterInvalid(
                f"The filter is not understood at {text[position : position + 30]!r}.",
                hint='metrics.log_loss < 0.5 and tags.team = "a"',
            )
        kind = match.lastgroup or ""
        tokens.append((kind, match.group(kind)))
        position = match.end()
    return tokens


def _clause(tokens: list[tuple[str, str]], text: str) -> Clause:
    if len(tokens) < 3 or tokens[0][0] != "word":
        raise FilterInvalid(
            f"The filter {text!r:.100} ends in the middle.", hint='key, comparison, value: state = "done"'
        )
    (_, name), (op_kind, op), (value_kind, raw) = tokens
    kind, key = _key(name)
    op = op.lower()
    if op_kind != "op" and op not in ("like", "ilike"):
        raise FilterInvalid(f"{op!r} is not a comparison.", hint="= != < <= > >= like ilike")
    numeric = kind == "metric" or (kind == "attribute" and key in _NUMERIC)
    if numeric:
        if value_kind != "number" or op in ("like", "ilike"):
            raise FilterInvalid(f"{name} is compared with a number, not with {raw}.", hint=f"{name} > 0.5")
        return Clause(kind=kind, key=key, op=op, value=float(raw))
    if value_kind != "text":
        raise FilterInvalid(f"{name} is compared with a text in quotes, not with {raw}.", hint=f'{name} = "..."')
    if op in ("<", "<=", ">", ">="):
        raise FilterInvalid(f"{name} is a text: {op} does not order texts.", hint="= != like ilike")
    return Clause(kind=kind, key=key, op=op, value=raw[1:-1])


def _key(name: str) -> tuple[str, str]:
    prefix, dot, rest = name.partition(".")
    if dot and prefix.lower() in _KINDS and rest:
        kind, key = _KINDS[prefix.lower()], rest.strip("`")
    else:
        kind, key = "attribute", name.strip("`")
    if kind == "attribute" and key not in ATTRIBUTES:
        hint = nearest(key, ATTRIBUTES) or f"metrics.{key}, params.{key} or tags.{key}?"
        raise FilterInvalid(f"Runs have no attribute {key!r}.", hint=hint)
    return kind, key
