"""What the searches of this room understand, as data for ``noria.base.search``. The names are MLflow's."""

from __future__ import annotations

from typing import Final

from noria.base.search import LIST, ORDERED, TEXT, Grammar, Key, Kind

_NOTHING: Final = frozenset[str]()
_TAG: Final = Kind(name="tag", other=Key(sort=False))
_UPDATED: Final = Key(name="last_updated_timestamp", type="integer", ops=_NOTHING)
_CREATED: Final = Key(name="creation_timestamp", type="integer", ops=_NOTHING)

_MODEL: Final = Kind(
    name="attribute",
    keys={
        "name": Key(name="name", ops=TEXT | LIST),
        "creation_timestamp": _CREATED,
        "last_updated_timestamp": _UPDATED,
        "timestamp": _UPDATED,
    },
)
MODELS: Final = Grammar(
    what="models",
    prefixes={"attribute": _MODEL, "tags": _TAG, "tag": _TAG},
    default=_MODEL,
    example='name like "fly%" and tags.team = "a"',
    order_example="last_updated_timestamp desc",
)

_VERSION: Final = Kind(
    name="attribute",
    keys={
        "name": Key(name="name", ops=TEXT | LIST),
        "run_id": Key(name="run_id", ops=TEXT | LIST, sort=False),
        "source_path": Key(name="source_path", sort=False),
        "version_number": Key(name="version_number", type="whole", ops=ORDERED),
        "creation_timestamp": _CREATED,
        "last_updated_timestamp": _UPDATED,
    },
)
VERSIONS: Final = Grammar(
    what="versions",
    prefixes={"attribute": _VERSION, "tags": _TAG, "tag": _TAG},
    default=_VERSION,
    example='name = "fly" and version_number >= 3',
    order_example="version_number desc",
    quoted_numbers=True,
)
