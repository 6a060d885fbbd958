"""What turned out to be so: taken from labels and tables, or told."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from noria.assets import Change
from noria.assets.records import AssetKind
from noria.base.actor import Actor
from noria.base.times import to_datetime
from noria.data.records import Repository, RepositoryKind
from noria.labels.records import KNOWN, LabelSpec
from noria.monitoring import queries
from noria.monitoring.errors import TruthUnfit
from noria.monitoring.labeller import read_labels
from noria.monitoring.service.base import SYSTEM, MonitoringBase
from noria.serving.records import Endpoint


class Truth(MonitoringBase):
    def truth_repository(self, endpoint: str) -> Repository:
        return self._data.ensure(
            self._project_id,
            f"{endpoint}.truth",
            RepositoryKind.TABLE,
            actor=SYSTEM,
            key=("entity",),
            known="known",
            asset_kind=AssetKind.LABELS,
        )

    def _take_truth(self, endpoint: Endpoint) -> None:
        """Labels what came since the last time.

        The labels function of the champion is run on all rows of the keys that changed, by the model's own code.
        """
        champion = self.champion(endpoint)
        if champion is None:
            return
        package, _ = self.package(champion)
        if not package.labels:  # its truth is told: noria monitor truth
            return
        spec = LabelSpec.of_value(package.labels)
        found = self._changed(endpoint, spec)
        if found is None:
            return
        tables, seqs = found
        if spec.entry:
            _, code = self._serving.folders(champion)
            made = self._labeller.label(spec, code, tables)
        else:
            made = read_labels(spec, *tables["rows"])
        frame = _truth_frame(made, spec)
        repository = self.truth_repository(endpoint.name)

        def also(change: Change) -> None:
            self._set_seqs(change, endpoint, seqs)

        head = self._data.head(repository)
        after = self._data.append(repository, frame, actor=SYSTEM, message="truth", also=also) if len(frame) else head
        if after is None or (head is not None and after.id == head.id):  # nothing new; what was read is known now
            with self._changes.begin("monitor.truth", self._project_id, SYSTEM) as change:
                change.note(endpoint.name)
                self._set_seqs(change, endpoint, seqs)

    def _set_seqs(self, change: Change, endpoint: Endpoint, seqs: dict[str, int]) -> None:
        for source, seq in seqs.items():
            queries.set_mark(change.tx, endpoint.id, f"truth:{source}", seq)

    def _changed(
        self, endpoint: Endpoint, spec: LabelSpec
    ) -> tuple[dict[str, tuple[pl.DataFrame, dict[str, Any]]], dict[str, int]] | None:
        """(parameter -> all rows of the keys that changed in any table, source -> commit generation read)."""
        key = list(spec.key)
        seqs: dict[str, int] = {}
        fresh: list[pl.DataFrame] = []
        whole: dict[str, tuple[Repository, Any, str]] = {}
        everything = False
        for slot, source in spec.tables.items():
            repository = self._data.get(self._project_id, source)
            head = self._data.head(repository)
            if head is None:
                return None
            schema = self._data.layout(head).schema
            with self._db.read() as conn:
                seen = queries.mark(conn, endpoint.id, f"truth:{source}")
            whole[slot] = (repository, schema, head.id)
            seqs[source] = head.generation
            if head.generation <= seen:
                continue
            if not set(key) <= set(schema.names):
                everything = True
                continue
            fresh.append(self._data.read(repository, head.id, columns=key, after_seq=seen))
        if not fresh and not everything:
            return None
        keys = None if everything else pl.concat(fresh, how="vertical_relaxed").unique(maintain_order=True)
        tables: dict[str, tuple[pl.DataFrame, dict[str, Any]]] = {}
        for slot, (repository, schema, commit) in whole.items():
            if keys is not None and set(key) == set(schema.key):
                frame = self._data.rows_with_keys(repository, commit, keys)
            else:
                frame = self._data.read(repository, commit, hidden=True)
                if keys is not None and set(key) <= set(schema.names):
                    frame = frame.join(keys, on=key, how="semi", maintain_order="left")
            meta = {"key": list(schema.key), "time": schema.time, "known": schema.known_column}
            tables[slot] = (frame, {**meta, "columns": {c.name: c.type for c in schema.columns}})
        return tables, seqs

    def tell_truth(self, name: str, rows: pl.DataFrame, *, actor: Actor) -> int:
        """Says what turned out to be so of predictions that an endpoint gave; what is told again replaces what was.

        Args:
            rows: columns ``id`` (of the prediction, as the caller named it or the answer did) and ``truth``.

        Returns:
            how many truths were told.

        Raises:
            TruthUnfit: the columns are others, an id is there twice, a truth is no number; or the endpoint's rows have
                a key, and noria finds their truth itself.
        """
        endpoint = self._serving.get(name)
        champion = self.champion(endpoint)
        package = None if champion is None else self.package(champion)[0]
        if package is not None and (package.features.spine.key or package.labels):
            where = f"the column {package.target!r} of {package.features.name!r}" if package.adopted else "its labels"
            raise TruthUnfit(
                f"The truth of {name!r} is taken from {where}.", hint="Add rows there: noria data append, noria run"
            )
        frame = _told(rows)
        known = to_datetime(self._event_clock.event_ms(self._project_id))
        made = frame.with_columns(known=pl.lit(known, pl.Datetime("us", "UTC")))
        now = self.truth(name)
        if len(now):  # told again: since when it is known stays
            made = made.join(now, on=["entity", "truth"], how="anti")
        if len(made):
            self._data.append(self.truth_repository(name), made, actor=actor, message="truth was told")
        return len(frame)

    def truth(self, endpoint: str) -> pl.DataFrame:
        """Columns ``entity``, ``truth`` (float64), ``known``."""
        repository = self._data.find(self._project_id, f"{endpoint}.truth")
        if repository is None or self._data.head(repository) is None:
            types: dict[str, Any] = {"entity": pl.String, "truth": pl.Float64, "known": pl.Datetime("us", "UTC")}
            return pl.DataFrame(schema=types)
        return self._data.read(repository)

    def _late(self, endpoint: Endpoint, seen: int) -> tuple[pl.DataFrame, int]:
        """(entities whose truth is new or has changed since generation ``seen``, the generation now)."""
        repository = self._data.find(self._project_id, f"{endpoint.name}.truth")
        head = None if repository is None else self._data.head(repository)
        if repository is None or head is None or head.generation <= seen:
            return pl.DataFrame(schema={"entity": pl.String}), seen
        return self._data.read(repository, head.id, columns=["entity"], after_seq=seen), head.generation


def _truth_frame(made: pl.DataFrame, spec: LabelSpec) -> pl.DataFrame:
    """``entity`` as the capture writes it: the key's values as a JSON list."""
    entities = entities_of(made.select(spec.key))
    known = made[KNOWN] if KNOWN in made.columns else pl.Series(KNOWN, [None] * len(made), pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "entity": pl.Series(entities, dtype=pl.String),
            "truth": made[spec.target].cast(pl.Float64),
            "known": known,
        }
    )


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns ``entity``, ``truth`` of told rows."""
    if sorted(rows.columns) != ["id", "truth"]:
        raise TruthUnfit(
            f"Truth has the columns id and truth, not {', '.join(rows.columns) or 'none'}.",
            hint="id is what the request called the row, or what the answer did.",
        )
    try:
        made = rows.select(pl.col("id").cast(pl.String), pl.col("truth").cast(pl.Float64))
    except pl.exceptions.PolarsError:
        raise TruthUnfit("A truth is no number.", hint="Yes or no is 1 or 0.") from None
    empty = made.filter(pl.any_horizontal(pl.all().is_null()) | pl.col("truth").is_nan()).height
    if empty or not len(made):
        raise TruthUnfit(f"{empty or 'All'} rows have no id or no truth.", hint="Leave out what is not known yet.")
    twice = made.filter(pl.col("id").is_duplicated())["id"]
    if len(twice):
        raise TruthUnfit(f"The id {twice[0]!r} is there twice.", hint="One truth for each prediction.")
    return made.select(pl.Series("entity", entities_of(made.select("id")), dtype=pl.String), "truth")


def entities_of(keys: pl.DataFrame) -> list[str]:
    encode = msgspec.json.Encoder().encode
    return [encode(list(row)).decode() for row in keys.iter_rows()]
