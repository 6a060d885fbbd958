"""What routes are made of: declarations, the error table, access, pages, OpenAPI. It has no routes of its own."""

from __future__ import annotations

from noria.http.content import Content
from noria.http.routes import Call, Route

__all__ = ["Call", "Content", "Route"]
