"""Tables as row changes: schema, canonical row encoding, layout, reading and writing.

A table's identity is its content digest: schema, row count and the sum of its rows' hashes. How it lies on disk (its
layout of Parquet fragments and deletion bitmaps) may change without a new version (decision 3).
"""

from __future__ import annotations

from noria.data.rows.layout import Fragment, Layout, load_layout
from noria.data.rows.read import TableReader
from noria.data.rows.schema import Column, TableSchema
from noria.data.rows.write import RowsChange, TableWriter

__all__ = ["Column", "Fragment", "Layout", "RowsChange", "TableReader", "TableSchema", "TableWriter", "load_layout"]
