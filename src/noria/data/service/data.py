from __future__ import annotations

from noria.data.service.files import Files
from noria.data.service.rows import RowVerbs
from noria.data.service.rows_file import RowsFileVerbs


class Data(RowVerbs, RowsFileVerbs, Files):
    """Versioned data, files and tables. One per workspace; thread-safe."""
