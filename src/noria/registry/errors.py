from __future__ import annotations

from noria.base.errors import Conflict, Invalid, NotFound


class ModelNotFound(NotFound):
    """There is no such registered model, version or alias."""

    code = "model_not_found"


class AliasMoved(Conflict):
    """An alias points elsewhere than the caller had seen."""

    code = "alias_moved"

    def __init__(self, model: str, alias: str, expected: int | None, found: int | None) -> None:
        super().__init__(
            f"{model}@{alias} points at version {found or 'nothing'}, not at {expected or 'nothing'}.",
            hint=f"noria models show {model}",
            details={"model": model, "alias": alias, "expected": expected, "found": found},
        )


class AliasInvalid(Invalid):
    """The name of an alias is not allowed."""

    code = "alias_invalid"


class ModelNameInvalid(Invalid):
    """The name of a model is not allowed."""

    code = "model_name_invalid"


class ModelExists(Conflict):
    """There is a registered model of this name."""

    code = "model_exists"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is a registered model {name!r:.100} already.",
            hint="Register a version of it, or take another name.",
            details={"model": name},
        )


class ModelUsed(Conflict):
    """A model or version cannot go, or be renamed, while something relies on its name."""

    code = "model_used"


class ModelTagInvalid(Invalid):
    """A tag of a model or version is not allowed."""

    code = "model_tag_invalid"
