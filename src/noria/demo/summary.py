"""The end of the demo: what the system's own records say. Every figure is read, none is kept by the demo."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import polars as pl

from noria.demo.machine import Machine
from noria.training import metrics as m
from noria.workspace import connect

_KEPT: Final = ("kind", "promote", "roll_back", "mean", "days", "rows", "text")
"""What of a canary's verdict is the same in every run; counts of slow answers are not."""


def build(
    machine: Machine, start: datetime, end: datetime, endpoint: str, model: str, recomputed: int
) -> dict[str, Any]:
    """The summary as one object; ``here`` holds what differs from one workspace to another."""
    trace, commands = _trace(machine, endpoint)
    score, following = _scorecard(machine, model)
    candidates = [_candidate(c) for c in machine.get(f"/v1/candidates?model={model}")["items"]]
    months, served, distinct = _months(machine, start, end, endpoint, model)
    return {
        "months": months,
        "candidates": candidates,
        "promotions": sum(c["state"] == "promoted" for c in candidates) - 1,
        "rollbacks": _rollbacks(machine),
        "refused_batches": len(machine.get("/v1/quarantine")["items"]),
        "predictions_served": served,
        "lost_predictions": distinct - served,
        "recomputed": recomputed,
        "trace": trace,
        "scorecard": score,
        "here": {
            "url": machine.url,
            "endpoints": machine.endpoints,
            "workspace": str(machine.folder),
            "commands": commands,
            "next": following,
        },
    }


def _trace(machine: Machine, endpoint: str) -> tuple[dict[str, Any], list[str]]:
    """One prediction back to the rows, and one commit of landings forward to what it touched; names only, no ids."""
    with connect(machine.folder) as ws:
        thing = ws.monitoring.sample(endpoint, 1, seed=7)["id"][0]
        repository = ws.data.get(ws.project.id, "landings")
        first = ws.data.log(repository, limit=100_000)[-1].id
    back = machine.get(f"/v1/trace?thing={endpoint}/{thing}&rows=1")["backward"]
    forth = machine.get(f"/v1/trace?thing={first}&rows=0")["forward"]
    found = {
        "prediction": thing,
        "back": _path(back),
        "recomputed": back["facts"].get("recomputed"),
        "commit": "landings, the first",
        "forth": sorted({f"{node['kind']} {node['name']}" for node in _nodes(forth)}),
    }
    return found, [f"noria trace {endpoint}/{thing}", f"noria trace {first[:12]}"]


def _path(node: dict[str, Any]) -> list[str]:
    """Kind and name of every node, a parent before its children, each once."""
    return list(dict.fromkeys(f"{n['kind']} {n['name']}".strip() for n in _nodes([node])))


def _nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for node in nodes:
        found += [node, *_nodes(node["children"])]
    return found


def _scorecard(machine: Machine, model: str) -> tuple[dict[str, Any], dict[str, str]]:
    found = machine.get(f"/v1/scorecard?model={model}")
    score = {
        "score": found["score"],
        "band": found["band"],
        "sections": found["sections"],
        "tests": {t["id"]: t["points"] for t in found["tests"]},
    }
    return score, {t["id"]: t["missing"][0] for t in found["tests"] if t["points"] < 1 and t["missing"]}


def _candidate(found: dict[str, Any]) -> dict[str, Any]:
    gates = [{"kind": g["kind"], "passed": g["passed"], "text": g["text"], **_gate(g)} for g in found["gates"]]
    return {
        "trigger": found["trigger"],
        "reason": found["reason"],
        "model": f"{found['model']}/{found['number']}" if found["number"] else found["model"],
        "opened": found["opened"],
        "ended": found["ended"],
        "state": found["state"],
        "drill": found["drill"],
        "gates": gates,
        "canary": {k: v for k, v in found["verdict"].items() if k in _KEPT},
    }


def _gate(found: dict[str, Any]) -> dict[str, Any]:
    details = found.get("details", {})
    return {k: details[k] for k in ("gain", "low", "high", "chance", "n", "days", "values") if k in details}


def _rollbacks(machine: Machine) -> list[dict[str, Any]]:
    events = machine.get("/v1/events?types=champion.changed&limit=1000")["items"]
    return [
        {"from": e["payload"]["before"], "to": e["payload"]["model"], "drill": True}
        for e in events
        if e["payload"].get("drill")
    ]


def _months(
    machine: Machine, start: datetime, end: datetime, endpoint: str, model: str
) -> tuple[list[dict[str, Any]], int, int]:
    """(each month with the loop, without it and of a constant; answered predictions; flights that were asked for).

    Without the loop: the first champion scores the whole year in bulk. The constant is the share of late flights
    among those that it learned from.
    """
    with connect(machine.folder) as ws:
        joined = ws.monitoring.joined(endpoint).filter(pl.col("answered"))
        first = ws.registry.version(ws.project.id, model, 1)
        champion = next(c for c in ws.delivery.candidates(model=model) if c.state == "promoted")
        assert champion.number is not None
        first = ws.registry.version(ws.project.id, model, champion.number)
        package = ws.training.package_of(first)
        features = ws.pipelines.current(package.features.name)
        scores = ws.training.score(ws.training.version_of(first), features)
        key = list(package.features.spine.key)
        entities = ws.monitoring.entities(scores.select(key))
        without = scores.select(without="score").with_columns(pl.Series("entity", entities, dtype=pl.String))
        truth = ws.monitoring.truth(endpoint)
        before = scores.select("_at").with_columns(pl.Series("entity", entities, dtype=pl.String))
        early = before.filter(pl.col("_at") < start).join(truth, on="entity", how="inner")
        asked = scores.filter(pl.col("_at").is_between(start, end, closed="left"))
    constant = early["truth"].mean()
    rows = joined.filter(pl.col("truth").is_not_null()).join(without, on="entity", how="inner", maintain_order="left")
    made: list[dict[str, Any]] = []
    totals = joined.group_by(pl.col("at").dt.strftime("%Y-%m").alias("month")).len()
    sizes = dict(totals.iter_rows())
    for (month,), part in rows.group_by(pl.col("at").dt.strftime("%Y-%m").alias("month"), maintain_order=True):
        y = part["truth"].to_numpy()
        made.append(
            {
                "month": month,
                "n": sizes[month],
                "labelled": len(part),
                "late": round(float(y.mean()), 4),
                "with_loop": _scores(y, part["score"].to_numpy()),
                "without_loop": _scores(y, part["without"].to_numpy()),
                "constant": _scores(y, y * 0 + constant),
            }
        )
    return sorted(made, key=lambda x: x["month"]), joined["id"].n_unique(), len(asked)


def _scores(y: Any, p: Any) -> dict[str, float]:
    return {name: round(m.METRICS[name].score(y, p), 4) for name in ("log_loss", "roc_auc")}
