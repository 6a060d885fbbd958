"""Runs the labels function of a served model on new rows: in a warm worker process, from the model's own code."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import polars as pl

from noria.labels.records import LabelSpec
from noria.monitoring.errors import TruthFailed
from noria.pipelines.executors import ProcessExecutor
from noria.pipelines.executors.protocol import Done, Lost
from noria.pipelines.task import InputSpec, TaskSpec

_SECONDS: Final = 120.0


class Labeller:
    """One warm worker, started when it is first needed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._executor: ProcessExecutor | None = None
        self._number = 0

    def label(
        self, spec: LabelSpec, code: Path, tables: dict[str, tuple[pl.DataFrame, dict[str, Any]]]
    ) -> pl.DataFrame:
        """The truth of the rows in ``tables`` (parameter -> rows and what is known of the table).

        Returns:
            a frame of the key, the target and ``_known``.

        Raises:
            TruthFailed: the function raised, or its process died.
        """
        if self._executor is None:
            self._executor = ProcessExecutor(workers=1, environment=self._environment)
        self._number += 1
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
            attempt = f"truth-{self._number}"
            self._executor.submit(
                TaskSpec(
                    attempt=attempt,
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
            )
            return self._wait(spec, attempt, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _wait(self, spec: LabelSpec, attempt: str, out: Path) -> pl.DataFrame:
        assert self._executor is not None
        while True:
            for event in self._executor.poll(1.0):
                if event.attempt != attempt:
                    continue
                if isinstance(event, Lost):
                    raise TruthFailed(f"The truth {spec.name!r} could not be made: {event.reason}.")
                if isinstance(event, Done):
                    if not event.result.ok:
                        error = event.result.error or {}
                        raise TruthFailed(
                            f"The truth {spec.name!r} could not be made: {error.get('message', '?')}",
                            hint=str(error.get("hint", "")),
                        )
                    (made,) = [o for o in event.result.outputs if o.slot == ""]
                    return pl.read_ipc(out / made.path)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None
