"""A caller of MLflow's REST protocol that knows nothing of its client: bytes out, bytes in."""

from __future__ import annotations

import http.client
import json
import math
import socket
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

API = "/api/2.0/mlflow/"
AJAX = "/ajax-api/2.0/mlflow/"
WAIT = 60


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, error_code and message of a refusal."""
        value = self.json
        assert {"error_code", "message"} <= set(value), value
        return self.status, value["error_code"], value["message"]


class Wire:
    """One keep-alive connection to a tracking server."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        place = urlsplit(uri)
        assert place.hostname is not None
        self._host, self._port = place.hostname, place.port
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, method: str, path: str, body: Any = None, query: Any = None, **headers: str) -> Answer:
        """``path`` is below /api/2.0/mlflow/, or absolute; ``body`` is JSON unless it is bytes already."""
        where = path if path.startswith("/") else API + path
        if query:
            where += "?" + urlencode(query, doseq=True)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        for last in (False, True):
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(self._host, self._port, timeout=WAIT)
                    self._connection.connect()
                    self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection.request(method, where, data, given)
                found = self._connection.getresponse()
                content = found.read()
                break
            except (ConnectionError, http.client.RemoteDisconnected):
                # A server may close a kept connection when it likes; a second one in a row is an answer of a kind.
                self.close()
                if last:
                    raise
        if found.will_close:
            self.close()
        return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, content)

    def post(self, path: str, **body: Any) -> Any:
        """What a POST answered that has to work."""
        found = self.call("POST", path, body)
        assert found.status == 200, (path, found.status, found.body)
        return found.json

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answered that has to work."""
        found = self.call("GET", path, query=query)
        assert found.status == 200, (path, found.status, found.body)
        return found.json

    def refused(self, path: str, body: Any, method: str = "POST", query: Any = None) -> tuple[int, str, str]:
        """Status, error_code and message of a request that must be refused."""
        found = self.call(method, path, body, query)
        assert found.status >= 400, (path, found.status, found.body)
        return found.error

    def experiment(self, name: str | None = None, **more: Any) -> str:
        """A new experiment's id."""
        return self.post("experiments/create", name=name or fresh(), **more)["experiment_id"]

    def run(self, experiment: str, **more: Any) -> str:
        """A new run's id."""
        more.setdefault("start_time", 1_700_000_000_000)
        return self.post("runs/create", experiment_id=experiment, **more)["run"]["info"]["run_id"]

    def data(self, run: str) -> dict[str, dict[str, Any]]:
        """Metrics (with step and timestamp), params and tags of a run, by key; without the name that runs are given."""
        found = self.get("runs/get", run_id=run)["run"].get("data", {})
        tags = {t["key"]: t.get("value", "") for t in found.get("tags", []) if t["key"] != "mlflow.runName"}
        return {
            "metrics": {m["key"]: number(m.get("value", 0.0)) for m in found.get("metrics", [])},
            "params": {p["key"]: p.get("value", "") for p in found.get("params", [])},
            "tags": tags,
        }

    def history(self, run: str, key: str) -> list[tuple[float, int, int]]:
        """Value, timestamp and step of each point, in the order of the answer, through all pages."""
        points: list[tuple[float, int, int]] = []
        query: dict[str, Any] = {"run_id": run, "metric_key": key, "max_results": 1000}
        while True:
            found = self.get("metrics/get-history", **query)
            points += [point(m) for m in found.get("metrics", [])]
            if not found.get("next_page_token"):
                return points
            query["page_token"] = found["next_page_token"]


def fresh(prefix: str = "e") -> str:
    """A name that no test has used."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def number(value: Any) -> float:
    """A double of the wire: NaN and the infinities are words there."""
    return float(value)


def point(metric: dict[str, Any]) -> tuple[float, int, int]:
    """Value, timestamp and step; what is zero may be left out, int64 may be words."""
    return number(metric.get("value", 0.0)), int(metric.get("timestamp", 0)), int(metric.get("step", 0))


def huge(value: float) -> bool:
    """Is it infinite? MLflow's own server keeps the greatest double instead."""
    return math.isinf(value) or abs(value) == 1.7976931348623157e308
