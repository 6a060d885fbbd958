"""Contracts: as text that a person edits, tried without a commit, over the whole table; refused batches and their end."""

from __future__ import annotations

import json
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound
from noria.base.once import Once
from noria.cli.main import run
from noria.data import contract as contracts
from noria.data import contract_infer, contract_text
from noria.data.edits import Delete, Put
from noria.data.errors import ContractBroken, ContractMissing, FilesBroken, HeadBreaksContract, QuarantineDecided
from noria.data.http import routes
from noria.data.records import QuarantineState, Repository, RepositoryKind
from noria.data.rows.alter import Alterations
from noria.data.wire import quarantined_out
from noria.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from rooms_client import client

T0 = datetime(2013, 1, 1, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "columns": {"id": {"type": "int64", "missing": 0.0}, "mail": {"type": "str"}, "n": {"type": "int64", "max": 100}},
    "rules": {"even": "n % 2 = 0"},
}


def people(ws: Workspace, actor: Actor, spec: Any = None, **how: Any) -> Repository:
    made = ws.data.create(ws.project.id, "people", RepositoryKind.TABLE, actor=actor, **{"key": ("id",), **how})
    if spec is not None:
        ws.data.set_contract(made, spec, actor=actor)
    return ws.data.get(ws.project.id, "people")


def rows(*found: tuple[int, str | None, int]) -> pl.DataFrame:
    return pl.DataFrame(found, schema={"id": pl.Int64, "mail": pl.String, "n": pl.Int64}, orient="row")


def refused(ws: Workspace, actor: Actor, frame: pl.DataFrame, **how: Any) -> dict[str, Any]:
    with pytest.raises(ContractBroken) as broken:
        ws.data.append(ws.data.get(ws.project.id, "people"), frame, actor=actor, **how)
    return broken.value.details


# ---- text

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable() and name == name.strip())
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=10)
NUMBERS = st.integers(-(10**9), 10**9).map(float) | st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))


@st.composite
def specs(draw: st.DrawFn) -> contracts.Contract:
    columns = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        if draw(st.booleans()):
            made = contracts.ColumnContract(type="str", levels=draw(st.none() | st.lists(TEXTS, max_size=3)))
        else:
            made = contracts.ColumnContract(
                type="float64", min=draw(st.none() | NUMBERS), max=draw(st.none() | NUMBERS)
            )
        made.missing = draw(st.sampled_from([0.0, 0.25, 1.0]))
        columns[name] = made
    unique = draw(st.lists(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=2), max_size=2))
    table = contracts.TableContract(min_rows=draw(st.integers(0, 5)), unique=unique)
    whole = contracts.WholeContract(
        max_rows=draw(st.none() | st.integers(1, 9)), fresh=draw(st.sampled_from([None, "2d"]))
    )
    return contracts.Contract(columns=columns, table=table, whole=whole)


@given(made=specs(), name=st.sampled_from(["x.toml", "x.json"]))
def test_a_contract_as_text_reads_back_as_itself(made: contracts.Contract, name: str) -> None:
    value = msgspec.to_builtins(made)
    text = json.dumps(value) if name.endswith("json") else contract_text.write("people", value)
    assert contracts.parse(contract_text.read(text, name)) == made


def test_times_of_toml_are_bounds() -> None:
    text = "[columns.at]\ntype = 'datetime[us, UTC]'\nmin = 2013-01-01T00:00:00\n[columns.n]\ntype = 'int64'\nmax = 5\n"
    made = contracts.parse(contract_text.read(text, "c.toml"))
    frame = pl.DataFrame(
        {"at": [T0 - timedelta(days=1), T0], "n": [1, 6]}, schema_overrides={"at": pl.Datetime("us", "UTC")}
    )
    assert [f.rule for f in contracts.check(made, frame)] == ["at.min", "n.max"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"id": {"type": "int65"}}}, "int65"),
        ({"whole": {"unique": [["mial"]]}}, "unknown column 'mial'"),
        ({"table": {"unique": [[]]}}, "empty list"),
        ({"whole": {"fresh": "2 days"}}, "not a duration"),
        ({"rules": {"x": "nn > 0"}}, "unknown column 'nn'"),
        ({"rules": {"x": "n >"}}, "not an SQL expression"),
        ({"rules": {}, "columns": {"id": {"type": "str", "matches": "("}}}, "not a pattern"),
        ({"rules": {}, "columns": {"id": {"type": "int64", "min": "soon"}}}, "min or max of 'id'"),
        ({"columns": {"id": {"type": "int64", "maximum": 3}}}, "maximum"),
    ],
)
def test_mistakes_of_a_contract_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        contracts.parse({**SPEC, **change})


