"""Files of runs: the real client puts, lists and fetches them; raw HTTP does what no client would."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_wire import Wire, fresh
from tracking_process import Up, workspace_folder

from noria.gateways.mlflow.places import WIDE, shown_to_python

DATABASES = ("sqlite", "postgres")
PROXY = "/api/2.0/mlflow-artifacts/"
FILES = PROXY + "artifacts/"
PYTHON = {"User_Agent": "mlflow-python-client/3.17.2"}


@pytest.fixture
def run(wire: Wire, experiment: str) -> str:
    return wire.run(experiment)


@pytest.fixture
def root(experiment: str, run: str) -> str:
    """Where the files of the run are, on the wire."""
    return f"{FILES}{experiment}/{run}/artifacts/"


def repository(server: str, root: str) -> Any:
    """What MLflow's own client keeps a run's files with."""
    return get_artifact_repository("mlflow-artifacts:/" + root.removeprefix(FILES).rstrip("/"), server)


def put(wire: Wire, where: str, data: bytes) -> None:
    found = wire.call("PUT", where, data)
    assert (found.status, found.body) == (200, b"{}"), found


def listed(wire: Wire, root: str, folder: str = "", **headers: str) -> list[tuple[str, bool, int | None]]:
    path = root.removeprefix(FILES).rstrip("/") + (f"/{folder}" if folder else "")
    found = wire.call("GET", PROXY + "artifacts", query={"path": path}, **headers)
    assert found.status == 200, found
    return [(f["path"], f["is_dir"], f.get("file_size")) for f in found.json.get("files", [])]


# ---- the real client


def test_files_and_folders_come_back_as_they_were(server: str, fluent: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep" / "er").mkdir(parents=True)
    files = {"a.txt": b"a", "deep/b.bin": bytes(range(256)) * 300, "deep/er/c.txt": b"", "deep/d.csv": b"x" * 200_000}
    for path, data in files.items():
        (folder / path).write_bytes(data)
    with fluent.start_run() as run:
        fluent.log_artifact(str(folder / "a.txt"))
        fluent.log_artifacts(str(folder), "all")
        fluent.log_text("hello", "notes/hello.txt")
        fluent.log_dict({"k": [1, 2]}, "notes/d.json")
    place = run.info.artifact_uri
    assert place.startswith("mlflow-artifacts:/")
    repository = get_artifact_repository(place, server)
    top = repository.list_artifacts()
    assert [(f.path, f.is_dir, f.file_size) for f in top] == [
        ("a.txt", False, 1), ("all", True, None), ("notes", True, None)
    ]  # fmt: skip
    found = repository.list_artifacts("all/deep")
    assert [(f.path, f.is_dir, f.file_size) for f in found] == [
        ("all/deep/b.bin", False, 76_800), ("all/deep/d.csv", False, 200_000), ("all/deep/er", True, None)
    ]  # fmt: skip
    assert repository.list_artifacts("all/deep/b.bin") == []
    got = Path(repository.download_artifacts("all", str(tmp_path)))
    assert {p.relative_to(got).as_posix(): p.read_bytes() for p in got.rglob("*") if p.is_file()} == files
    notes = Path(repository.download_artifacts("notes", str(tmp_path)))
    assert (notes / "hello.txt").read_text() == "hello"
    assert json.loads((notes / "d.json").read_text()) == {"k": [1, 2]}
    repository.delete_artifacts("all/deep")
    assert [f.path for f in repository.list_artifacts("all")] == ["all/a.txt"]
    repository.delete_artifacts()
    assert repository.list_artifacts() == []


KEPT = ["a b.txt", "100%.txt", "ü日本.txt", "a+b.txt", "a&b=c.txt", "[x].txt", "se;co.txt", "a:b.txt", "q'\".txt", "~t.txt",
        "{x}|^`.txt", "dot..dot", "..x", "q?x=1 2.txt", "qq?.txt"]  # fmt: skip
CHANGED = {"5%20x.txt": "5 x.txt", "50%25.txt": "50%.txt", "%41.txt": "A.txt", "%2B.txt": "+.txt",
           "per%cent.txt": "per\ufffdnt.txt"}  # fmt: skip
"""Names that the client sends exactly like others; nobody behind it can tell them apart."""


def test_awkward_names_come_back(server: str, root: str, tmp_path: Path) -> None:
    """Whatever of a name reaches the wire is kept; asked for by the name that was given, the bytes are there."""
    repo = repository(server, root)
    (tmp_path / "in").mkdir()
    for name in (*KEPT, *CHANGED, "x %y/%.bin"):
        file = tmp_path / "in" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
        repo.log_artifact(str(file), "x %y" if "/" in name else None)
        (tmp_path / "one").mkdir(exist_ok=True)
        assert Path(repo.download_artifacts(name, str(tmp_path / "one"))).read_text() == name
    assert {f.path for f in repo.list_artifacts()} == {*KEPT, *CHANGED.values(), "x %y"}
    got = Path(repo.download_artifacts("", str(tmp_path / "one")))
    for name in (*KEPT, "x %y/%.bin"):
        assert (got / name).read_text() == name


@pytest.mark.ours
def test_names_that_others_put_are_exact_and_the_python_client_gets_them_too(
    server: str, wire: Wire, root: str, tmp_path: Path
) -> None:
    names = ["h#sh.txt", "a%20b.txt", "%252e.txt", " lead.txt ", "h%23.txt", "ü#%.txt", "plain.txt"]
    for name in names:
        put(wire, root + "sub%20%23/" + quote(name, safe=""), name.encode())
    for name in names:
        assert wire.call("GET", root + "sub%20%23/" + quote(name, safe="")).body == name.encode()
    assert sorted(name for name, _, _ in listed(wire, root, "sub #")) == sorted(names)
    repo = repository(server, root)
    assert [f.path for f in repo.list_artifacts()] == [f"sub {WIDE}"]
    got = Path(repo.download_artifacts("", str(tmp_path)))
    found = {p.name: p.read_text() for p in got.rglob("*") if p.is_file()}
    assert found == {shown_to_python(name): name for name in names}
    assert f"h{WIDE}sh.txt" in found


def test_many_files_of_one_folder_are_all_listed(wire: Wire, server: str, root: str, run: str) -> None:
    for n in range(1_005):
        put(wire, f"{root}many/{n:04}", b"%d" % n)
    assert len(listed(wire, root, "many")) == 1_005
    assert [f.path for f in repository(server, root).list_artifacts("many")] == [f"many/{n:04}" for n in range(1_005)]
    found = wire.call("GET", "artifacts/list", query={"run_id": run, "path": "many"}).json
    assert len(found["files"]) == 1_005
    assert "next_page_token" not in found


def test_the_list_of_a_run_has_pages(wire: Wire, root: str, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.gateways.mlflow.artifacts._LISTED", 2)
    monkeypatch.setattr("noria.gateways.mlflow.artifacts._PAGE", 2)
    for n in range(5):
        put(wire, f"{root}f{n}", b"x" * n)
    put(wire, f"{root}deep/f", b"x")
    seen: list[tuple[str, bool, int | None]] = []
    query = {"run_uuid": run}
    while True:
        found = wire.get("artifacts/list", **query)
        assert found["root_uri"].endswith(f"/{run}/artifacts")
        assert len(found["files"]) <= 2
        seen += [(f["path"], f["is_dir"], f.get("file_size")) for f in found["files"]]
        if "next_page_token" not in found:
            break
        query["page_token"] = found["next_page_token"]
    assert seen == [("deep", True, None), *((f"f{n}", False, n or None) for n in range(5))]
    deep = wire.call("GET", "artifacts/list", query={"run_id": run, "path": "deep"}).json
    assert deep["files"] == [{"path": "deep/f", "is_dir": False, "file_size": 1}]
    assert wire.refused("artifacts/list", None, "GET", {"run_id": run, "page_token": "x"})[:2] == (
        400, "INVALID_PARAMETER_VALUE"
    )  # fmt: skip


# ---- bytes


def test_downloads_answer_ranges_and_heads(wire: Wire, root: str, run: str) -> None:
    data = random.Random(1).randbytes(300_000)
    put(wire, root + "r.bin", data)
    whole = wire.call("GET", root + "r.bin")
    assert (whole.status, whole.body == data) == (200, True)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''r.bin"
    for asked, part in [
        ("0-0", data[:1]),
        ("299999-", data[-1:]),
        ("-5", data[-5:]),
        ("100-200000", data[100:200_001]),
    ]:
        found = wire.call("GET", root + "r.bin", Range=f"bytes={asked}")
        assert (found.status, found.body == part) == (206, True), asked
    head = wire.call("HEAD", root + "r.bin")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "300000")
    assert wire.call("GET", root + "r.bin", Range="bytes=300000-").status == 416
    assert wire.call("GET", root + "r.bin", If_None_Match=head.headers["etag"]).status == 304
    found = wire.call("GET", "/get-artifact", query={"run_uuid": run, "path": "r.bin"}, Range="bytes=1-2")
    assert (found.status, found.body) == (206, data[1:3])


@pytest.mark.parametrize("size", [0, 1, 64, 65, 65_535, 65_536, 1 << 20, (1 << 20) + 1, (4 << 20) + 7, 9_000_001])
def test_any_size_comes_back(wire: Wire, root: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    put(wire, root + "s", data)
    assert wire.call("GET", root + "s").body == data
    assert listed(wire, root) == [("s", False, size or None)]


def half_sent(server: str, path: str, length: int, data: bytes) -> bytes:
    """Sends less than is announced, and hangs up."""
    place = urlsplit(server)
    with socket.create_connection((place.hostname, place.port), 30) as sock:
        sock.sendall(f"PUT {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {length}\r\n\r\n".encode() + data)
        sock.shutdown(socket.SHUT_WR)
        return sock.recv(1_000)


@pytest.mark.parametrize("size", [1_000, 12_000_000])
def test_an_upload_that_breaks_off_leaves_nothing(server: str, wire: Wire, root: str, size: int) -> None:
    half_sent(server, root + "new", size + 1, bytes(size))
    assert listed(wire, root) == []
    put(wire, root + "old", b"old")
    half_sent(server, root + "old", size + 1, bytes(size))
    assert wire.call("GET", root + "old").body == b"old"
    assert listed(wire, root) == [("old", False, 3)]


def test_of_uploads_to_one_path_one_wins_whole(server: str, wire: Wire, root: str) -> None:
    bodies = [bytes([n]) * (1_500_000 + n) for n in range(6)]
    go = threading.Barrier(len(bodies))

    def upload(data: bytes) -> None:
        own = Wire(server)
        go.wait()
        put(own, root + "same", data)
        own.close()

    threads = [threading.Thread(target=upload, args=(data,)) for data in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wire.call("GET", root + "same").body in bodies
    assert [name for name, _, _ in listed(wire, root)] == ["same"]


# ---- refusals


@pytest.mark.ours
@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "..", "%2e%2e/x", "%2E%2E%2Fx", "a/%2e%2e/x", "%252e%252e/x", "%25252e%25252e%25252fx", "/etc/passwd",
     "%2Fetc%2Fpasswd", "a//b", "./a", "a/./b", "a%00b", "a%5Cb", "..%5C..%5Cx", "C:/x", "C%3A%5Cx", "a%0Ab",
     "x" * 1_025],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_paths_that_lead_elsewhere_are_refused(wire: Wire, root: str, method: str, path: str) -> None:
    found = wire.call(method, root + path, b"x" if method == "PUT" else None)
    assert found.error[:2] == (400, "INVALID_PARAMETER_VALUE"), found
    assert listed(wire, root) == []


@pytest.mark.ours
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../x", "C:/x", "a\\b", "%2e%2e/x", "%252e%252e/x", "a//b"])
def test_paths_in_a_query_that_lead_elsewhere_are_refused(wire: Wire, root: str, run: str, path: str) -> None:
    wanted = (400, "INVALID_PARAMETER_VALUE")
    assert wire.call("GET", "/get-artifact", query={"run_id": run, "path": path}).error[:2] == wanted
    assert wire.refused("artifacts/list", None, "GET", {"run_id": run, "path": path})[:2] == wanted
    upload = "/ajax-api/2.0/mlflow/upload-artifact"
    assert wire.call("POST", upload, b"x", {"run_uuid": run, "path": path}).error[:2] == wanted
    query = {"path": root.removeprefix(FILES) + path}
    assert wire.call("GET", PROXY + "artifacts", query=query).error[:2] == wanted
    assert listed(wire, root) == []


@pytest.mark.ours
def test_what_is_no_run_of_the_project_is_not_found(wire: Wire, experiment: str, root: str) -> None:
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    for place in (f"{experiment}/{'0' * 32}/artifacts/x", "x", f"{experiment}/artifacts", "artifacts/x", "a/b/c"):
        for method in ("GET", "PUT", "DELETE"):
            assert wire.call(method, FILES + place, b"x" if method == "PUT" else None).error[:2] == missing, place
    assert wire.call("GET", root + "nothing").error[:2] == missing
    assert wire.call("DELETE", root + "nothing").error[:2] == missing
    assert (
        wire.call("GET", PROXY + "artifacts", query={"path": f"{experiment}/{'0' * 32}/artifacts"}).error[:2] == missing
    )
    assert wire.call("GET", "/get-artifact", query={"run_id": "0" * 32, "path": "x"}).error[:2] == missing
    large = wire.call("PUT", f"{FILES}{experiment}/{'0' * 32}/artifacts/x", bytes(5 << 20))  # heard after it was sent
    assert large.error[:2] == missing


@pytest.mark.ours
def test_a_name_is_a_file_or_a_folder(wire: Wire, root: str) -> None:
    put(wire, root + "a/b", b"1")
    assert wire.call("PUT", root + "a", b"2").error[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert wire.call("PUT", root + "a/b/c", b"2").error[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert "folder" in wire.call("GET", root + "a").error[2]
    assert wire.call("GET", root + "a/b").body == b"1"


def test_runs_in_the_bin_take_no_files(wire: Wire, root: str, run: str) -> None:
    put(wire, root + "a", b"1")
    wire.post("runs/delete", run_id=run)
    assert wire.call("GET", root + "a").body == b"1"
    found = wire.call("PUT", root + "b", b"1")
    assert found.error[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_the_page_of_a_run_uploads_small_files(wire: Wire, root: str, run: str) -> None:
    upload = "/ajax-api/2.0/mlflow/upload-artifact"
    assert wire.call("POST", upload, b"hello", {"run_uuid": run, "path": "a/b.txt"}).status == 200
    assert wire.call("GET", root + "a/b.txt").body == b"hello"
    refused = (400, "INVALID_PARAMETER_VALUE")
    assert wire.call("POST", upload, b"hello", {"run_uuid": run}).error[:2] == refused
    assert wire.call("POST", upload, b"hello", {"path": "x"}).error[:2] == refused
    assert wire.call("POST", upload, b"", {"run_uuid": run, "path": "x"}).error[:2] == refused
    assert wire.call("POST", upload, bytes((10 << 20) + 1), {"run_uuid": run, "path": "x"}).error[:2] == refused
    assert [name for name, _, _ in listed(wire, root)] == ["a"]


def test_a_store_that_cannot_presign_says_so(wire: Wire, root: str, run: str) -> None:
    put(wire, root + "a", b"1")
    found = wire.call("GET", root.replace("/artifacts/", "/presigned/", 1) + "a")
    assert found.error[:2] == (501, "NOT_IMPLEMENTED")
    for what in ("upload", "download"):
        status, code, message = wire.refused(f"artifacts/presigned-{what}-url", {"run_id": run, "path": "a"})
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert f"Presigned {what} is not supported" in message
    both = {"run_id": run, "model_id": "m-1", "path": "a"}
    assert wire.refused("artifacts/presigned-upload-url", both)[:2] == (400, "INVALID_PARAMETER_VALUE")
    far = {"run_id": run, "path": "a", "expiration": 604_801}
    assert wire.refused("artifacts/presigned-download-url", far)[:2] == (400, "INVALID_PARAMETER_VALUE")


# ---- in parts


@pytest.mark.ours
def test_the_client_uploads_in_parts(
    server: str, wire: Wire, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "700000")
    data = random.Random(5).randbytes(5_000_001)
    (tmp_path / "a #1.bin").write_bytes(data)  # a part's name travels as JSON: even # stays
    repository(server, root).log_artifact(str(tmp_path / "a #1.bin"), "deep")
    put(wire, root + "whole", data)
    found = wire.call("GET", root + "deep/" + quote("a #1.bin"))
    assert found.body == data
    assert found.headers["etag"] == wire.call("HEAD", root + "whole").headers["etag"]  # the same object


@pytest.mark.ours
def test_parts_may_come_again_and_in_any_order(wire: Wire, root: str) -> None:
    where, parts = root.replace("/artifacts/", "/mpu/{}/", 1), [b"a" * 70_000, b"b" * 3, b"c" * 100]
    made = wire.call("POST", where.format("create") + "sub", {"path": "C:\\x\\f.bin", "num_parts": 3}).json
    assert [c["part_number"] for c in made["credentials"]] == [1, 2, 3]
    assert all(c["url"].startswith(wire.uri + PROXY + "mpu/") for c in made["credentials"])
    urls = [c["url"].removeprefix(wire.uri) for c in made["credentials"]]
    assert wire.call("PUT", urls[2], b"wrong").status == 200
    tags = {n: wire.call("PUT", urls[n], parts[n]).headers["etag"] for n in (2, 0, 1)}
    ends = {"path": "C:\\x\\f.bin", "upload_id": made["upload_id"]}
    named = [{"part_number": n + 1, "etag": tags[n]} for n in range(3)]
    complete = where.format("complete") + "sub"
    bad = (400, "INVALID_PARAMETER_VALUE")
    assert wire.call("POST", complete, {**ends, "parts": []}).error[:2] == bad
    assert wire.call("POST", complete, {**ends, "parts": [*named, {"part_number": 4}]}).error[:2] == bad
    assert wire.call("POST", complete, {**ends, "parts": [{**named[0], "etag": tags[1]}]}).error[:2] == bad
    assert wire.call("POST", complete, {**ends, "parts": [named[0], named[0]]}).error[:2] == bad
    assert wire.call("POST", complete + "/else", {**ends, "parts": named}).error[0] == 404
    assert listed(wire, root) == []
    for _ in range(2):  # the answer may get lost
        assert wire.call("POST", complete, {**ends, "parts": named}).status == 200
    assert wire.call("GET", root + "sub/f.bin").body == b"".join(parts)
    assert wire.call("PUT", urls[0], b"late").error[0] == 404


@pytest.mark.ours
def test_an_upload_that_was_given_up_leaves_nothing(wire: Wire, root: str) -> None:
    where = root.replace("/artifacts/", "/mpu/{}/", 1)
    made = wire.call("POST", where.format("create"), {"path": "f", "num_parts": 1}).json
    url = made["credentials"][0]["url"].removeprefix(wire.uri)
    assert wire.call("PUT", url, b"x" * 1000).status == 200
    ends = {"path": "f", "upload_id": made["upload_id"]}
    for _ in range(2):
        assert wire.call("POST", where.format("abort"), ends).status == 200
    assert wire.call("PUT", url, b"x").error[0] == 404
    assert wire.call("POST", where.format("complete"), {**ends, "parts": [{"part_number": 1}]}).error[0] == 404
    assert listed(wire, root) == []
    assert wire.call("POST", where.format("create"), {"path": "f", "num_parts": 10_001}).error[0] == 400
    assert wire.call("POST", where.format("create"), {"path": "..", "num_parts": 1}).error[0] == 400
    assert wire.call("PUT", url.rpartition("/")[0] + "/0", b"x").error[0] == 400


def test_who_needs_a_token_gets_it_back_for_the_parts(wire: Wire, root: str) -> None:
    made = wire.call(
        "POST", root.replace("/artifacts/", "/mpu/create/", 1), {"path": "f"}, Authorization="Bearer wrong"
    )
    assert made.status == 401


# ---- a server that is killed


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    random_ = random.Random(7)
    with workspace_folder(tmp_path / "shop") as folder:
        server = Up(folder, "--role", "server")
        wire = Wire(server.url)
        experiment = wire.experiment(fresh())
        root = f"{FILES}{experiment}/{wire.run(experiment)}/artifacts/"
        kept: dict[str, bytes] = {}
        for turn in range(3):
            stop = threading.Event()

            def upload(me: int, turn: int, stop: threading.Event, url: str) -> None:
                own, mine = Wire(url), random.Random(f"{turn} {me}")
                for n in range(10_000):
                    data = mine.randbytes(mine.choice([10, 5_000, 3_000_000]))
                    try:
                        found = own.call("PUT", f"{root}{turn}/{me}/{n}", data)
                    except OSError:
                        break
                    assert found.status == 200, found
                    kept[f"{turn}/{me}/{n}"] = data
                    if stop.is_set():
                        break
                own.close()

            threads = [threading.Thread(target=upload, args=(me, turn, stop, server.url)) for me in range(4)]
            before = len(kept)
            for thread in threads:
                thread.start()
            while len(kept) < before + 20:
                threads[0].join(0.01)
            stop.wait(random_.random() * 0.1)
            os.kill(server.process.pid, signal.SIGKILL)
            for thread in threads:
                thread.join()
            server.end()
            wire.close()
            server = Up(folder, "--role", "server")
            wire = Wire(server.url)
            for path, data in kept.items():
                assert wire.call("GET", root + path).body == data, path
        assert len(kept) >= 60
        wire.close()
        server.end()
