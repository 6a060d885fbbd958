"""What a path below the artifact root names: a run, a logged model or a trace, and a path among its files.

Clients are given ``mlflow-artifacts:/<experiment>/<run>/artifacts`` and put names behind it; models lie under
``.../models/<model>/artifacts`` and traces under ``.../traces/<trace>/artifacts``. The id decides: what stands before
it is not compared, since runs move between experiments and an experiment may have another place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from noria.base.errors import NotFound
from noria.gateways.mlflow.routes import Asked
from noria.tracking.records import Owner, OwnerKind
from noria.tracking.shelves import check_artifact_path

_ID: Final = re.compile(r"[\w\-]{1,64}", re.ASCII)
_TRACE: Final = re.compile(r"[\w\-.:=+]{1,128}", re.ASCII)
_FOLDERS: Final = {"models": OwnerKind.MODEL, "traces": OwnerKind.TRACE, "versions": OwnerKind.VERSION}
_DECODED: Final = 10
WIDE: Final = "\uff03"
_PYTHON: Final = "mlflow-python-client/"


class PlaceNotFound(NotFound):
    """The path names nothing that has artifacts."""

    code = "artifact_place_not_found"


def by_python(asked: Asked) -> bool:
    """Whether MLflow's own Python client asks: it puts names into URLs and lists by ways of its own."""
    return asked.headers.get("user-agent", "").startswith(_PYTHON)


def shown_to_python(name: str) -> str:
    """A name as MLflow's Python client will have it after it has read a list.

    It decodes what it is told until nothing changes any more, and refuses a whole folder for the sake of one # in it,
    which is shown in its wide form therefore.
    """
    seen = name
    for _ in range(_DECODED):
        following = urlunsplit(urlsplit(unquote(seen.replace("#", WIDE))))
        if following == seen:
            break
        seen = following
    return seen.replace("#", WIDE)


def path_of(asked: Asked) -> str:
    """The path that a request names.

    MLflow's Python client does not quote ``?``, so the rest of such a name arrives as a query.
    """
    path, query = asked.path["path"], asked.scope["query_string"]
    if query and by_python(asked):
        path += "?" + unquote(query.decode("latin-1"))
    return path


def owners(path: str) -> Iterator[tuple[Owner, str]]:
    """Whom a path may name, the likeliest first, and the path among their files (empty: all of them).

    Raises:
        ArtifactPathInvalid: it leads elsewhere.
    """
    path = path.removesuffix("/")
    if path:
        check_artifact_path(path)
    parts = path.split("/")
    for n, part in enumerate(parts):
        if part != "artifacts" or n == 0:
            continue
        kind = _FOLDERS.get(parts[n - 2], OwnerKind.RUN) if n > 1 else OwnerKind.RUN
        if (_TRACE if kind is OwnerKind.TRACE else _ID).fullmatch(parts[n - 1]):
            yield Owner(kind, parts[n - 1]), "/".join(parts[n + 1 :])
