"""Logged and registered models in MLflow's database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from noria.gateways.mlflow.moving.records import MODEL_STATES, SourceExperiment, SourceLogged, SourcePoint
from noria.gateways.mlflow.moving.sheets import PAGE, Sheets, mark_of
from noria.gateways.mlflow.moving.words import stage_of
from noria.registry.records import ForeignModel, ForeignVersion

_GONE: Final = "Deleted_Internal"


class ModelSheets(Sheets):
    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]:
        columns = {
            "model_id": "",
            "name": "",
            "model_type": "",
            "status": 2,
            "source_run_id": "",
            "artifact_location": "",
            "creation_timestamp_ms": 0,
            "last_updated_timestamp_ms": 0,
            "lifecycle_stage": "active",
        }
        after = ""
        rest = f"WHERE experiment_id = ? AND model_id > ? ORDER BY model_id LIMIT {PAGE}"
        while True:
            rows = self._rows("logged_models", columns, rest, (int(experiment.id), after))
            if not rows:
                return
            for row in rows:
                yield self._logged(*row)
            after = rows[-1][0]

    def _logged(self, id: str, name: str, kind: str, status: int, run: str, place: str, *more: Any) -> SourceLogged:
        created, updated, stage = more
        texts = [
            dict(self._rows(table, {key: "", value: ""}, "WHERE model_id = ?", (id,)))
            for table, key, value in (
                ("logged_model_params", "param_key", "param_value"),
                ("logged_model_tags", "tag_key", "tag_value"),
            )
        ]
        columns = {
            "run_id": "",
            "metric_name": "",
            "metric_timestamp_ms": 0,
            "metric_step": 0,
            "metric_value": None,
            "dataset_name": "",
            "dataset_digest": "",
        }
        points = [
            SourcePoint(
                run=of, key=key, mark=mark_of(at, step, value, value is None), dataset=data or "", digest=digest or ""
            )
            for of, key, at, step, value, data, digest in self._rows(
                "logged_model_metrics", columns, "WHERE model_id = ?", (id,)
            )
        ]
        return SourceLogged(
            id=id,
            name=name,
            kind=kind or "",
            status=MODEL_STATES.get(status, "UNSPECIFIED"),
            run=run or "",
            place=place or "",
            created_at=created,
            updated_at=updated,
            deleted=stage == "deleted",
            params=texts[0],
            tags=texts[1],
            points=points,
        )

    def models(self) -> Iterator[ForeignModel]:
        columns = {"name": "", "description": "", "creation_time": 0, "last_updated_time": 0}
        after = ""
        while True:
            rows = self._rows("registered_models", columns, f"WHERE name > ? ORDER BY name LIMIT {PAGE}", (after,))
            if not rows:
                return
            for name, description, created, updated in rows:
                tags = dict(self._rows("registered_model_tags", {"key": "", "value": ""}, "WHERE name = ?", (name,)))
                aliases = dict(
                    self._rows("registered_model_aliases", {"alias": "", "version": 0}, "WHERE name = ?", (name,))
                )
                yield ForeignModel(
                    name=name,
                    description=description or "",
                    created_at=created,
                    updated_at=updated or created,
                    tags={key: value or "" for key, value in tags.items()},
                    aliases=aliases,
                    versions=self._versions(name),
                )
            after = rows[-1][0]

    def _versions(self, name: str) -> list[ForeignVersion]:
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        columns = {"version": 0, "key": "", "value": ""}
        for number, key, value in self._rows("model_version_tags", columns, "WHERE name = ?", (name,)):
            tags[number][key] = value or ""
        columns = {
            "version": 0,
            "source": "",
            "run_id": "",
            "description": "",
            "current_stage": "None",
            "run_link": "",
            "creation_time": 0,
            "last_updated_time": 0,
        }
        rows = self._rows("model_versions", columns, "WHERE name = ? ORDER BY version", (name,))
        return [
            ForeignVersion(
                number=number,
                source=source or "",
                run=run or "",
                description=description or "",
                stage=stage_of(stage),
                link=link or "",
                created_at=created,
                updated_at=updated or created,
                logged_model=_logged_of(source),
                tags=tags[number],
            )
            for number, source, run, description, stage, link, created, updated in rows
            if stage != _GONE
        ]


def _logged_of(source: str | None) -> str:
    """The logged model that a source names; the database says it nowhere else."""
    name = (source or "").removeprefix("models:/")
    return name if name != source and name.startswith("m-") and "/" not in name else ""
