"""Contracts as text that a person edits: TOML with comments, and JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from noria.base.errors import Invalid

if TYPE_CHECKING:
    from noria.data.contract_infer import Seen

_COLUMN = {
    "missing": "largest share of nulls, 0 to 1",
    "min": "smallest value",
    "max": "largest value",
    "levels": "nothing else is allowed",
    "matches": "a regular expression that the text contains",
}
_WHERE = {
    "columns": "",
    "rules": "# SQL over the columns, true for good rows.",
    "table": "# The batch: the rows that come, whatever is there already.",
    "whole": "# The table as it would be after the commit. unique reads its columns from the whole table each time.",
    "files": "# The files of a commit. Patterns are those of `noria data ls`: a star crosses folders.",
}
_HINTS = {
    "rules": ['# positive = "distance > 0 or distance is null"'],
    "table": ["# max_rows = 100000", '# unique = [["flight_id"]]', '# fresh = "2d"    # the newest event time'],
    "whole": ["# min_rows = 1000", '# unique = [["email"]]', '# fresh = "2d"'],
}


def read(text: str, name: str) -> Any:
    """A contract as a plain value: JSON where the name says so, else TOML.

    Raises:
        Invalid: it is neither, with the place of the mistake.
    """
    try:
        return _plain(json.loads(text) if name.endswith(".json") else tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{name} cannot be read: {error}.", hint="TOML, or JSON in a file that ends with .json") from None


def write(name: str, value: Mapping[str, Any], seen: Mapping[str, Iterable[Seen]] | None = None) -> str:
    """The text of a contract, with what may stand in each part said beside it.

    Args:
        seen: what an inferred contract does not ask for: it stands there as a comment.
    """
    lines = [
        f"# What has to hold before a commit of {name} may land.",
        f"#   noria data contract check {name} --contract FILE    tries this file on what is there",
        f"#   noria data contract set {name} FILE                 puts it in force",
    ]
    for column, part in value.get("columns", {}).items():
        lines += ["", f"[columns.{_key(column)}]"]
        lines += _pairs(part, _COLUMN)
        lines += [_seen(one) for one in (seen or {}).get(column, ())]
    for section in ("rules", "table", "whole", "files"):
        part = value.get(section)
        if not part and section == "files":
            continue
        if section != "files" and "columns" not in value:
            continue
        lines += ["", _WHERE[section], f"[{section}]" if part else f"# [{section}]"]
        lines += _pairs(part or {}, {})
        known = part or {}
        if section != "rules" or not known:
            lines += [hint for hint in _HINTS.get(section, []) if hint[2:].partition(" ")[0] not in known]
    return "\n".join(lines) + "\n"


def _pairs(part: Mapping[str, Any], words: Mapping[str, str]) -> Iterable[str]:
    for key, value in part.items():
        text = f"{_key(key)} = {_value(value)}"
        yield f"{text:<28} # {words[key]}" if key in words else text


def _seen(one: Seen) -> str:
    text = f"# {_key(one.name)} = {_value(one.value)}"
    return f"{text:<28} # seen {one.why}"


def _key(text: str) -> str:
    plain = text.isascii() and text.replace("_", "a").replace("-", "a").isalnum()
    return text if plain else _text(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    """Times of TOML as text, as they stand in JSON."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