@given(
    st.lists(st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=20),
    st.booleans(),
)
def test_an_inferred_range_holds_what_it_was_inferred_from(values: list[float], whole: bool) -> None:
    from noria.data.rows.schema import infer

    frame = pl.DataFrame({"x": [int(v) for v in values] * 100 if whole else [float(v) for v in values] * 100})
    made = contract_infer.infer(frame, infer(frame)).contract
    assert contracts.check(made, frame) == []
    assert made.columns["x"].min is not None


# ---- the whole table


def test_the_whole_table_keeps_its_contract(both: Workspace, actor: Actor) -> None:
    whole = {"min_rows": 2, "max_rows": 4, "unique": [["mail"], ["mail", "n"]]}
    people(both, actor, {**SPEC, "rules": {}, "whole": whole})
    assert [f["rule"] for f in refused(both, actor, rows((1, "a", 2)))["findings"]] == ["whole.min_rows"]
    repository = both.data.get(both.project.id, "people")
    both.data.append(repository, rows((1, "a", 2), (2, "b", 2), (3, None, 2), (4, None, 2)), actor=actor)
    details = refused(both, actor, rows((2, "a", 2)))
    assert [(f["rule"], f["column"], f["count"]) for f in details["findings"]] == [
        ("whole.unique", "mail", 1),
        ("whole.unique", "mail", 1),
    ]
    assert details["findings"][0]["rows"] == [{"id": 2, "mail": "a", "n": 2}]
    assert [f["rule"] for f in refused(both, actor, rows((5, "e", 2)))["findings"]] == ["whole.max_rows"]
    both.data.append(repository, rows((1, "c", 2)), actor=actor)  # gives "a" free
    both.data.append(repository, rows((2, "a", 2)), actor=actor)
    assert [f["rule"] for f in refused(both, actor, rows((1, "x", 2), (2, "x", 2)))["findings"]][:1] == ["whole.unique"]
    keys = pl.DataFrame({"id": [1, 2, 3]})
    assert [f["rule"] for f in refused(both, actor, keys, mode="delete")["findings"]] == ["whole.min_rows"]
    assert both.data.read(repository).sort("id")["mail"].to_list() == ["c", "a", None, None]


def test_freshness_of_the_table_is_not_broken_by_a_late_correction(workspace: Workspace, actor: Actor) -> None:
    spec = {"columns": {"id": {"type": "int64"}, "at": {"type": "datetime[us, UTC]"}}, "whole": {"fresh": "2d"}}
    people(workspace, actor, spec, time="at")
    now = datetime.fromtimestamp(workspace.clock.now_ms() / 1000, UTC)

    def at(number: int, days: int) -> pl.DataFrame:
        return pl.DataFrame({"id": [number], "at": [now - timedelta(days=days)]}).cast({"at": pl.Datetime("us", "UTC")})

    assert refused(workspace, actor, at(1, 3))["findings"][0]["rule"] == "whole.fresh"
    repository = workspace.data.get(workspace.project.id, "people")
    workspace.data.append(repository, at(1, 1), actor=actor)
    workspace.data.append(repository, at(2, 30), actor=actor)
    assert workspace.data.check_contract(repository) == (2, [])


# ---- tried without a commit


def test_a_check_commits_nothing_and_says_what_a_commit_would(workspace: Workspace, actor: Actor) -> None:
    repository = people(workspace, actor)
    with pytest.raises(ContractMissing, match="has no contract"):
        workspace.data.check_contract(repository, rows((1, "a", 2)))
    workspace.data.append(repository, rows((1, "a", 3), (2, "a", 4)), actor=actor)
    count, found = workspace.data.check_contract(repository, contract={**SPEC, "whole": {"unique": [["mail"]]}})
    assert (count, [(f.rule, f.count) for f in found]) == (2, [("rules.even", 1), ("whole.unique", 2)])
    workspace.data.set_contract(repository, {**SPEC, "whole": {"unique": [["mail"]]}}, actor=actor)
    repository = workspace.data.get(workspace.project.id, "people")
    assert [f.rule for f in workspace.data.check_contract(repository, rows((3, "a", 2)))[1]] == ["whole.unique"]
    assert [f.rule for f in workspace.data.check_contract(repository, rows((3, "z", 102)))[1]] == ["n.max"]
    assert workspace.data.check_contract(repository, [{"id": 3, "mail": "z", "n": 2}]) == (1, [])
    assert workspace.data.quarantine(workspace.project.id) == []
    assert len(workspace.data.log(repository)) == 1
    workspace.data.set_contract(repository, SPEC, actor=actor)
    found = workspace.data.contract_history(repository)
    assert [(c.number, c.in_force, c.actor) for c in found] == [(2, True, actor.name), (1, False, actor.name)]


