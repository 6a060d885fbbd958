from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from noria.base.ids import ProjectId
from noria.db import Tx
from noria.delivery import tables as t
from noria.delivery.records import CANDIDATE_MOVES, OPEN, Candidate, CandidateState, Phase, Rollout


def add_candidate(tx: Tx, project_id: ProjectId, values: dict[str, Any]) -> int:
    rest: dict[str, Any] = {"gates": [], "verdict": {}, "error": None, "ended": None, "created_at": tx.now_ms}
    return tx.insert(t.candidates, {"project_id": project_id, **rest, **values})


def candidate(conn: Connection, candidate_id: int) -> Candidate | None:
    row = conn.execute(select(t.candidates).where(t.candidates.c.id == candidate_id)).one_or_none()
    return None if row is None else _candidate(row)


def candidates(
    conn: Connection, project_id: ProjectId, *, model: str | None = None, only_open: bool = False, limit: int = 1000
) -> list[Candidate]:
    """Oldest first; of more than ``limit`` the newest."""
    c = t.candidates.c
    statement = select(t.candidates).where(c.project_id == project_id)
    if model is not None:
        statement = statement.where(c.model == model)
    if only_open:
        statement = statement.where(c.state.in_([s.value for s in OPEN]))
    rows = conn.execute(statement.order_by(c.id.desc()).limit(limit)).all()
    return [_candidate(row) for row in reversed(rows)]


def _candidate(row: Row[Any]) -> Candidate:
    return Candidate(
        id=row.id,
        model=row.model,
        endpoint=row.endpoint,
        trigger=row.trigger,
        reason=row.reason,
        params=row.params,
        state=CandidateState(row.state),
        number=row.number,
        gates=row.gates,
        verdict=row.verdict,
        error=row.error,
        drill=row.drill,
        forced=row.forced,
        opened=row.opened,
        ended=row.ended,
    )


def move_candidate(tx: Tx, candidate_id: int, to: CandidateState, values: dict[str, Any]) -> bool:
    """Moves a candidate where that is a move that there is; False where it stood elsewhere."""
    sources = [state.value for state, targets in CANDIDATE_MOVES.items() if to in targets]
    where = (t.candidates.c.id == candidate_id, t.candidates.c.state.in_(sources))
    return tx.execute(update(t.candidates).where(*where).values(state=to.value, **values)).rowcount == 1


def set_candidate(tx: Tx, candidate_id: int, values: dict[str, Any]) -> None:
    tx.execute(update(t.candidates).where(t.candidates.c.id == candidate_id).values(**values))


def rollout(conn: Connection, rollout_id: int) -> Rollout | None:
    row = conn.execute(select(t.rollouts).where(t.rollouts.c.id == rollout_id)).one_or_none()
    return None if row is None else _rollout(row)


def open_rollouts(conn: Connection, endpoint_id: int | None = None) -> list[Rollout]:
    statement = select(t.rollouts).where(t.rollouts.c.phase != Phase.DONE.value)
    if endpoint_id is not None:
        statement = statement.where(t.rollouts.c.endpoint_id == endpoint_id)
    return [_rollout(row) for row in conn.execute(statement.order_by(t.rollouts.c.id))]


def rollout_of(conn: Connection, candidate_id: int) -> Rollout | None:
    where = t.rollouts.c.candidate_id == candidate_id
    row = conn.execute(select(t.rollouts).where(where).order_by(t.rollouts.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _rollout(row)


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=row.id,
        endpoint_id=row.endpoint_id,
        candidate_id=row.candidate_id,
        deployment=row.deployment_id,
        champion=row.champion_id,
        phase=Phase(row.phase),
        step=row.step,
        policy=row.policy,
        blocks=row.blocks,
        started=row.started,
        step_from=row.step_from,
        looked=row.looked,
    )


def set_rollout(tx: Tx, found: Rollout, values: dict[str, Any]) -> bool:
    """Writes a rollout on, where it is still in the phase and step in which it was read."""
    c = t.rollouts.c
    where = (c.id == found.id, c.phase == found.phase.value, c.step == found.step)
    return tx.execute(update(t.rollouts).where(*where).values(**values)).rowcount == 1


def trigger_mark(conn: Connection, project_id: ProjectId, model: str, name: str) -> int | None:
    c = t.trigger_marks.c
    where = (c.project_id == project_id, c.model == model, c.name == name)
    return conn.execute(select(c.value).where(*where)).scalar_one_or_none()


def set_trigger_mark(tx: Tx, project_id: ProjectId, model: str, name: str, value: int) -> None:
    row = {"project_id": project_id, "model": model, "name": name, "value": value}
    tx.upsert(t.trigger_marks, row, key=["project_id", "model", "name"])
