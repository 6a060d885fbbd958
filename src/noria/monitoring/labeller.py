"""Runs the labels function of a served model on new rows: in a worker process, from the model's own code."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import polars as pl

from noria.labels.records import KNOWN, LabelSpec
from noria.monitoring.errors import TruthFailed
from noria.pipelines.executors import SideWorker, TaskFailed
from noria.pipelines.task import InputSpec, TaskSpec

_SECONDS: Final = 120.0


def read_labels(spec: LabelSpec, frame: pl.DataFrame, meta: dict[str, Any]) -> pl.DataFrame:
    """The truth where it is a column of a table: the key, the target and ``_known``, of the rows that have it."""
    known = meta.get("known")
    since = pl.col(known).cast(pl.Datetime("us", "UTC")) if known else pl.lit(None, pl.Datetime("us", "UTC"))
    made = frame.filter(pl.col(spec.target).is_not_null())
    return made.select(*spec.key, spec.target, since.alias(KNOWN)).unique(
        list(spec.key), keep="last", maintain_order=True
    )


class Labeller:
    """One per workspace."""

    def __init__(self, worker: SideWorker) -> None:
        self._worker = worker

    def label(
        self, spec: LabelSpec, code: Path, tables: dict[str, tuple[pl.DataFrame, dict[str, Any]]]
    ) -> pl.DataFrame:
        """The truth of the rows in ``tables`` (parameter -> rows and what is known of the table).

        Returns:
            a frame of the key, the target and ``_known``.

        Raises:
            TruthFailed: the function raised, or its process died.
        """
        folder = Path(tempfile.mkdtemp(prefix="noria-truth-"))
        try:
            inputs = [InputSpec(slot="of", asset=spec.of, kind="table", digest="", layout="", meta={"key": spec.key})]
            for slot, (frame, meta) in tables.items():
                path = folder / f"{slot}.arrow"
                frame.write_ipc(path)
                asset = spec.tables[slot]
                made = InputSpec(
                    slot=slot, asset=asset, kind="table", digest="", layout="", path=str(path), meta={**meta}
                )
                inputs.append(made)
            out = folder / "out"
            out.mkdir()
            task = TaskSpec(
                attempt="",
                asset=spec.name,
                kind="labels",
                runner="noria.labels.run:run_labels",
                entry=spec.entry,
                code=str(code),
                inputs=inputs,
                spec={"of": spec.of, "after_ms": spec.after_ms},
                out=str(out),
                timeout=int(_SECONDS * 1000),
            )
            try:
                done = self._worker.run(task)
            except TaskFailed as error:
                text = f"The truth {spec.name!r} could not be made: {error.message}"
                raise TruthFailed(text, hint=error.hint) from None
            (made,) = [o for o in done.outputs if o.slot == ""]
            return pl.read_ipc(out / made.path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
