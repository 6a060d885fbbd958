"""Routes by which people put runs and experiments in order."""

from __future__ import annotations

from noria.assets import Assets
from noria.base.ids import ProjectId, RunId
from noria.base.search import parse, parse_order
from noria.base.times import parse_duration
from noria.http import Call, Route
from noria.tracking import Tracking
from noria.tracking.grammar import EXPERIMENTS
from noria.tracking.service import NOTE
from noria.tracking.wire import experiments as x
from noria.tracking.wire import runs as w


class ChangingRoutes:
    """Handlers; each is one verb."""

    def __init__(self, tracking: Tracking, assets: Assets, project_id: ProjectId) -> None:
        self._tracking = tracking
        self._assets = assets
        self._project_id = project_id

    # ---- runs

    def _ids(self, texts: list[str]) -> list[RunId]:
        return [run.id for run in w.find_runs(self._assets, self._project_id, texts)]

    def delete(self, call: Call) -> x.Changed:
        return self._binned(call, restore=False)

    def restore(self, call: Call) -> x.Changed:
        return self._binned(call, restore=True)

    def _binned(self, call: Call, *, restore: bool) -> x.Changed:
        ids = self._ids(call.body.runs)
        changed = self._tracking.delete_runs(self._project_id, ids, actor=call.actor, restore=restore, once=call.once)
        return x.Changed(list(changed))

    def move(self, call: Call) -> x.Changed:
        body: x.MoveBody = call.body
        ids = self._ids(body.runs)
        self._tracking.move_runs(self._project_id, ids, body.experiment, actor=call.actor, once=call.once)
        return x.Changed(list(ids))

    def purge(self, call: Call) -> x.PurgedOut:
        body: x.PurgeBody = call.body
        done = self._tracking.purge(
            self._project_id,
            runs=None if body.runs is None else w.find_left(self._assets, self._project_id, body.runs),
            experiment=body.experiment,
            text=body.filter,
            older_than=None if body.older_than is None else parse_duration(body.older_than),
            now=body.now,
            dry_run=body.dry_run,
            actor=call.actor,
            once=call.once,
        )
        return x.purged_out(done)

    def tag(self, call: Call) -> x.Tags:
        body: x.TagsBody = call.body
        return self._tagged(call, body.set, body.remove)

    def note(self, call: Call) -> x.Tags:
        text = call.body.text
        run = w.find_run(self._assets, self._project_id, call.path["id"])
        there = NOTE in self._tracking.data(run.id).tags
        return self._tagged(call, {NOTE: text} if text else {}, [NOTE] if there and not text else [])

    def _tagged(self, call: Call, tags: dict[str, str], remove: list[str]) -> x.Tags:
        run = w.find_run(self._assets, self._project_id, call.path["id"])
        self._tracking.tag_run(self._project_id, run.id, tags, remove=remove, actor=call.actor, once=call.once)
        return x.Tags(self._tracking.data(run.id).tags)

    # ---- experiments

    def experiments(self, call: Call) -> x.ExperimentPage:
        query: x.ExperimentsQuery = call.query
        page = self._tracking.search_experiments(
            self._project_id,
            clauses=parse(query.filter, EXPERIMENTS),
            order=[parse_order(one, EXPERIMENTS) for one in w.split(query.order)],
            deleted=query.deleted,
            folder=query.under,
            limit=query.limit,
            after=query.after,
        )
        return x.ExperimentPage([x.experiment_out(one) for one in page.items], page.next)

    def create(self, call: Call) -> x.ExperimentOut:
        body: x.ExperimentBody = call.body
        tags = {**body.tags, **({NOTE: body.note} if body.note else {})}
        return x.experiment_out(
            self._tracking.create_experiment(self._project_id, body.name, tags=tags, actor=call.actor, once=call.once)
        )

    def rename(self, call: Call) -> x.ExperimentOut:
        body: x.RenameBody = call.body
        id = self._tracking.renamed(self._project_id, body.experiment, body.name, actor=call.actor, once=call.once)
        return self._shown(id)

    def delete_experiment(self, call: Call) -> x.ExperimentOut:
        return self._experiment_binned(call, restore=False)

    def restore_experiment(self, call: Call) -> x.ExperimentOut:
        return self._experiment_binned(call, restore=True)

    def _experiment_binned(self, call: Call, *, restore: bool) -> x.ExperimentOut:
        id = self._id(call.body.experiment)
        self._tracking.delete_experiment(self._project_id, id, actor=call.actor, restore=restore, once=call.once)
        return self._shown(id)

    def tag_experiment(self, call: Call) -> x.ExperimentOut:
        body: x.ExperimentTagsBody = call.body
        id = self._id(body.experiment)
        self._tracking.tag_experiment(
            self._project_id, id, body.set, remove=body.remove, actor=call.actor, once=call.once
        )
        return self._shown(id)

    def note_experiment(self, call: Call) -> x.ExperimentOut:
        body: x.ExperimentNoteBody = call.body
        found = self._tracking.named_experiment(self._project_id, body.experiment)
        tags = {NOTE: body.text} if body.text else {}
        remove = [NOTE] if not body.text and NOTE in found.tags else []
        self._tracking.tag_experiment(self._project_id, found.id, tags, remove=remove, actor=call.actor, once=call.once)
        return self._shown(found.id)

    def _id(self, text: str) -> int:
        return self._tracking.named_experiment(self._project_id, text).id

    def _shown(self, id: int) -> x.ExperimentOut:
        return x.experiment_out(self._tracking.experiment_by_id(self._project_id, id))


