"""The content of values that a function reaches: module constants, closure cells, class attributes, defaults."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import re
import sys
import uuid
from typing import Any, Final

from noria.base import canonical
from noria.base.errors import Invalid

_PLAIN: Final = (bool, int, float, str, bytes, type(None))
_SHORT: Final = 40
_ARRAY_BYTES: Final = 1 << 20


class OpaqueError(Exception):
    """A value without a canonical form; it counts by its type only, and people are told."""


def describe(value: Any) -> str:
    """Short values in words, long ones as a digest. Raises ``OpaqueError``."""
    form = canonical_form(value)
    try:
        text = canonical.encode(form)
    except Invalid:
        raise OpaqueError(type(value).__qualname__) from None
    return text.decode() if len(text) <= _SHORT else str(canonical.digest(form))


def canonical_form(value: Any, depth: int = 0) -> Any:
    """A plain value that stands for ``value`` in every process. Raises ``OpaqueError``."""
    if depth > 20:
        raise OpaqueError("nested too deep")
    if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, list | tuple):
        items = [canonical_form(v, depth + 1) for v in value]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, set | frozenset):
        return {"$set": sorted(canonical.encode(canonical_form(v, depth + 1)).decode() for v in value)}
    if isinstance(value, dict):
        pairs = [[canonical_form(k, depth + 1), canonical_form(v, depth + 1)] for k, v in value.items()]
        return {"$dict": sorted(pairs, key=lambda pair: canonical.encode(pair[0]))}
    if isinstance(value, enum.Enum):
        return {"$enum": [type(value).__qualname__, value.name]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: canonical_form(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
        return {"$dataclass": [type(value).__qualname__, fields]}
    return _by_library(value)


def _by_library(value: Any) -> Any:
    kind = type(value)
    if isinstance(
        value, dt.date | dt.time | dt.timedelta | dt.timezone | decimal.Decimal | uuid.UUID | complex | range
    ):
        return {f"${kind.__name__}": repr(value)}
    if isinstance(value, pathlib.PurePath):
        return {"$path": value.as_posix()}
    if isinstance(value, re.Pattern):
        return {"$regex": [value.pattern, value.flags]}
    module = kind.__module__.partition(".")[0]
    if module == "polars":
        return _polars(value)
    if module == "numpy":
        return _numpy(value)
    raise OpaqueError(f"{kind.__module__}.{kind.__qualname__}")


def _polars(value: Any) -> Any:
    pl = sys.modules["polars"]
    if isinstance(value, pl.Expr):
        return {"$expr": value.meta.serialize(format="json")}
    if isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType)):
        return {"$dtype": str(value)}
    raise OpaqueError(f"polars.{type(value).__qualname__}")


def _numpy(value: Any) -> Any:
    np = sys.modules["numpy"]
    if isinstance(value, np.ndarray) and value.nbytes <= _ARRAY_BYTES and value.dtype.kind in "biufcSUMm":
        return {"$array": [str(value.dtype), list(value.shape), value.tobytes()]}
    if isinstance(value, np.generic | np.dtype):
        return {"$numpy": [str(getattr(value, "dtype", value)), repr(value)]}
    raise OpaqueError(f"numpy.{type(value).__qualname__}")