# ---- quarantine


def test_a_refused_batch_is_mended_and_accepted_once(both: Workspace, actor: Actor) -> None:
    people(both, actor, SPEC)
    number = refused(both, actor, rows((1, "a", 3), (2, "b", 4)), mode="overwrite")["quarantine"]
    with pytest.raises(ContractBroken):
        both.data.offer(number, actor=actor)
    assert both.data.quarantined(number)[0].state == QuarantineState.OPEN
    done = both.data.offer(number, rows((1, "a", 4), (2, "b", 4)), actor=actor, key="k")
    repository = both.data.get(both.project.id, "people")
    assert both.data.read(repository)["n"].to_list() == [4, 4]
    batch, _ = both.data.quarantined(number)
    assert (batch.state, batch.mode) == (QuarantineState.ACCEPTED, "overwrite")
    assert batch.verdict is not None
    assert (batch.verdict["commit"], batch.verdict["actor"]) == (done.id, actor.name)
    assert done.meta["source"]["batch"] == number
    again = both.data.offer(number, rows((1, "a", 4), (2, "b", 4)), actor=actor, key="k")
    assert again == done, "a repeated request gets the first answer"
    with pytest.raises(QuarantineDecided, match=f"accepted by the commit {done.id[:12]}"):
        both.data.offer(number, actor=actor)
    with pytest.raises(QuarantineDecided):
        both.data.drop_quarantined(number, "late", actor=actor)
    assert len(both.data.log(repository)) == 1


def test_a_batch_is_accepted_as_it_was_once_the_contract_allows_it(workspace: Workspace, actor: Actor) -> None:
    repository = people(workspace, actor, SPEC)
    number = refused(workspace, actor, rows((1, "a", 3)))["quarantine"]
    workspace.data.append(repository, rows((1, "a", 4)), actor=actor)
    workspace.data.set_contract(repository, {**SPEC, "rules": {}}, actor=actor)
    workspace.data.offer(number, actor=actor)
    assert workspace.data.read(repository)["n"].to_list() == [3]
    other = refused(workspace, actor, rows((9, "x", 101)))["quarantine"]
    dropped = workspace.data.drop_quarantined(other, "a test of the scanner", actor=actor)
    workspace.gc.run()
    assert len(workspace.data.quarantined(other)[1]) == 1, "for those who ask"
    with pytest.raises(NotFound, match="it was accepted"):
        workspace.data.quarantined(number)
    assert dropped.verdict is not None
    assert (dropped.state, dropped.verdict["reason"]) == (QuarantineState.DROPPED, "a test of the scanner")
    with pytest.raises(Invalid, match="for a reason"):
        workspace.data.drop_quarantined(other, " ", actor=actor)
    with pytest.raises(QuarantineDecided, match="is dropped"):
        workspace.data.drop_quarantined(other, "again", actor=actor)
    workspace.data.offer(other, rows((9, "x", 100)), actor=actor)  # a change of mind
    assert workspace.data.quarantined(other)[0].state == QuarantineState.ACCEPTED


def test_a_batch_that_was_accepted_is_opened_only_where_what_came_of_it_is_gone(
    workspace: Workspace, actor: Actor
) -> None:
    repository = people(workspace, actor, SPEC)
    first = workspace.data.append(repository, rows((9, "z", 100)), actor=actor)
    number = refused(workspace, actor, rows((1, "a", 3)))["quarantine"]
    done = workspace.data.offer(number, rows((1, "a", 4)), actor=actor)
    assert refused(workspace, actor, rows((1, "a", 3)))["quarantine"] == number
    batch, _ = workspace.data.quarantined(number)
    assert (batch.state, batch.earlier) == (QuarantineState.ACCEPTED, [])
    assert batch.verdict is not None
    assert batch.verdict["commit"] == done.id, "the branch holds it"
    workspace.data.reset(repository, first.id, actor=actor)
    assert refused(workspace, actor, rows((1, "a", 3)))["quarantine"] == number
    again, _ = workspace.data.quarantined(number)
    assert (again.state, again.verdict, again.earlier) == (QuarantineState.OPEN, None, [batch.verdict])
    dropped = workspace.data.drop_quarantined(number, "enough", actor=actor)
    assert (dropped.verdict or {})["reason"] == "enough"
    assert dropped.earlier == [batch.verdict]
    workspace.data.offer(number, rows((1, "a", 4)), actor=actor)
    last, _ = workspace.data.quarantined(number)
    assert [one.get("reason") for one in last.earlier] == [None, "enough"]
    assert quarantined_out(last).earlier[0]["commit"] == done.id


