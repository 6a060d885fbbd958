from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from noria.assets import Changes
from noria.base.ids import ProjectId
from noria.base.names import nearest
from noria.db import Database, Tx
from noria.registry import queries
from noria.registry.errors import AliasInvalid, ModelNameInvalid, ModelNotFound, ModelTagInvalid, ModelUsed
from noria.registry.records import ModelVersion, RegisteredModel

if TYPE_CHECKING:
    from sqlalchemy import Connection

User = Callable[["Connection", ProjectId, str, int | None], str | None]
"""What relies on a model (or, with a number, on that version of it): "the endpoint 'eta'", or None."""

_MAX_NAME: Final = 256
_MAX_TAG_KEY: Final = 250
_MAX_TAG_VALUE: Final = 100_000
_MAX_TEXT: Final = 100_000
_KEY: Final = re.compile(r"[\w\-. :/]+")
_ALIAS: Final = re.compile(r"[\w\-.]{1,255}")


class Base:
    """What all verbs of the room share."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db = db
        self._changes = changes
        self.users: list[User] = []
        """Who relies on names of models; ``workspace`` adds those of other rooms."""

    def get(self, project_id: ProjectId, name: str, tx: Tx | None = None) -> RegisteredModel:
        """The registered model of this name.

        Raises:
            ModelNotFound: there is none.
        """
        with self._db.read(tx) as conn:
            found = queries.model(conn, project_id, name)
            if found is None:
                hint = nearest(name, queries.names(conn, project_id)) or "noria models list"
                raise ModelNotFound(f"There is no registered model {name!r:.300}.", hint=hint)
            return found

    def version(self, project_id: ProjectId, name: str, number: int, tx: Tx | None = None) -> ModelVersion:
        """A version by its number.

        Raises:
            ModelNotFound: there is none, or it was deleted.
        """
        with self._db.read(tx) as conn:
            model = queries.model(conn, project_id, name)
            found = None if model is None else queries.version(conn, model.id, number)
        if found is None:
            raise ModelNotFound(f"There is no version {number} of {name!r:.300}.", hint=f"noria models show {name}")
        return found

    def _refuse_used(self, tx: Tx, project_id: ProjectId, name: str, number: int | None = None) -> None:
        for user in self.users:
            found = user(tx.conn, project_id, name, number)
            if found is not None:
                what = name if number is None else f"{name}/{number}"
                raise ModelUsed(
                    f"{what} serves at {found}.",
                    hint="Let another version serve there first." if number else "Its name has to stay.",
                    details={"model": what, "user": found},
                )


def check_model(name: str) -> str:
    """Nearly any text may name a model; what an address is made of may not be in it.

    Raises:
        ModelNameInvalid: it is empty, too long, or holds ``/``, ``:`` or a control character.
    """
    reason = ""
    if not name.strip():
        reason = "it is empty"
    elif len(name) > _MAX_NAME:
        reason = f"it has {len(name)} characters, and {_MAX_NAME} are allowed"
    elif "/" in name or ":" in name or name in (".", ".."):
        reason = "a name holds no / and no :, and is neither . nor .."
    elif not name.isprintable():
        reason = "it holds a control character"
    if reason:
        raise ModelNameInvalid(f"{name!r:.300} cannot be the name of a model: {reason}.")
    return name


def check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise AliasInvalid(
            f"{alias!r:.300} cannot be an alias.", hint="Up to 255 letters, digits, underscores, dashes and dots."
        )
    if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
        raise AliasInvalid(f"{alias!r} cannot be an alias.", hint="latest and v3 mean version numbers elsewhere.")


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        bad = not _KEY.fullmatch(key) or ".." in key or "//" in key or key.startswith("/") or key.endswith("/")
        if bad or key == "." or len(key) > _MAX_TAG_KEY:
            raise ModelTagInvalid(
                f"{key!r:.300} cannot name a tag of a model.",
                hint=f"Up to {_MAX_TAG_KEY} letters, digits, _ - . : / and spaces; no .. and no // and no / in front.",
            )
        if len(value) > _MAX_TAG_VALUE:
            raise ModelTagInvalid(f"The tag {key!r} has {len(value)} characters; {_MAX_TAG_VALUE} are allowed.")
    return tags


def check_text(what: str, text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise ModelTagInvalid(f"The {what} has {len(text)} characters; {_MAX_TEXT} are allowed.")
    return text


def tag_rows(model_id: int, number: int, tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"model_id": model_id, "number": number, "key": key, "value": value} for key, value in tags.items()]
