"""The verb that makes a model of MLflow's client one that endpoints serve: judged, packed, a version of its own.

A client's package says how to load a model and which rows it takes. It does not say what it is judged by, what its
rows are called, or what its scores looked like: that is added here, in a run of the kind ``adopt`` that reads the
client's version (and the rows that judge it) and makes the version that is deployed. Adopting is also consent: a
client's package holds code, which runs in a process of its own from here on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from noria.assets import Assets, Changes, EvidenceLog, StoreSessions
from noria.assets.beating import beating
from noria.assets.errors import AssetNotFound, RunFenced
from noria.assets.records import AssetKind, Content, Direction, RunState, Version
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId, RunId
from noria.pipelines.service import Pipelines
from noria.pipelines.values import Stored
from noria.registry.records import ModelVersion
from noria.training.adopting import Adopting
from noria.training.errors import AdoptionInvalid, PackageForeign, SignatureUnfit
from noria.training.kinds import record_facts
from noria.training.signature import Signature, of_inputs

_RUNNER: Final = "noria.training.adopt:run_adopt"
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_PAGE: Final = 100


class Adoption:
    """One per workspace."""

    def __init__(
        self,
        project_id: ProjectId,
        assets: Assets,
        changes: Changes,
        evidence: EvidenceLog,
        sessions: StoreSessions,
        pipelines: Pipelines,
        clock: Clock,
    ) -> None:
        self._project_id = project_id
        self._assets = assets
        self._changes = changes
        self._evidence = evidence
        self._sessions = sessions
        self._pipelines = pipelines
        self._clock = clock

    def adopt(
        self, model: ModelVersion, *, actor: Actor, settings: Adopting | None = None, table: Version | None = None
    ) -> Version:
        """The version that serves a model version, made if it is new.

        With equal settings and an equal table nothing is computed again. Without ``settings`` those of the version
        before are used, with the table as it is now.

        Args:
            table: the very version of the table that ``settings`` name.

        Raises:
            AdoptionInvalid: noria trained it itself, or the table does not fit the model.
            SignatureUnfit: nobody knows which rows it takes.
            ComputeFailed: it cannot be loaded here, or fails on its own rows.
        """
        source = self._source(model)
        wanted = (settings or self.settings(model.model)).check()
        inputs = {"model": source}
        if wanted.on:
            inputs["table"] = table or self._table(wanted.on)
        asked = {**wanted.as_value(), "of": source.id, "table": inputs["table"].id if wanted.on else None}
        newest = self.find(model)
        if newest is not None and newest.meta["asked"] == asked:
            return newest
        signature = _signature(source, model)
        run_id = self._begin(model, inputs, actor)
        try:
            with beating(self._assets.heartbeat):
                return self._made(model, inputs, signature, wanted, asked, run_id, actor)
        except RunFenced:
            raise
        except NoriaError as error:
            with self._changes.begin("training.adopt", self._project_id, actor) as change:
                self._assets.end_run(change.tx, run_id, RunState.FAILED, error=error.as_dict()["error"])
                change.note(model.name, run=run_id, error=error.code)
            raise

    def find(self, model: ModelVersion) -> Version | None:
        """The newest adoption of a model version."""
        return next((v for v in self._adopted(model.model) if v.meta["asked"]["of"] == model.version_id), None)

    def settings(self, model: str, **said: Any) -> Adopting:
        """What the newest adopted version of a model was adopted with, but for what is ``said`` and not None."""
        found = next(self._adopted(model), None)
        before = (None if found is None else self.asked(found)) or Adopting()
        return replace(before, **{name: value for name, value in said.items() if value is not None})

    def is_foreign(self, version: Version) -> bool:
        """Whether a model version's package was made by somebody else than noria."""
        if "flavors" not in version.meta:  # what ours are registered with has no such fact
            return False
        return not (self._pipelines.values.materialise(version) / "noria.json").is_file()

    def served(self, model: ModelVersion, version: Version) -> Version:
        """The version that is deployed for a model version: itself where noria trained it.

        Raises:
            PackageForeign: it is a client's, and nobody has adopted it.
        """
        if not self.is_foreign(version):
            return version
        found = self.find(model)
        if found is None:
            raise PackageForeign(
                f"{model.name} was logged through MLflow, and nobody has adopted it here yet.",
                hint=f"noria adopt {model.name}",
            )
        return found

    @staticmethod
    def asked(version: Version) -> Adopting | None:
        """What a version was adopted with; None for one that noria trained."""
        return Adopting.of_value(version.meta["asked"]) if "asked" in version.meta else None

    def run_of(self, version: Version) -> RunId | None:
        """The run that adopted a version; None for one that noria trained."""
        return RunId(version.meta["run"]) if "asked" in version.meta else None

    def table_of(self, version: Version) -> Version | None:
        """The table that judged an adopted version; None where none did, or noria trained it."""
        table = version.meta["asked"]["table"] if "asked" in version.meta else None
        return None if table is None else self._assets.version(table)

    # ---- parts

    def _source(self, model: ModelVersion) -> Version:
        if model.version_id is None:
            raise AdoptionInvalid(
                f"The files of {model.name} are not here: its source is {model.source!r:.200}.",
                hint="Register it from a logged model: mlflow.register_model('models:/m-...', name)",
            )
        version = self._assets.version(model.version_id)
        if not self.is_foreign(version):
            raise AdoptionInvalid(
                f"{model.name} was trained by noria: there is nothing to adopt.", hint=f"noria release {model.name}"
            )
        return version

    def _table(self, text: str) -> Version:
        name, _, ref = text.partition("@")
        found = self._pipelines.pinned(name, ref) if ref else self._pipelines.current(name)
        if found.content != Content.TABLE:
            raise AdoptionInvalid(f"{name!r} is no table.", hint="noria data list")
        return found

    def _begin(self, model: ModelVersion, inputs: dict[str, Version], actor: Actor) -> RunId:
        with self._changes.begin("training.adopt", self._project_id, actor) as change:
            run = self._assets.start_run(change.tx, self._project_id, kind="adopt", name=model.name, actor=actor)
            for slot, version in inputs.items():
                self._assets.link(change.tx, run.id, version.id, Direction.IN, slot)
            change.note(model.name, run=run.id)
        return run.id

    def _made(
        self,
        model: ModelVersion,
        inputs: dict[str, Version],
        signature: Signature,
        wanted: Adopting,
        asked: dict[str, Any],
        run_id: RunId,
        actor: Actor,
    ) -> Version:
        spec = {
            "model": model.model,
            "settings": wanted.as_value(),
            "signature": signature.as_value(),
            "mlflow": str(inputs["model"].meta.get("mlflow", "")),
            "run": run_id,
        }
        with self._pipelines.computed(f"adopt-{run_id[:8]}", _RUNNER, inputs, spec) as outputs:
            judged = next((output.value for output in outputs if output.slot == "evaluation"), None)
            facts = None if judged is None else json.loads((judged / "facts.json").read_text(encoding="utf-8"))
            for output in outputs:
                if output.slot == "":
                    output.meta = {**output.meta, "asked": asked, "model": model.model, "run": run_id}
            with self._sessions.writer() as writer:
                known_us = self._clock.now_ms() * 1000
                stored = [self._pipelines.values.store(writer, output, known_us=known_us) for output in outputs]
                packs = writer.flush()
                with self._changes.begin("training.adopt", self._project_id, actor) as change:
                    self._sessions.seal(change.tx, packs)
                    versions = {s.slot: self._version(change.tx, model.model, run_id, s) for s in stored}
                    made = versions[""]
                    if facts is not None:
                        record_facts(self._evidence, change, model.name, made.id, run_id, facts)
                    self._assets.end_run(change.tx, run_id, RunState.DONE)
                    change.note(model.name, run=run_id, version=made.id)
                    change.event("model.adopted", model.model, {"number": model.number, "version": made.id})
        return made

    def _version(self, tx: Any, model: str, run_id: RunId, stored: Stored) -> Version:
        kind = AssetKind.MODEL if stored.slot == "" else AssetKind.REPORT
        return self._pipelines.add_output(tx, _asset_name(model, stored.slot), kind, run_id, stored)

    def _adopted(self, model: str) -> Iterator[Version]:
        """Newest first."""
        try:
            asset = self._assets.asset(self._project_id, _asset_name(model, ""))
        except AssetNotFound:
            return
        after: str | None = None
        while True:
            page = self._assets.list_versions(asset.id, limit=_PAGE, after=after)
            yield from (v for v in page.items if v.meta.get("model") == model and not v.gone)
            after = page.next
            if after is None:
                return


def _signature(source: Version, model: ModelVersion) -> Signature:
    if "python_function" not in source.meta["flavors"]:
        raise SignatureUnfit(
            f"{model.name} has no flavor python_function; it has {', '.join(source.meta['flavors'])}.",
            hint="Log it with one of MLflow's flavors, or as mlflow.pyfunc.",
        )
    said: dict[str, Any] = source.meta.get("signature") or {}
    return of_inputs(said.get("inputs"), model.name)


def _asset_name(model: str, slot: str) -> str:
    """Apart from the assets of pipelines, which own their names; cut texts are told apart by the versions' facts."""
    return f"served.{_NAME.sub('-', model)}"[:110] + (f".{slot}" if slot else "")
