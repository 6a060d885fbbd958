"""Tables as row changes: schema, canonical row encoding, layout, reading and writing.

A table's identity is its content digest: schema, row count and the sum of its rows' hashes. How it lies on disk (its
layout of Parquet fragments and deletion bitmaps) may change without a new version (decision 3).
"""

from __future__ import annotations

from noria.data.rows.diff import RowsDiff, change_between, diff_layouts
from noria.data.rows.layout import Fragment, Layout, load_layout
from noria.data.rows.merge import MergedRows, merge_layouts
from noria.data.rows.read import TableReader
from noria.data.rows.schema import Column, TableSchema
from noria.data.rows.write import RowsChange, TableWriter

__all__ = [
    "Column",
    "Fragment",
    "Layout",
    "MergedRows",
    "RowsChange",
    "RowsDiff",
    "TableReader",
    "TableSchema",
    "TableWriter",
    "change_between",
    "diff_layouts",
    "load_layout",
    "merge_layouts",
]
