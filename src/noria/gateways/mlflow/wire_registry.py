"""Shapes of MLflow's messages about registered models and their versions."""

from __future__ import annotations

import msgspec

from noria.gateways.mlflow.wire import In, Out, Tag

# ---- what is sent


class AliasOut(Out):
    alias: str
    version: str


class VersionOut(Out):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    source: str
    status: str
    user_id: str = ""
    description: str = ""
    run_id: str = ""
    status_message: str = ""
    tags: list[Tag] = msgspec.field(default_factory=list)
    run_link: str = ""
    aliases: list[str] = msgspec.field(default_factory=list)


class ModelOut(Out):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[VersionOut] = msgspec.field(default_factory=list)
    tags: list[Tag] = msgspec.field(default_factory=list)
    aliases: list[AliasOut] = msgspec.field(default_factory=list)


# ---- what clients send


class CreateModel(In):
    name: str | None = None
    tags: list[Tag] | None = None
    description: str | None = None


class NamedModel(In):
    name: str | None = None


class RenameModel(In):
    name: str | None = None
    new_name: str | None = None


class UpdateModel(In):
    name: str | None = None
    description: str | None = None


class SearchRegistry(In):
    filter: str | None = None
    max_results: int | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class GetLatest(In):
    name: str | None = None
    stages: list[str] | None = None


class ModelTag(In):
    name: str | None = None
    key: str | None = None
    value: str | None = None


class ModelAlias(In):
    name: str | None = None
    alias: str | None = None
    version: str | None = None


class CreateVersion(In):
    name: str | None = None
    source: str | None = None
    run_id: str | None = None
    tags: list[Tag] | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class NamedVersion(In):
    name: str | None = None
    version: str | None = None


class VersionFile(NamedVersion):
    path: str | None = None


class UpdateVersion(NamedVersion):
    description: str | None = None


class VersionTag(NamedVersion):
    key: str | None = None
    value: str | None = None


class MoveStage(NamedVersion):
    stage: str | None = None
    archive_existing_versions: bool | None = None
