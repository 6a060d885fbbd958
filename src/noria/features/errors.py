from __future__ import annotations

from typing import Any

from noria.base.errors import Failed, Invalid, Refused


class FeatureInvalid(Invalid):
    """A features function uses its tables in a way that cannot be kept."""

    code = "feature_invalid"


class FeatureLeaks(Refused):
    """A feature uses what was not known at its moment."""

    code = "feature_leaks"

    def __init__(self, name: str, column: str, key: Any, bulk: Any, honest: Any) -> None:
        super().__init__(
            f"The feature {column!r} of {name!r} sees what was not known yet: for {key} it is {bulk!r}, "
            f"but {honest!r} when rows that were not known at that moment are taken away.",
            hint=f"Look how {column!r} is made: other tables are seen through nr.asof(..., at=...) and nr.history "
            "only, with the same at= as @nr.features.",
            details={"features": name, "column": column, "key": str(key), "bulk": str(bulk), "honest": str(honest)},
        )


class FeatureSkewed(Refused):
    """A feature differs between bulk and a single request."""

    code = "feature_skewed"

    def __init__(self, name: str, column: str, key: Any, bulk: Any, single: Any) -> None:
        super().__init__(
            f"The feature {column!r} of {name!r} is {bulk!r} in bulk and {single!r} for a single request ({key}).",
            hint="A feature of one row must not depend on the other rows of the request: no window, rank or mean over "
            "the frame. The past of a key comes from nr.history.",
            details={"features": name, "column": column, "key": str(key), "bulk": str(bulk), "single": str(single)},
        )


class FeatureRows(Failed):
    """A features function does not return one row for each row of its spine."""

    code = "feature_rows"


class TooFarBack(Refused):
    """A request asks for a moment of which the online store no longer holds the rows."""

    code = "too_far_back"
