from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from noria.cli.main import run
from noria.db.engine import HEAD_REVISION
from noria.terminal import Shell
from noria.workspace import connect, init


def noria(*args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(list(args))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    capsys.readouterr()
    return tmp_path


def test_init_makes_a_project_once(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = noria("init", "shop", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["project"] == "shop"
    assert (tmp_path / "shop" / "noria.toml").is_file()
    code, _, err = noria("init", "shop", capsys=capsys)
    assert code == 5
    assert "already" in err


def test_without_a_workspace_the_command_to_type_is_said(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = noria("admin", "audit", "--json", capsys=capsys)
    assert code == 4
    error = json.loads(err)["error"]
    assert (error["code"], error["hint"]) == ("workspace_missing", "noria init")


@pytest.mark.parametrize(
    ("url", "says", "hint"),
    [
        ("https://noria.example", "behind a server (https://noria.example) cannot be opened yet", "GET /openapi.json"),
        ("http://me:secret@noria.example/x?token=secret", "behind a server (http://noria.example/x)", "postgresql://"),
        ("mysql://me:secret@db/noria", "not opened by mysql:// (mysql://db/noria)", "a folder"),
        ("mysql://me:sec/ret@db/noria", "not opened by mysql:// (mysql://db/noria)", "a folder"),
        ("mysql://me:sec?ret@db/noria", "not opened by mysql:// (mysql://...)", "a folder"),
        ("sqlite:///meta.db", "not opened by sqlite://", "a folder"),
        ("s3://bucket/noria", "not opened by s3://", "postgresql://host/name"),
    ],
)
def test_a_url_that_opens_no_workspace_is_refused_and_those_that_do_are_named(
    tmp_path: Path, monkeypatch, capsys, url: str, says: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "noria.toml").write_text(f'name = "x"\nworkspace = "{url}"\n')
    for args, place in (
        (("admin", "audit", "--workspace", url), tmp_path),
        (("admin", "migrate", "--workspace", url), tmp_path),
        (("init", "--db", url), tmp_path),
        (("admin", "audit"), tmp_path / "named"),
    ):
        monkeypatch.chdir(place)
        code, _, err = noria(*args, "--json", capsys=capsys)
        error = json.loads(err)["error"]
        assert (code, error["code"]) == (2, "workspace_url_invalid"), args
        assert says in error["message"]
        assert hint in error["hint"]
        assert "secret" not in err
        assert "sec" not in error["message"].partition("(")[2]
    monkeypatch.setenv("NORIA_WORKSPACE", url)
    assert noria("admin", "audit", capsys=capsys)[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["named"]


def test_a_wrong_command_names_the_nearest_one(capsys) -> None:
    code, _, err = noria("doktor", capsys=capsys)
    assert code == 2
    assert "Did you mean 'doctor'?" in err


def test_doctor_says_what_is_there(project: Path, capsys) -> None:
    code, out, _ = noria("doctor", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["ok"] is True
    code, out, _ = noria("doctor", capsys=capsys)
    assert "workspace" in out


def test_retention_is_shown_set_and_audited(project: Path, capsys) -> None:
    code, out, _ = noria("admin", "retention", "events", "90d", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["events"] == "90d"
    code, _, err = noria("admin", "retention", "events", "1s", capsys=capsys)
    assert (code, "a day at least" in err) == (2, True)
    code, out, _ = noria("admin", "audit", "--json", capsys=capsys)
    assert json.loads(out)[0]["verb"] == "admin.retention"
    assert noria("admin", "audit", "--verify", capsys=capsys)[0] == 0


def test_a_workspace_of_a_newer_version_is_refused_with_what_to_type(project: Path, capsys) -> None:
    with connect(project) as ws, ws.db.write() as tx:
        tx.execute(text(f"PRAGMA user_version = {HEAD_REVISION + 1}"))
    code, _, err = noria("admin", "audit", capsys=capsys)
    assert code == 6
    assert 'pip install --upgrade "noria"' in err


def test_migrate_of_a_current_workspace_does_nothing(project: Path, capsys) -> None:
    code, out, _ = noria("admin", "migrate", "--json", capsys=capsys)
    assert (code, json.loads(out)["backup"]) == (0, None)


def test_verify_finds_a_damaged_pack(project: Path, capsys) -> None:
    from noria.store import Kind

    with connect(project) as ws:
        with ws.sessions.writer() as writer:
            writer.put(Kind.BLOB, b"x" * 500)
            packs = writer.flush()
        with ws.db.write() as tx:
            ws.sessions.seal(tx, packs)
    assert noria("admin", "verify", "--data", capsys=capsys)[0] == 0
    (path,) = (project / ".noria" / "store").rglob("*.pack")
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    assert noria("admin", "verify", capsys=capsys)[0] == 0
    code, out, _ = noria("admin", "verify", "--data", capsys=capsys)
    assert code == 1
    assert "damaged" in out
    path.unlink()
    assert noria("admin", "verify", capsys=capsys)[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = [", "not valid TOML"),
        ('nmae = "x"', "Did you mean 'name'?"),
        ('name = "x"\nmodules = "flights"', "list of names"),
        ('name = "1 bad"', "cannot be the name"),
        ('name = "x"\nexecutor = "cloud"', "not known"),
    ],
)
def test_a_broken_project_file_is_explained(tmp_path: Path, monkeypatch, capsys, content: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noria.toml").write_text(content)
    code, _, err = noria("admin", "audit", capsys=capsys)
    assert code == 2
    assert message in err


def imported_by(code: str) -> set[str]:
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('MODULES', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in found.stdout.rpartition("MODULES")[2].split()}


def test_import_and_help_load_nothing_heavy() -> None:
    """The list of what is imported, kept: a new name here has to be worth its milliseconds."""
    heavy = {
        "sqlalchemy",
        "polars",
        "pyarrow",
        "numpy",
        "pandas",
        "sklearn",
        "starlette",
        "rich",
        "alembic",
        "lightgbm",
    }
    assert not imported_by("import noria") & heavy
    assert not imported_by("import noria.cli.main as m; m.run(['--help'])") & heavy
    third_party = imported_by("import noria.cli.main as m; m.run(['--help'])") - set(sys.stdlib_module_names)
    assert {n for n in third_party if not n.startswith("_")} <= {
        "noria",
        "click",
        "blake3",
        "sitecustomize",
        "colorama",
    }


def test_a_table_shows_texts_as_they_are() -> None:
    out = io.StringIO()
    shell = Shell(lambda *_, **__: None, out)
    shell.table(["[b]", "n"], [["[red]x[/red]", 1], ["[/b]", None], ["list<str>[3]", "\\[x]"]], right=["n"])
    text = out.getvalue()
    for shown in ("[b]", "[red]x[/red]", "[/b]", "list<str>[3]", "\\[x]"):
        assert shown in text
    assert "None" not in text


def test_a_folder_opens_the_workspace_that_its_project_file_names(tmp_path: Path) -> None:
    for name in ("place", "project"):
        (tmp_path / name).mkdir()
    init(tmp_path / "place").close()
    (tmp_path / "project" / "noria.toml").write_text('name = "p"\nworkspace = "../place"\n')
    with connect(tmp_path / "project") as ws:
        assert (ws.home, ws.project.name) == (tmp_path / "place" / ".noria", "p")
