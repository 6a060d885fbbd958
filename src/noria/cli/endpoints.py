"""Commands that talk to the running endpoints: the rest of ``noria endpoints``, and ``noria predict``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import urllib3

from noria.base.errors import Conflict, Denied, Failed, Invalid, NoriaError, NotFound, Unavailable
from noria.server import launch
from noria.server.launch import NothingServes
from noria.serving.cli import endpoints
from noria.terminal import Shell, command

_BATCH: Final = 1_000
_SECONDS: Final = 60.0
_KINDS: Final[dict[int, type[NoriaError]]] = {401: Denied, 403: Denied, 404: NotFound, 409: Conflict, 422: Failed}


@endpoints.command()
@click.pass_obj
def status(shell: Shell) -> None:
    """Show the processes that answer."""
    found = _running(shell)

    def human() -> None:
        workers = f"{found['serving']} of {found['workers']} workers serve"
        if not found["workers"]:
            workers = "no workers: nothing is deployed yet"
        shell.say(f"{found['url']}, process {found['pid']}, {workers}")
        shell.table(["endpoint", "revision"], found["routed"].items(), right=["revision"])

    shell.emit({key: value for key, value in found.items() if key != "socket"}, human)


@endpoints.command()
@click.pass_obj
def stop(shell: Shell) -> None:
    """Finish what is being answered, then end the processes that answer."""
    stopped = launch.stop(shell.ws)
    shell.emit({"stopped": stopped}, "The endpoints finish and end." if stopped else "No endpoints run.")


@command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.pass_obj
def predict(shell: Shell, name: str, file: str) -> None:
    """Ask an endpoint for predictions of the rows in FILE: JSON, JSON lines, CSV or Parquet; - reads JSON or CSV."""
    asked = _Asked(_running(shell)["url"], shell.ws.environment.get("NORIA_TOKEN"))
    about = asked.get(f"/endpoints/{name}")
    rows = _rows(file, about["contract"]["columns"])
    made: list[dict[str, Any]] = []
    revision = about["revision"]
    with shell.progress(f"Predicting with {name}", total=len(rows)) as advance:
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            answer = asked.post(f"/endpoints/{name}/predict", {"rows": part})
            made += answer["predictions"]
            revision = answer["revision"]
            advance(len(part))
    lines = [[p["id"], p["score"], p["model"]] for p in made]
    shell.emit(
        {"endpoint": name, "revision": revision, "predictions": made},
        lambda: shell.table(["id", "score", "model"], lines, right=["score"]),
    )


def _running(shell: Shell) -> dict[str, Any]:
    found = launch.find(shell.ws)
    if found is None:
        raise NothingServes("No endpoints of this workspace run.", hint="noria up")
    return found


class _Asked:
    """The inference port, asked over HTTP like any other caller does."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(retries=False, timeout=_SECONDS)

    def get(self, path: str) -> dict[str, Any]:
        return self._request("GET", path, None)

    def post(self, path: str, value: Any) -> dict[str, Any]:
        return self._request("POST", path, msgspec.json.encode(value))

    def _request(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            answer = self._pool.request(method, self._url + path, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise NothingServes(f"{self._url} does not answer: {error}.", hint="noria endpoints status") from None
        try:
            value = json.loads(answer.data)
        except ValueError:
            raise Unavailable(f"{self._url} answered {answer.status}, and not as noria does.") from None
        if answer.status != 200:
            raise _as_error(answer.status, value.get("error", {}))
        return value


def _as_error(status: int, found: dict[str, Any]) -> NoriaError:
    """The error of an answer, of the kind that its status says and with its own code."""
    kind = _KINDS.get(status, Unavailable if status >= 500 else Invalid)
    named = type(kind.__name__, (kind,), {"code": found.get("code", kind.code)})
    message = found.get("message", f"The endpoint answered {status}.")
    return named(message, hint=found.get("hint", ""), details=found.get("details", {}))


# ---- rows


def _rows(file: str, columns: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of a file, as plain values that JSON can carry.

    Raises:
        Invalid: it cannot be read.
    """
    path = Path(file)
    ending = path.suffix.lower()
    if file != "-" and ending == ".parquet":
        from noria.data.collectors.files import read_rows

        return msgspec.to_builtins(read_rows(path).to_dicts())
    try:
        text = sys.stdin.read() if file == "-" else path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is no text in UTF-8: {error}.", hint="JSON, JSON lines, CSV or Parquet") from None
    if ending in (".csv", ".tsv") or (file == "-" and not text.lstrip().startswith(("{", "["))):
        return list(_from_csv(text, columns, "\t" if ending == ".tsv" else ","))
    return _from_json(text, file)


def _from_json(text: str, file: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise Invalid(f"{file} is not valid JSON: {error}.", hint='[{"column": 1}, ...]') from None
    if isinstance(value, dict):
        value = value.get("rows", [value.get("row", value)])
    if not isinstance(value, list) or not value or not all(isinstance(row, dict) for row in value):
        raise Invalid(f"{file} holds no rows.", hint='[{"column": 1}, ...]')
    return value


def _from_csv(text: str, columns: dict[str, str], separator: str) -> Iterator[dict[str, Any]]:
    """Rows of a CSV, each value as the endpoint's contract has it; empty cells are missing values."""
    for number, row in enumerate(csv.DictReader(io.StringIO(text), delimiter=separator), start=2):
        if None in row or None in row.values():
            raise Invalid(f"Line {number} has another number of cells than the first line.")
        yield {name: _cell(value, columns.get(name, "str"), name, number) for name, value in row.items()}


def _cell(text: str, kind: str, name: str, number: int) -> Any:
    if text == "":
        return None
    try:
        if "int" in kind:
            return int(text)
        if kind.startswith("float"):
            return float(text)
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except (ValueError, KeyError):
        raise Invalid(f"Line {number}: {name} is a {kind}, and {text!r:.60} is none.") from None
    return text