def test_rows_that_are_there_already_accept_the_batch_too(workspace: Workspace, actor: Actor) -> None:
    repository = people(workspace, actor, SPEC)
    number = refused(workspace, actor, rows((1, "a", 3)))["quarantine"]
    done = workspace.data.append(repository, rows((1, "a", 4)), actor=actor)
    assert workspace.data.offer(number, rows((1, "a", 4)), actor=actor) == done
    batch, _ = workspace.data.quarantined(number)
    assert batch.verdict is not None
    assert batch.verdict["commit"] == done.id


# ---- set over what is there


def test_a_contract_that_the_head_breaks_says_so_when_it_is_set(both: Workspace, actor: Actor) -> None:
    repository = people(both, actor)
    assert both.data.set_contract(repository, SPEC, actor=actor).commit is None, "nothing is there to be checked"
    both.data.set_contract(repository, bare(), actor=actor)
    head = both.data.append(both.data.get(both.project.id, "people"), rows((1, "a", 3), (2, "b", 104)), actor=actor)
    with pytest.raises(HeadBreaksContract, match="stays as it was") as broken:
        both.data.set_contract(repository, SPEC, actor=actor, strict=True)
    assert both.data.get(both.project.id, "people").contract == 2
    once = Once("set", {"contract": SPEC})
    done = both.data.set_contract(repository, SPEC, actor=actor, once=once)
    assert (done.number, done.commit, done.rows) == (3, head.id, 2)
    assert [(f["rule"], f["column"], f["count"]) for f in done.findings] == [("n.max", "n", 1), ("rules.even", "", 1)]
    assert done.findings[0]["rows"] == [{"id": 2, "mail": "b", "n": 104}]
    assert broken.value.details["findings"] == done.findings
    assert both.data.set_contract(repository, SPEC, actor=actor, once=once) == done
    entry = next(e for e in both.audit.list(both.project.id).items if e.verb == "data.contract")
    assert entry.detail["broken"] == {"n.max": 1, "rules.even": 1}
    batches = {**bare(), "table": {"max_rows": 1, "min_rows": 1}, "whole": {"unique": [["mail"]], "min_rows": 3}}
    found = both.data.set_contract(repository, batches, actor=actor).findings
    assert [f["rule"] for f in found] == ["whole.min_rows"], "what is said of a batch is not asked of the table"
    wrong = {"columns": {"id": {"type": "int64"}, "mail": {"type": "str"}, "n": {"type": "float64"}}}
    assert [f["rule"] for f in both.data.set_contract(repository, wrong, actor=actor).findings] == ["n.type"]


