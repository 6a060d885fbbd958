from __future__ import annotations

from noria.data.service.batches import BatchVerbs
from noria.data.service.files import Files
from noria.data.service.rows_file import RowsFileVerbs


class Data(BatchVerbs, RowsFileVerbs, Files):
    """Versioned data, files and tables. One per workspace; thread-safe."""
