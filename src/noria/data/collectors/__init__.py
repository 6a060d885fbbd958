"""Where rows come from: one module for each kind of source."""

from __future__ import annotations

from noria.data.collectors.buckets import BucketSource
from noria.data.collectors.files import FileSource
from noria.data.collectors.sql import SqlSource
from noria.data.collectors.url import UrlSource

__all__ = ["BucketSource", "FileSource", "SqlSource", "UrlSource"]