def test_a_strict_contract_is_checked_on_the_head_that_is_there(
    workspace: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = workspace.data, people(workspace, actor)
    data.append(made, rows((1, "a", 2)), actor=actor)
    check = data._check_head
    left = [True]

    def slow(*args: Any) -> Any:
        found = check(*args)
        if left:
            left.pop()
            data.append(made, rows((2, "b", 999)), actor=actor)  # while the table was being read
        return found

    monkeypatch.setattr(data, "_check_head", slow)
    with pytest.raises(HeadBreaksContract, match="above 10"):
        data.set_contract(made, bare(10), actor=actor, strict=True)
    assert data.get(workspace.project.id, "people").contract is None


def test_a_contract_of_files_is_checked_on_the_head_too(workspace: Workspace, actor: Actor) -> None:
    photos = folder(workspace, actor)
    spec = {"files": {"allowed": ["*.png"], "required": ["labels.csv"]}}
    with pytest.raises(HeadBreaksContract):
        workspace.data.set_contract(photos, spec, actor=actor, strict=True)
    done = workspace.data.set_contract(photos, spec, actor=actor)
    assert [(f["rule"], f["count"]) for f in done.findings] == [("files.allowed", 1), ("files.required", 1)]


# ---- inferred


def of(values: dict[str, Any], key: tuple[str, ...] = ()) -> contract_infer.Inferred:
    from noria.data.rows.schema import infer

    frame = pl.DataFrame(values)
    return contract_infer.infer(frame, infer(frame, key=key))


def test_few_rows_give_hints_and_no_rules() -> None:
    found = of({"id": [1, 2], "code": ["a", "a"], "n": [3, 3], "x": [1.5, None]}, key=("id",))
    assert msgspec.to_builtins(found.contract) == {
        "columns": {
            "id": {"type": "int64", "missing": 0.0},
            "code": {"type": "str"},
            "n": {"type": "int64"},
            "x": {"type": "float64"},
        },
        "table": {"min_rows": 1, "unique": [["id"]]},
        "whole": {},
    }
    assert [(s.name, s.value) for s in found.seen["code"]] == [("missing", 0.0), ("levels", ["a"])]
    assert [s.name for s in found.seen["n"]] == ["missing", "min", "max"]
    text = contract_text.write("people", msgspec.to_builtins(found.contract), found.seen)
    assert '# levels = ["a"]' in text
    assert "seen in 2 values; 50 make a rule" in text
    assert contracts.parse(contract_text.read(text, "c.toml")) == found.contract
    lines = [line.removeprefix("# ") if "# seen" in line else line for line in text.split("\n")]
    whole = contracts.parse(contract_text.read("\n".join(lines), "c.toml"))
    assert (whole.columns["code"].levels, whole.columns["n"].max, whole.columns["x"].missing) == (["a"], 3, 0.76)


def test_what_becomes_a_rule_follows_from_the_number_of_rows() -> None:
    ids = list(range(100))
    found = of(
        {
            "counter": ids,
            "n": [i % 10 for i in ids],
            "x": [i / 7 for i in ids],
            "few": ["a" if i < 95 else "b" for i in ids],
            "rare": ["a" if i < 96 else "b" for i in ids],
            "name": [f"n{i}" for i in ids],
            "gaps": [None if i % 10 == 0 else 1.0 for i in ids],
        }
    )
    made, seen = found.contract.columns, found.seen
    assert (made["counter"].min, made["counter"].max) == (None, None), "a counter leaves every range"
    assert seen["counter"][0].why.startswith("all values differ")
    assert (made["n"].missing, made["n"].min, made["n"].max) == (0.0, 0, 12)
    assert made["x"].max is not None
    assert made["x"].max > 99 / 7
    assert (made["few"].levels, made["rare"].levels) == (["a", "b"], None)
    assert "one was seen 4 times" in seen["rare"][0].why
    assert (made["name"].levels, seen.get("name")) == (None, None)
    assert (made["gaps"].missing, made["gaps"].min) == (1.0, None), "90 values are too few for a range"
    assert [s.name for s in seen["gaps"]] == ["missing", "min", "max"]
    assert found.contract.table.unique == []


@pytest.mark.parametrize("count", [3, 40, 200])
def test_a_contract_of_some_rows_is_kept_by_the_next_ones(count: int) -> None:
    """Over many contracts, of these seeds, a batch of one more row breaks it in one of twenty cases at most."""
    import random

    def draw(drawn: random.Random, count: int) -> dict[str, Any]:
        return {
            "shop": [drawn.choice("abc") for _ in range(count)],
            "n": [drawn.randrange(6) for _ in range(count)],
            "price": [drawn.gauss(10, 2) for _ in range(count)],
            "wait": [drawn.expovariate(1.0) for _ in range(count)],
        }

    broken = 0
    for seed in range(20):
        drawn = random.Random(seed)
        made = of(draw(drawn, count)).contract
        broken += sum(bool(contracts.check(made, pl.DataFrame(draw(drawn, 1)))) for _ in range(20))
    assert broken <= 20


# ---- commands and HTTP


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.home.parent)

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(args))
        return code, *capsys.readouterr()

    return call


