from __future__ import annotations

from noria.data.service.files import Files
from noria.data.service.rows import RowVerbs


class Data(RowVerbs, Files):
    """Versioned data, files and tables. One per workspace; thread-safe."""
