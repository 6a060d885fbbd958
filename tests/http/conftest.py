from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rooms_client import Client, all_routes, client

from noria.workspace import Workspace, connect, init

STEPS = """\
import noria as nr
import polars as pl

orders = nr.source("orders", files="orders.csv", key="id")


@nr.dataset
def clean(orders: pl.LazyFrame) -> pl.LazyFrame:
    print("cleaning")
    return orders.filter(pl.col("n") > 0)


@nr.dataset
def total(clean: pl.DataFrame, *, factor: int = 2):
    nr.log(**{"part/rows": len(clean)}, step=1)
    nr.log(**{"part/rows": len(clean) + 1}, step=2)
    nr.log(odd=float("nan"))
    return {"sum": int(clean["n"].sum()) * factor}


@nr.dataset
def broken(clean):
    raise ValueError("no")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with a bit of everything; tests of one module share it."""
    with open_shop(tmp_path_factory.mktemp("shop"), "http_steps") as ws:
        yield ws


@pytest.fixture
def postgres_shop(tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
    """The same on PostgreSQL."""
    with open_shop(tmp_path, "http_steps_of_postgres", postgres_url) as ws:
        yield ws


@contextmanager
def open_shop(root: Path, module: str, db_url: str | None = None) -> Iterator[Workspace]:
    (root / f"{module}.py").write_text(STEPS)
    (root / "orders.csv").write_text("id,n\n1,5\n2,-1\n3,7\n")
    (root / "noria.toml").write_text(f'name = "shop"\nmodules = ["{module}"]\nexecutor = "process"\n')
    init(root, db_url=db_url).close()
    with connect(db_url or root, root=root) as ws:
        ws.pipelines.run(["total"], {"factor": 3}, actor=ws.actor, trigger="a test")
        ws.pipelines.run(actor=ws.actor, check=False, executor="inline")
        ws.pipelines.apply(actor=ws.actor)
        version = ws.pipelines.current("clean")
        for _ in range(2):
            run = ws.assets.list_runs(ws.project.id, name="total", kinds=["step"]).items[0]
            ws.registry.register(ws.project.id, "chance", actor=ws.actor, version_id=version.id, run_id=run.id)
            ws.registry.register(ws.project.id, "chance", actor=ws.actor, version_id=None, run_id=None)
        ws.serving.ensure("returns", "chance", {"p99_ms": 20}, actor=ws.actor)
        with ws.db.write() as tx:
            ws.jobs.add(tx, ws.project.id, "ingest", {"file": "x"}, unique="one")
        yield ws


@pytest.fixture(scope="module")
def http(shop: Workspace) -> Client:
    return client(all_routes(shop))