def test_from_inferring_to_mending_by_commands(workspace: Workspace, actor: Actor, noria: Any) -> None:
    repository = people(workspace, actor)
    some = [(number, "ab"[number % 2], 2 + 2 * (number % 2)) for number in range(1, 101)]
    workspace.data.append(repository, rows(*some), actor=actor)
    root = workspace.home.parent
    assert noria("data", "contract", "infer", "people", "-o", "people.toml")[0] == 0
    text = (root / "people.toml").read_text()
    assert "largest share of nulls" in text
    assert tomllib.loads(text)["columns"]["n"] == {"type": "int64", "missing": 0, "min": 1, "max": 5}
    assert noria("data", "contract", "infer", "people", "-o", "people.toml")[0] == 5
    (root / "people.toml").write_text(text.replace("max = 5", "max = 3"))
    code, out, _ = noria("data", "contract", "check", "people", "--contract", "people.toml", "--json")
    assert (code, [f["rule"] for f in json.loads(out)["findings"]]) == (3, ["n.max"])
    (root / "people.toml").write_text(text)
    assert "100 rows keep the contract" in noria("data", "contract", "check", "people", "--contract", "people.toml")[1]
    assert noria("data", "contract", "set", "people", "people.toml")[0] == 0
    assert tomllib.loads(noria("data", "contract", "show", "people")[1]) == tomllib.loads(text)
    assert noria("data", "contract", "show", "people", "--number", "7")[0] == 4
    assert [c["number"] for c in json.loads(noria("data", "contract", "history", "people", "--json")[1])] == [1]
    (root / "new.csv").write_text("id,mail,n\n203,a,2\n204,b,9\n")
    assert noria("data", "contract", "check", "people", "new.csv")[0] == 3
    code, _, err = noria("data", "append", "people", "new.csv")
    assert (code, "quarantine show 1" in err) == (3, True)
    assert "n.max" in noria("data", "quarantine", "show", "1", "--out", "bad.parquet")[1]
    pl.read_parquet(root / "bad.parquet").with_columns(n=pl.col("n").clip(0, 5)).write_parquet(root / "good.parquet")
    assert noria("data", "quarantine", "offer", "1")[0] == 3
    assert "2 added" in noria("data", "quarantine", "offer", "1", "good.parquet")[1]
    assert noria("data", "quarantine", "drop", "1", "--reason", "x")[0] == 5
    assert json.loads(noria("data", "quarantine", "list", "--json")[1]) == []
    (one,) = json.loads(noria("data", "quarantine", "list", "--all", "--json")[1])
    assert (one["state"], one["verdict"]["actor"]) == ("accepted", workspace.actor.name)
    (root / "people.toml").write_text(text.replace("max = 5", "max = 3"))
    assert noria("data", "contract", "set", "people", "people.toml", "--strict")[0] == 3
    code, out, err = noria("data", "contract", "set", "people", "people.toml")
    assert (code, "n.max" in out, "breaks 1 of its rules" in err) == (0, True, True)
    code, out, _ = noria("data", "contract", "set", "people", "people.toml", "--json")
    assert (code, json.loads(out)["contract"], json.loads(out)["findings"][0]["count"]) == (0, 2, 51)
    (root / "few.toml").write_text('[columns.id]\ntype = "int64"\n[columns.n]\ntype = "int64"\n')
    code, _, err = noria("data", "contract", "set", "people", "few.toml")
    said = " ".join(err.split())
    assert (code, "does not know 'mail', which people@main has" in said, "Add [columns.mail]" in said) == (
        0,
        True,
        True,
    )
    assert "as it stands breaks" not in said, "nothing else is broken"
    code, _, err = noria("data", "append", "people", "new.csv")
    said = " ".join(err.split())
    assert (code, "the contract does not know the column 'mail'. Nothing was committed." in said) == (3, True)
    assert "Add [columns.mail] to the contract: noria data contract show people > people.toml" in said
    (root / "broken.toml").write_text("[columns")
    code, _, err = noria("data", "contract", "set", "people", "broken.toml")
    assert (code, "broken.toml cannot be read" in err) == (2, True)


