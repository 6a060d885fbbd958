"""Rows in the form of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from noria.base.errors import Invalid, MissingExtra
from noria.base.names import nearest

if TYPE_CHECKING:
    import polars as pl

Form: TypeAlias = Literal["polars", "arrow", "pandas", "duckdb"]
FORMS = ("polars", "arrow", "pandas", "duckdb")


def as_form(frame: pl.DataFrame, to: str) -> Any:
    """A frame of Polars, as it is or as another library has it; Arrow and DuckDB share its memory.

    Raises:
        MissingExtra: the library is not installed.
    """
    if to == "polars":
        return frame
    if to == "arrow":
        return frame.to_arrow()
    if to == "pandas":
        try:
            return frame.to_pandas(use_pyarrow_extension_array=True)
        except ModuleNotFoundError:
            raise MissingExtra("pandas", "ml", "Reading as pandas") from None
    if to == "duckdb":
        try:
            import duckdb
        except ModuleNotFoundError:
            raise MissingExtra("duckdb", "duckdb", "Reading as DuckDB") from None
        return duckdb.from_arrow(frame.to_arrow())
    raise Invalid(f"Rows cannot be read as {to!r}.", hint=nearest(to, FORMS) or f"One of {', '.join(FORMS)}.")
