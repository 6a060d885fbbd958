"""The end of the demo: what the system's own records say. Every figure is read, none is kept by the demo."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any, Final

from noria.demo.machine import Machine

_KEPT: Final = ("kind", "promote", "roll_back", "mean", "days", "rows", "text")
"""What of a canary's verdict is the same in every run; counts of slow answers are not."""


_SIDES: Final = {"with_loop": "answered", "without_loop": "against", "constant": "constant"}


def build(
    machine: Machine, start: datetime, end: datetime, endpoint: str, model: str, asked: list[str], recomputed: int
) -> dict[str, Any]:
    """The summary as one object; ``here`` holds what differs from one workspace to another.

    Args:
        asked: the flights that the endpoint was asked for. recomputed: how many answers were computed again and equal.
    """
    trace, commands = _trace(machine, endpoint, asked)
    score, following = _scorecard(machine, model)
    candidates = [_candidate(c) for c in machine.get(f"/v1/candidates?model={model}")["items"]]
    months = _months(machine, start, end, endpoint, candidates)
    served = sum(month["n"] for month in months)
    return {
        "months": months,
        "candidates": candidates,
        "promotions": sum(c["state"] == "promoted" for c in candidates) - 1,
        "rollbacks": _rollbacks(machine),
        "refused_batches": len(machine.get("/v1/quarantine")["items"]),
        "predictions_served": served,
        "lost_predictions": len(asked) - served,
        "recomputed": recomputed,
        "trace": trace,
        "scorecard": score,
        "here": {
            "url": machine.url,
            "endpoints": machine.endpoints,
            "workspace": str(machine.folder),
            "commands": commands,
            "next": following,
            "rollback_ms": [e["payload"]["ms"] for e in _drills(machine, "endpoint.rolled_back")],
        },
    }


def _trace(machine: Machine, endpoint: str, asked: list[str]) -> tuple[dict[str, Any], list[str]]:
    """One prediction back to the rows, and one commit of landings forward to what it touched; names only, no ids."""
    thing = random.Random(7).choice(asked)  # noqa: S311 - the same one in every run, chosen by nobody
    newest = machine.get("/v1/data/landings/log?limit=1")["items"][0]
    oldest = f"main~{newest['generation'] - 1}"
    first = machine.get(f"/v1/data/landings/log?limit=1&ref={oldest}")["items"][0]["id"]
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


def _drills(machine: Machine, kind: str) -> list[dict[str, Any]]:
    events = machine.get(f"/v1/events?types={kind}&limit=1000")["items"]
    return [e for e in events if e["payload"].get("drill")]


def _rollbacks(machine: Machine) -> list[dict[str, Any]]:
    return [
        {"from": e["payload"]["before"], "to": e["payload"]["model"], "drill": True}
        for e in _drills(machine, "champion.changed")
    ]


def _months(
    machine: Machine, start: datetime, end: datetime, endpoint: str, candidates: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each month with the loop, without it and of a constant.

    Without the loop: the first champion answers the whole year. The constant is the share of late flights among those
    before the first answer.
    """
    first = next(c["model"] for c in candidates if c["state"] == "promoted")
    span = f"since={start:%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}"
    found = machine.get(f"/v1/monitor/{endpoint}/compare?against={first}&by=month&{span}")["items"]
    return [
        {
            "month": month["start"][:7],
            "n": month["n"],
            "labelled": month["labelled"],
            "late": round(month["positives"], 4),
            **{
                name: {m: None if v is None else round(v, 4) for m, v in month["metrics"].get(side, {}).items()}
                for name, side in _SIDES.items()
            },
        }
        for month in found
    ]