def test_the_same_over_http(workspace: Workspace, actor: Actor) -> None:
    people(workspace, actor, SPEC)
    http = client(routes(workspace.data, workspace.project.id))
    bad = [{"id": 1, "mail": "a", "n": 3}]
    found = http.send("POST", "/v1/data/people/contract/check", {"rows": bad}).json
    assert (found["rows"], [f["rule"] for f in found["findings"]]) == (1, ["rules.even"])
    assert http.send("POST", "/v1/data/people/rows", {"rows": bad}).status == 422
    (batch,) = http.get("/v1/quarantine").json["items"]
    path = f"/v1/quarantine/{batch['id']}"
    assert http.send("POST", path + "/offer", {}).status == 422
    mended = {"rows": [{"id": 1, "mail": "a", "n": 4}]}
    done = http.send("POST", path + "/offer", mended, idempotency_key="once").json
    assert http.send("POST", path + "/offer", mended, idempotency_key="once").json == done
    late = http.send("POST", path + "/drop", {"reason": "x"})
    assert (late.status, late.error["code"]) == (409, "quarantine_decided")
    assert http.get(path).json["batch"]["verdict"]["commit"] == done["id"]
    assert http.send("POST", "/v1/quarantine/99/offer", {}).status == 404
    strict = {"contract": bare(3), "strict": True}
    late = http.send("PUT", "/v1/data/people/contract", strict)
    assert (late.status, late.error["code"]) == (422, "head_breaks_contract")
    (one,) = http.get("/v1/data/people/contract/history").json["items"]
    assert (one["number"], one["in_force"], one["contract"]["rules"]) == (1, True, {"even": "n % 2 = 0"})
    done = http.send("PUT", "/v1/data/people/contract", {"contract": bare(3)}).json
    assert (done["number"], done["rows"], [f["rule"] for f in done["findings"]]) == (2, 1, ["n.max"])


# ---- what comes from elsewhere

SMALL: dict[str, Any] = {"files": {"denied": ["*.exe"]}}


def folder(ws: Workspace, actor: Actor, name: str = "photos") -> Repository:
    made = ws.data.create(ws.project.id, name, RepositoryKind.FILES, actor=actor)
    ws.data.change(made, [Put("a.jpg", "1")], actor=actor)
    return made


def stands(ws: Workspace, repository: Repository, branch: str = "main") -> str:
    found = ws.data.head(repository, branch)
    assert found is not None
    return found.id


def bare(n: int | None = None, **whole: Any) -> dict[str, Any]:
    columns = {"id": {"type": "int64"}, "mail": {"type": "str"}, "n": {"type": "int64"}}
    if n is not None:
        columns["n"]["max"] = n  # type: ignore[assignment]
    return {"columns": columns, **({"whole": whole} if whole else {})}


def test_a_branch_that_only_moves_keeps_the_contract(both: Workspace, actor: Actor) -> None:
    photos = folder(both, actor)
    both.data.create_branch(photos, "b", actor=actor)
    both.data.change(photos, [Put("evil.exe", "1")], actor=actor, branch="b")
    both.data.set_contract(photos, SMALL, actor=actor)
    before = stands(both, photos)
    with pytest.raises(FilesBroken):  # the record of the repository is from before the contract
        both.data.merge(photos, "b", actor=actor)
    with pytest.raises(FilesBroken):
        both.data.reset(photos, "b", actor=actor)
    assert stands(both, photos) == before
    with pytest.raises(FilesBroken):  # the whole tree is looked at, since the head was never checked
        both.data.change(photos, [Put("b.jpg", "1")], actor=actor, branch="b")
    mended = both.data.change(photos, [Delete("evil.exe")], actor=actor, branch="b")
    assert both.data.merge(photos, "b", actor=actor).id == mended.id
    assert both.data.reset(photos, before, actor=actor).id == before, "back to what it held is always possible"


def test_columns_dropped_on_a_branch_do_not_reach_main(workspace: Workspace, actor: Actor) -> None:
    made = people(workspace, actor)
    workspace.data.append(made, rows((1, "a", 1)), actor=actor)
    workspace.data.set_contract(made, bare(), actor=actor)
    workspace.data.create_branch(made, "b", actor=actor)
    altered = workspace.data.alter(made, Alterations(drop=("n",)), actor=actor, branch="b")
    assert altered.contract is None
    for fast_forward in (True, False):
        with pytest.raises(ContractBroken) as broken:
            workspace.data.merge(made, "b", actor=actor, fast_forward=fast_forward)
        assert broken.value.details["findings"][0]["column"] == "n"
    assert workspace.data.read(made).columns == ["id", "mail", "n"]