def routes(tracking: Tracking, assets: Assets, project_id: ProjectId) -> list[Route]:
    r = ChangingRoutes(tracking, assets, project_id)

    def write(method: str, path: str, handler: object, summary: str, body: object, answer: object, cli: str) -> Route:
        return Route(
            method=method,
            path=path,
            handler=handler,  # pyright: ignore[reportArgumentType] - each is a method above
            permission="runs.write",
            summary=summary,
            body=body,
            answer=answer,
            cli=f"noria runs {cli}",
        )

    return [
        write("POST", "/v1/runs/delete", r.delete, "Put runs into the bin.", x.RunsBody, x.Changed, "delete RUN..."),
        write(
            "POST", "/v1/runs/restore", r.restore, "Bring runs back from the bin.", x.RunsBody, x.Changed,
            "restore RUN...",
        ),
        write(
            "POST", "/v1/runs/move", r.move, "Put runs into another experiment.", x.MoveBody, x.Changed,
            "move RUN... EXPERIMENT",
        ),
        write(
            "POST",
            "/v1/runs/purge",
            r.purge,
            "Delete runs of the bin for good; a dry run first, which is the default.",
            x.PurgeBody,
            x.PurgedOut,
            "purge",
        ),
        write("POST", "/v1/runs/{id}/tags", r.tag, "Set and remove tags of a run.", x.TagsBody, x.Tags, "tag RUN K=V"),
        write("PUT", "/v1/runs/{id}/note", r.note, "Write the note of a run.", x.NoteBody, x.Tags, "note RUN TEXT"),
        Route(
            method="GET",
            path="/v1/experiments",
            handler=r.experiments,
            permission="runs.read",
            summary="List or search experiments; those changed last come first.",
            query=x.ExperimentsQuery,
            answer=x.ExperimentPage,
            cli="noria runs experiments list",
        ),
        write(
            "POST", "/v1/experiments", r.create, "Make an experiment.", x.ExperimentBody, x.ExperimentOut,
            "experiments create NAME",
        ),
        write(
            "POST", "/v1/experiments/rename", r.rename, "Rename an experiment, or move it to another folder.",
            x.RenameBody, x.ExperimentOut, "experiments rename NAME NEW",
        ),
        write(
            "POST", "/v1/experiments/delete", r.delete_experiment, "Put an experiment with its runs into the bin.",
            x.NamedBody, x.ExperimentOut, "experiments delete NAME",
        ),
        write(
            "POST", "/v1/experiments/restore", r.restore_experiment, "Bring an experiment back with its runs.",
            x.NamedBody, x.ExperimentOut, "experiments restore NAME",
        ),
        write(
            "POST", "/v1/experiments/tags", r.tag_experiment, "Set and remove tags of an experiment.",
            x.ExperimentTagsBody, x.ExperimentOut, "tag --experiment NAME K=V",
        ),
        write(
            "POST", "/v1/experiments/note", r.note_experiment, "Write the note of an experiment.",
            x.ExperimentNoteBody, x.ExperimentOut, "note --experiment NAME TEXT",
        ),
    ]  # fmt: skip
