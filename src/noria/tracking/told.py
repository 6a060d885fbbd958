"""Runs read as a whole: what they are, and what they said, read and made: three statements, for one run or a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    bindparam,
    exists,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from noria.assets import tables as at
from noria.assets.records import RunState
from noria.base.ids import ProjectId, RunId
from noria.tracking import logged, queries
from noria.tracking import tables as t
from noria.tracking.records import Point, RunData, Told

_PART: Final = 400
"""Runs that one statement asks for."""

_A = at.runs.c
_R = t.tracked_runs.c
_P = t.params.c
_G = t.tags.c
_L = t.latest.c
_NAME = t.keys.c.name

_RUNS = select(_R.no, _R.run_id, _R.experiment_id, _R.user, _R.location)
# Few runs have datasets or logged models: two looks beside each spare two statements. All flags are numbers: turning
# one into a bool costs more than the row.
_WHOLE = (
    select(_R.no, _A.id, _R.experiment_id, _R.user, _R.location)
    .add_columns(_A.project_id, _A.name, _A.state, _A.started_at, _A.ended_at, _A.deleted_at)
    .add_columns(type_coerce(exists().where(t.inputs.c.run_no == _R.no), Integer))
    .add_columns(type_coerce(exists().where(t.run_models.c.run_no == _R.no), Integer))
    .select_from(at.runs.outerjoin(t.tracked_runs, _R.run_id == _A.id))
)
_PARAMS = select(literal_column("0", Integer), _P.run_no, _NAME, _P.value).join(t.keys, t.keys.c.id == _P.key_id)
_TAGS = select(literal_column("1", Integer), _G.run_no, _NAME, _G.value).join(t.keys, t.keys.c.id == _G.key_id)
_POINTS = select(_L.run_no, _NAME, _L.value, _L.at, _L.step, type_coerce(_L.is_nan, Integer)).join(
    t.keys, t.keys.c.id == _L.key_id
)


def _is(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column == bindparam("asked")


def _among(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.in_(bindparam("asked", expanding=True))


class _Few:
    """The statements, for runs in a list."""

    runs: Any = _RUNS.where(_among(_R.run_id))
    whole: Any = _WHOLE.where(_among(_A.id))
    texts: Any = union_all(_PARAMS.where(_among(_P.run_no)), _TAGS.where(_among(_G.run_no)))
    points: Any = _POINTS.where(_among(_L.run_no))


class _One:
    """The same for one run: a list, even of one, is written out anew at each execution."""

    runs: Any = _RUNS.where(_is(_R.run_id))
    whole: Any = _WHOLE.where(_is(_A.id))
    texts: Any = union_all(_PARAMS.where(_is(_P.run_no)), _TAGS.where(_is(_G.run_no)))
    points: Any = _POINTS.where(_is(_L.run_no))


def _how(ids: Sequence[Any]) -> tuple[type[_One | _Few], dict[str, Any]]:
    """(the statements, what they are asked with)."""
    return (_One, {"asked": ids[0]}) if len(ids) == 1 else (_Few, {"asked": list(ids)})


def run_data(conn: Connection, ids: Sequence[RunId]) -> dict[RunId, RunData]:
    """What several runs said; a run that is in no experiment said nothing."""
    made: dict[RunId, RunData] = {}
    for start in range(0, len(ids), _PART):
        how, asked = _how(ids[start : start + _PART])
        rows: Any = conn.execute(how.runs, asked).all()
        found = {no: _nothing(*said) for no, *said in rows}
        _fill(conn, found)
        made.update((data.run_id, data) for data in found.values())
    return {id: made[id] if id in made else _nothing(id) for id in ids}


def whole(conn: Connection, ids: Sequence[RunId]) -> dict[RunId, Told]:
    """Runs with all that they said, read and made; without those that are not there."""
    made: dict[RunId, Told] = {}
    for start in range(0, len(ids), _PART):
        how, asked = _how(ids[start : start + _PART])
        rows: Any = conn.execute(how.whole, asked).all()
        data: dict[int, RunData] = {}
        reading: list[RunId] = []
        making: list[RunId] = []
        for no, id, experiment_id, user, place, project_id, name, state, began, ended, deleted, reads, makes in rows:
            said = _nothing(id, experiment_id, user or "", place)
            if no is not None:
                data[no] = said
            if reads:
                reading.append(id)
            if makes:
                making.append(id)
            made[id] = Told(id, ProjectId(project_id), name, RunState(state), began, ended, deleted, said, [], [], [])
        _fill(conn, data)
        for id, inputs in queries.inputs(conn, reading).items():
            made[id].inputs.extend(inputs)
        for id, wrote, model, step in logged.of_runs(conn, making):
            if wrote:
                made[id].made.append((model, step))
            else:
                made[id].read.append(model)
    return made


def _nothing(id: RunId, experiment_id: int | None = None, user: str = "", location: str | None = None) -> RunData:
    return RunData(run_id=id, experiment_id=experiment_id, user=user, params={}, metrics={}, tags={}, location=location)


def _fill(conn: Connection, numbers: dict[int, RunData]) -> None:
    """Adds what runs said to those that are named by their numbers."""
    if not numbers:
        return
    how, asked = _how(list(numbers))
    texts: Any = conn.execute(how.texts, asked).all()
    for part, no, name, value in texts:
        (numbers[no].tags if part else numbers[no].params)[name] = value
    points: Any = conn.execute(how.points, asked).all()
    for no, name, value, when, step, is_nan in points:
        numbers[no].metrics[name] = Point(key=name, value=math.nan if is_nan else value, at=when, step=step)
    for data in numbers.values():  # sorted here: the databases would sort many runs at once
        for said in (data.params, data.tags, data.metrics):
            _sort(said)


def _sort(said: dict[str, Any]) -> None:
    if len(said) > 1:
        ordered = sorted(said.items())
        said.clear()
        said.update(ordered)