def test_all_commits_of_a_branch_have_to_be_checked_not_its_last(workspace: Workspace, actor: Actor) -> None:
    made = people(workspace, actor)
    data = workspace.data
    data.append(made, rows((1, "a", 1)), actor=actor)
    data.create_branch(made, "old", actor=actor)
    data.append(made, rows((2, "b", 999)), actor=actor, branch="old")
    data.set_contract(made, bare(10), actor=actor)
    checked = data.append(made, rows((3, "c", 1)), actor=actor, branch="old")
    assert checked.contract == 1
    with pytest.raises(ContractBroken):
        data.merge(made, "old", actor=actor)
    data.append(made, rows((4, "d", 1)), actor=actor)
    with pytest.raises(ContractBroken):
        data.merge(made, "old", actor=actor)
    squashed = data.squash(made, "old~2", branch="old", actor=actor)
    assert squashed.contract is None
    with pytest.raises(ContractBroken):
        data.merge(made, "old", actor=actor)
    assert sorted(data.read(made)["id"]) == [1, 4]
    data.append(made, rows((2, "b", 9)), actor=actor, branch="old")
    data.merge(made, "old", actor=actor)
    assert sorted(data.read(made)["n"]) == [1, 1, 1, 9]


def test_a_squash_of_checked_commits_is_checked(workspace: Workspace, actor: Actor) -> None:
    made = people(workspace, actor, bare(10))
    for number in range(3):
        workspace.data.append(made, rows((number, "a", 1)), actor=actor)
    assert workspace.data.squash(made, "main~2", actor=actor).contract == 1


def test_a_merged_table_keeps_what_is_said_of_the_whole(both: Workspace, actor: Actor) -> None:
    made = people(both, actor)
    data = both.data
    data.append(made, rows((1, "a", 1)), actor=actor)
    data.set_contract(made, bare(unique=[["mail"]], max_rows=4), actor=actor)
    data.create_branch(made, "b", actor=actor)
    data.append(made, rows((2, "x", 1)), actor=actor, branch="b")
    data.append(made, rows((3, "x", 1)), actor=actor)
    with pytest.raises(ContractBroken) as broken:
        data.merge(made, "b", actor=actor)
    assert [f["rule"] for f in broken.value.details["findings"]] == ["whole.unique"]
    data.append(made, rows((2, "y", 1), (4, "z", 1)), actor=actor, branch="b")
    data.append(made, rows((5, "w", 1)), actor=actor)
    with pytest.raises(ContractBroken) as broken:
        data.merge(made, "b", actor=actor)
    assert [f["rule"] for f in broken.value.details["findings"]] == ["whole.max_rows"]
    data.append(made, rows((5, "w", 1)), actor=actor, mode="delete")
    assert data.merge(made, "b", actor=actor).contract == 1


def test_an_open_commit_keeps_the_contract_in_force_when_it_lands(both: Workspace, actor: Actor) -> None:
    made = people(both, actor)
    data = both.data
    data.append(made, rows((1, "a", 1)), actor=actor)
    before = data.start(made, actor=actor)
    data.edit_rows(made, before.id, rows((7, "q", 777)), actor=actor)
    data.set_contract(made, bare(10, unique=[["mail"]]), actor=actor)
    made = data.get(both.project.id, made.name)
    with pytest.raises(ContractBroken):
        data.finish(made, before.id, actor=actor)
    twice = data.start(made, actor=actor)
    data.edit_rows(made, twice.id, rows((2, "a", 1)), actor=actor)
    with pytest.raises(ContractBroken):
        data.finish(made, twice.id, actor=actor)
    data.edit_rows(made, twice.id, rows((2, "b", 1)), actor=actor)
    assert data.finish(made, twice.id, actor=actor).contract == 1
    assert sorted(data.read(made)["mail"]) == ["a", "b"]


def test_a_contract_that_is_set_while_a_commit_lands_is_asked(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, photos, made = both.data, folder(both, actor), people(both, actor)
    data.append(made, rows((1, "a", 1)), actor=actor)
    prepare = data._prepare
    left = [True]

    def late(writer: Any, repository: Repository, *place: Any, **how: Any) -> Any:
        if left:
            left.pop()
            data.set_contract(repository, SMALL if repository.name == "photos" else bare(10), actor=actor)
        return prepare(writer, repository, *place, **how)

    monkeypatch.setattr(data, "_prepare", late)
    with pytest.raises(FilesBroken):
        data.change(photos, [Put("evil.exe", "1")], actor=actor)
    left.append(True)
    with pytest.raises(ContractBroken):
        data.append(made, rows((2, "b", 999)), actor=actor)
    data.set_contract(made, bare(1000), actor=actor)
    left.append(True)
    with pytest.raises(ContractBroken):
        data.produce(data.get(both.project.id, made.name), [{"id": 3, "mail": "c", "n": 999}], actor=actor)
    assert data.read(made)["id"].to_list() == [1]
    assert [entry.path for entry in data.files(photos)] == ["a.jpg"]
