"""``noria import mlflow``: traces with their spans, tags, assessments and files, compared through the real client."""

# ruff: noqa: F811 - names of fixtures that are imported
from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Feedback
from mlflow_server import serve
from moving_content import BINARY
from test_import import _file_store, database, moved, opened, written  # noqa: F401 - fixtures

import mlflow
from mlflow import MlflowClient
from noria import workspace as ws
from noria.gateways.mlflow.moving import Moved, MoveIn, open_source
from noria.gateways.mlflow.moving.filed import file_of_spans, span_of
from noria.tracking.records import Owner, OwnerKind
from noria.workspace import Workspace

PLACES = ("mlflow.artifactLocation", "mlflow.trace.spansLocation")


def traces(client: MlflowClient, name: str = "flights") -> dict[str, Any]:
    """All traces of an experiment as a client sees them, without the places of their files."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found: dict[str, Any] = {}
    for one in client.search_traces(locations=[experiment.experiment_id], include_spans=True):
        info = one.info.to_dict()
        info.pop("trace_location")
        info["tags"] = {key: value for key, value in info["tags"].items() if key not in PLACES}
        info["assessments"] = sorted(info.get("assessments", ()), key=lambda a: a["assessment_id"])
        spans = [span.to_dict() for span in one.data.spans]
        found[one.info.trace_id] = (info, sorted(spans, key=lambda span: span["span_id"]))
    return found


def attachment(ws: Workspace, id: str) -> bytes:
    owner = Owner(OwnerKind.TRACE, id)
    (one,) = ws.tracking.all_artifacts(owner).items
    assert one.path.startswith("attachments/")
    with ws.tracking.open_artifact(one) as file:
        return file.read()


def counted(done: dict[str, Any]) -> tuple[int, int, int, int]:
    return done["traces_new"], done["traces_updated"], done["traces_same"], done["spans"]


def test_traces_of_a_folder(written: Any, opened: Workspace, capsys: Any) -> None:
    root, ids = written
    done = moved(opened, capsys, root)
    assert (counted(done), done["left"]) == ((2, 0, 0, 4), [])
    theirs = MlflowClient(root.as_uri(), root.as_uri())
    with serve(opened) as url:
        assert traces(MlflowClient(url, url)) == traces(theirs)
    assert attachment(opened, ids["trace"]) == BINARY
    for more in ((), ("--again",)):
        done = moved(opened, capsys, root, *more)
        assert (counted(done), done["changed"], done["left"]) == ((0, 0, 2, 0), False, []), more


def test_traces_of_the_database_of_a_real_server(
    database: Path,
    opened: Workspace,
    capsys: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(database / "mlflow.db", path)
    done = moved(opened, capsys, path, "--artifacts", database / "files")
    assert (counted(done), done["left"]) == ((2, 0, 0, 4), [])
    (good,) = (t for t in opened.tracking.traces.search(opened.project.id, None, "").items if t.name == "ask")
    (bad,) = (t for t in opened.tracking.traces.search(opened.project.id, None, "").items if t.name == "fail")
    assert (bad.state, json.loads(bad.metadata["mlflow.trace.tokenUsage"])["total_tokens"]) == ("error", 12)
    (run,) = (r for r in opened.assets.list_runs(opened.project.id).items if r.name == "one")
    assert (good.session, good.client_id, good.runs, good.spans) == ("s-1", "c-1", [run.id], 3)
    assert (good.tags, good.request is None) == ({"team": "ops", "later": "yes"}, False)
    judged = sorted((a.name, a.kind, a.value, a.valid, a.rationale) for a in good.assessments)
    assert judged == [
        ("good", "feedback", False, True, None),
        ("good", "feedback", True, False, "it is"),
        ("truth", "expectation", {"at": [1, 2]}, True, None),
    ]
    spans = {
        span.name: span for span in opened.tracking.traces.spans(opened.project.id, [good.trace_id])[good.trace_id]
    }
    root = spans["ask"]
    assert (root.type, root.parent_id, spans["answer"].parent_id) == ("CHAIN", None, root.span_id)
    assert root.attributes["odd"] == [1.5, None, {"deep": "ü"}]
    assert (spans["answer"].attributes["big"], spans["answer"].status) == (1 << 62, "ok")
    assert [(e.name, e.attributes) for e in spans["look up"].events] == [("cache miss", {"tries": 2})]
    assert attachment(opened, good.trace_id) == BINARY
    with sqlite3.connect(path) as conn:
        conn.execute("UPDATE trace_tags SET value = 'no' WHERE key = 'later'")
        conn.execute("UPDATE assessments SET rationale = 'because' WHERE name = 'truth'")
        conn.execute("INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('1', 0, 5, 'x')")
    conn.close()
    done = moved(opened, capsys, path, "--artifacts", database / "files")
    assert (counted(done), done["left"]) == ((1, 1, 1, 0), [])
    again = opened.tracking.traces.get(opened.project.id, good.trace_id)
    assert (again.tags["later"], {a.rationale for a in again.assessments}) == ("no", {None, "it is", "because"})


def test_traces_of_a_running_server(written: Any, opened: Workspace, capsys: Any, tmp_path: Path) -> None:
    moved(opened, capsys, written[0])
    other = ws.init(tmp_path / "other", environment={})
    with serve(opened) as there, serve(other) as here:
        assert counted(moved(other, capsys, there, "--dry-run")) == (2, 0, 0, 0)
        done = moved(other, capsys, there)
        assert (counted(done), done["left"]) == ((2, 0, 0, 4), [])
        theirs, ours = MlflowClient(there, there), MlflowClient(here, here)
        assert traces(ours) == traces(theirs)
        assert attachment(other, written[1]["trace"]) == BINARY
        assert counted(moved(other, capsys, there)) == (0, 0, 2, 0)
        mlflow.set_tracking_uri(there)
        mlflow.log_assessment(written[1]["trace"], Feedback(name="late", value=3))
        assert counted(moved(other, capsys, there)) == (0, 1, 1, 0)
        assert traces(ours) == traces(theirs)
    other.close()


def test_both_databases_take_traces_and_an_import_that_breaks_off_goes_on(
    written: Any,
    both: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def brought() -> Moved:
        report = Moved(source="")
        with open_source(both, str(written[0]), report) as source:
            return MoveIn(both, source, report, actor=both.actor).run()

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(both.tracking, "bring_files", full)
        with pytest.raises(OSError, match="no space"):
            brought()
    patched = both.tracking.bring_files

    def without_traces(project: Any, given: Any) -> Any:
        found = list(given)
        if any(owner.kind is OwnerKind.TRACE for owner, _, _ in found):
            full()
        return patched(project, iter(found))

    with monkeypatch.context() as patch:  # spans are here, files and marks are not
        patch.setattr(both.tracking, "bring_files", without_traces)
        with pytest.raises(OSError, match="no space"):
            brought()
    done = brought()
    assert (done.traces_new, done.traces_same, done.spans, done.left) == (0, 1, 0, [])
    assert attachment(both, written[1]["trace"]) == BINARY
    assert not brought().changed


OLD = {
    "name": "f", "context": {"span_id": "0x00aa", "trace_id": "0x0b"}, "parent_id": None, "start_time": 5, "end_time": 9,
    "status_code": "OK", "status_message": "",
    "attributes": {"mlflow.traceRequestId": '"r"', "mlflow.spanType": '"TOOL"', "n": "NaN", "text": "no json", "k": 7},
    "events": [{"name": "e", "timestamp": 6, "attributes": {"a": 1}}],
}  # fmt: skip


def test_spans_as_earlier_versions_wrote_them() -> None:
    (old,) = file_of_spans(json.dumps({"spans": [OLD]}).encode())
    assert (old.span_id, old.parent_id, old.type, old.status) == ("00000000000000aa", None, "TOOL", "ok")
    assert (old.started, old.ended, old.events[0].at) == (5, 9, 6)
    assert {k: v for k, v in old.attributes.items() if k != "n"} == {
        "mlflow.spanType": "TOOL", "text": "no json", "k": 7
    }  # fmt: skip
    plain = {"trace_id": "tr-" + "0" * 32, "span_id": "0" * 15 + "b", "parent_span_id": "0" * 15 + "a", "name": "g"}
    of_3_5 = span_of(json.dumps({**plain, "start_time_unix_nano": "7", "status": {"code": "ERROR"}, "attributes": {}}))
    assert (of_3_5.span_id, of_3_5.parent_id, of_3_5.ended) == ("0" * 15 + "b", "0" * 15 + "a", None)
    assert of_3_5.status == "error"


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"spans": 1}', b'{"spans": [{}]}', b'{"spans": [{"span_id": "???"}]}', b"[" * 100_000, b"\xff",
     b'{"spans": [{"span_id": "AAAA", "name": "short id"}]}'],
)  # fmt: skip
def test_what_are_no_spans_is_said(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        file_of_spans(text)


def test_values_that_cannot_be_stored_become_texts() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    one = {**OLD, "attributes": {"deep": json.dumps(deep), "big": str(1 << 80), "half": '"\\ud800"', "\ud800": "1"}}
    (span,) = file_of_spans(json.dumps({"spans": [one]}).encode())
    assert (span.attributes["big"], span.attributes["half"], span.attributes["?"]) == (str(1 << 80), "?", 1)
    assert "[" in json.dumps(span.attributes["deep"])


def test_one_trace_that_cannot_be_read_stops_no_other(
    written: Any,
    opened: Workspace,
    capsys: Any,
    tmp_path: Path,
) -> None:
    root = tmp_path / "mlruns"
    shutil.copytree(written[0], root)
    (place,) = root.glob(f"*/traces/{written[1]['trace']}")
    (place / "artifacts").mkdir(exist_ok=True)
    (place / "artifacts" / "traces.json").write_text("{}")
    (place / "tags" / "mlflow.artifactLocation").write_text((place / "artifacts").as_uri())
    (place.parent / "tr-x").mkdir()
    (place.parent / "tr-x" / "trace_info.yaml").write_text("trace_id: tr-x\nstate: WILD\n")
    done = moved(opened, capsys, root)
    assert counted(done)[0] >= 1
    whys = {one["what"]: one["why"] for one in done["left"]}
    assert any(what.endswith("tr-x/trace_info.yaml") for what in whys)
    assert "cannot be read" in whys[f"spans of trace {written[1]['trace']}"]
