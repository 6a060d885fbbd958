"""All verbs of a table together, against dictionaries: rows, columns, branches, merges, compaction, old versions."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tablebench import Bench  # pyright: ignore[reportMissingImports]

from noria.data.rows import Layout, diff_layouts
from noria.data.rows.alter import Alterations, NewColumn, alter, can_widen
from noria.data.rows.merge_columns import SchemasContradict
from noria.data.rows.schema import Column, TableSchema, polars_type

Row = dict[int, Any]
WIDER = {"int8": ["int16", "int64", "float64"], "int16": ["int64", "float64"], "int64": ["float64"]}
NAMES = ["k", "a", "b", "c", "d"]


@dataclass(frozen=True)
class Col:
    """A column of the model; ``id`` is its own, whatever its name."""

    id: int
    name: str
    type: str
    default: Any = None


@dataclass
class Model:
    columns: list[Col]
    rows: dict[int, Row] = field(default_factory=dict[int, Row])

    def copy(self) -> Model:
        return Model(list(self.columns), {k: dict(r) for k, r in self.rows.items()})

    def fitted(self, row: Row, columns: list[Col]) -> Row:
        """A row of this model as one with other columns holds it."""
        return {c.id: cast(row.get(c.id, c.default), c.type) for c in columns}


@dataclass
class Version:
    """A commit of the model: its table, its content, and all versions that it stands on."""

    layout: Layout
    model: Model
    past: frozenset[int]


def cast(value: Any, kind: str) -> Any:
    return float(value) if kind == "float64" and value is not None else value


def value_of(kind: str, number: int | None) -> Any:
    if number is None:
        return None
    return "abc"[number % 3] if kind == "str" else cast(number, kind)


def changed(before: Model, after: Model) -> dict[int, Row | None]:
    """Key -> the row as it is after, None where it is gone; only those that differ."""
    found: dict[int, Row | None] = {}
    for key in {*before.rows, *after.rows}:
        old = before.fitted(before.rows[key], after.columns) if key in before.rows else None
        new = after.rows.get(key)
        if old != new:
            found[key] = new
    return found


class TableVerbs(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.folder.name))
        self.next_id = 2
        self.versions: list[Version] = []
        columns = [Col(0, "k", "int64"), Col(1, "a", "int8")]
        self.heads: dict[str, int] = {}
        self.land("main", self.bench.fresh(self.frame(Model(columns)), self.schema(columns)), Model(columns))
        self.branch()

    # ---- the model

    @staticmethod
    def schema(columns: list[Col]) -> TableSchema:
        key = next(c.name for c in columns if c.id == 0)
        return TableSchema(columns=tuple(Column(name=c.name, type=c.type) for c in columns), key=(key,))

    @staticmethod
    def frame(model: Model) -> pl.DataFrame:
        schema = {c.name: polars_type(c.type) for c in model.columns}
        rows = [[row[c.id] for c in model.columns] for row in model.rows.values()]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def head(self, branch: str) -> Version:
        return self.versions[self.heads[branch]]

    def land(self, branch: str, layout: Layout, model: Model, *parents: int) -> None:
        here = len(self.versions)
        past = {here}.union(
            *(self.versions[p].past for p in (*parents, *([self.heads[branch]] if branch in self.heads else [])))
        )
        self.versions.append(Version(layout, model, frozenset(past)))
        self.heads[branch] = here

    def given(self, model: Model, numbers: dict[int, int | None]) -> dict[int, Row]:
        """Rows of the present columns from one number each."""
        return {k: {c.id: k if c.id == 0 else value_of(c.type, n) for c in model.columns} for k, n in numbers.items()}

    # ---- verbs

    branches = st.sampled_from(["main", "dev"])
    batch = st.dictionaries(st.integers(0, 12), st.none() | st.integers(-3, 3), max_size=5)

    @rule(branch=branches, numbers=batch, keep=st.booleans())
    def append(self, branch: str, numbers: dict[int, int | None], keep: bool) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        rows = self.given(model, numbers)
        self.bench.seq += 1
        with self.bench.store.writer() as w:
            frame = self.frame(Model(model.columns, rows))
            done = self.bench.writer.append(w, here.layout, frame, seq=self.bench.seq, known_us=0, keep=keep)
            w.flush()
        model.rows = {**rows, **model.rows} if keep else {**model.rows, **rows}
        self.land(branch, done.layout, model)

    @rule(branch=branches, numbers=batch)
    def overwrite(self, branch: str, numbers: dict[int, int | None]) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        model.rows = self.given(model, numbers)
        model.columns = [replace(c, default=None) for c in model.columns]
        self.bench.seq += 1
        with self.bench.store.writer() as w:
            done = self.bench.writer.replace(
                w, self.schema(model.columns), self.frame(model), seq=self.bench.seq, known_us=0, base=here.layout
            )
            w.flush()
        self.land(branch, done.layout, model)

    @rule(branch=branches, keys=st.lists(st.integers(0, 12), max_size=4))
    def delete(self, branch: str, keys: list[int]) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        with self.bench.store.writer() as w:
            asked = pl.DataFrame({here.layout.key[0]: keys}, schema={here.layout.key[0]: pl.Int64})
            done = self.bench.writer.delete(w, here.layout, asked)
            w.flush()
        model.rows = {k: r for k, r in model.rows.items() if k not in keys}
        self.land(branch, done.layout, model)

    @rule(
        branch=branches,
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(["int8", "str"]),
        default=st.none() | st.integers(-3, 3),
    )
    def add(self, branch: str, name: str, kind: str, default: int | None) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        if name in [c.name for c in model.columns]:
            return
        made = Col(self.next_id, name, kind, value_of(kind, default))
        self.next_id += 1
        text = None if made.default is None else str(made.default)
        self.alter(branch, here, add=(NewColumn(name=name, type=kind, default=text),))
        model.columns.append(made)
        self.refit(branch, model)

    @rule(branch=branches, place=st.integers(0, 4))
    def drop(self, branch: str, place: int) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        gone = model.columns[place % len(model.columns)]
        if gone.id == 0:
            return
        self.alter(branch, here, drop=(gone.name,))
        model.columns.remove(gone)
        self.refit(branch, model)

    @rule(branch=branches, place=st.integers(0, 4), name=st.sampled_from(NAMES))
    def rename(self, branch: str, place: int, name: str) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        if name in [c.name for c in model.columns]:
            return
        place %= len(model.columns)
        self.alter(branch, here, rename={model.columns[place].name: name})
        model.columns[place] = replace(model.columns[place], name=name)
        self.refit(branch, model)

    @rule(branch=branches, place=st.integers(1, 4), step=st.integers(0, 2))
    def widen(self, branch: str, place: int, step: int) -> None:
        here, model = self.head(branch), self.head(branch).model.copy()
        place %= len(model.columns)
        column = model.columns[place]
        kinds = WIDER.get(column.type, [])
        if column.id == 0 or not kinds:
            return
        kind = kinds[step % len(kinds)]
        self.alter(branch, here, widen={column.name: kind})
        model.columns[place] = replace(column, type=kind, default=cast(column.default, kind))
        self.refit(branch, model)

    def alter(self, branch: str, here: Version, **changes: Any) -> None:
        self.bench.seq += 1
        with self.bench.store.writer() as w:
            self.altered = alter(self.bench.reader, w, here.layout, Alterations(**changes), seq=self.bench.seq).layout
            w.flush()
        assert [f.id for f in self.altered.fragments] == [f.id for f in here.layout.fragments]

    def refit(self, branch: str, model: Model) -> None:
        model.rows = {k: model.fitted(row, model.columns) for k, row in model.rows.items()}
        self.land(branch, self.altered, model)

    @rule()
    def branch(self) -> None:
        self.heads["dev"] = self.heads["main"]

    @rule(branch=branches)
    def compact(self, branch: str) -> None:
        """The same version in other files."""
        here = self.head(branch)
        with self.bench.store.writer() as w:
            layout, _ = self.bench.writer.compact(w, here.layout)
            w.flush()
        assert layout.digest == here.layout.digest
        assert len(layout.fragments) <= 1
        here.layout = layout

    @rule(into=branches, strategy=st.sampled_from(["conflict", "ours", "theirs"]))
    def merge(self, into: str, strategy: str) -> None:
        other = "dev" if into == "main" else "main"
        if self.heads["dev"] == self.heads["main"]:
            return
        ours, theirs = self.head(into), self.head(other)
        base = self.versions[max(ours.past & theirs.past)]
        try:
            done = self.bench.merge(base.layout, ours.layout, theirs.layout, strategy)
        except SchemasContradict:
            for side in (ours, theirs):
                assert [(c.id, c.name, c.type) for c in side.model.columns] != [
                    (c.id, c.name, c.type) for c in base.model.columns
                ]
            return
        columns, same = self.merged_columns(base.model, ours.model, theirs.model)
        merged = Model(columns)
        merged.rows = {k: merged.fitted(r, columns) for k, r in ours.model.rows.items()}
        mine, their = changed(base.model, ours.model), changed(base.model, theirs.model)
        conflicts = 0
        for key, row in their.items():
            new = None if row is None else merged.fitted({same.get(i, i): v for i, v in row.items()}, columns)
            if key in mine:
                if new == merged.rows.get(key):
                    continue
                conflicts += 1
                if strategy != "theirs":
                    continue
            merged.rows.pop(key, None)
            if new is not None:
                merged.rows[key] = new
        assert done.conflict_count == conflicts
        if strategy == "conflict" and conflicts:
            assert done.layout == ours.layout
            return
        if not conflicts:
            turned = self.bench.merge(base.layout, theirs.layout, ours.layout, strategy)
            if [c.name for c in columns] == [n for n, _ in turned.layout.columns]:
                assert turned.layout.digest == done.layout.digest, "merging is symmetric"
        self.land(into, done.layout, merged, self.heads[other])

    @staticmethod
    def merged_columns(base: Model, ours: Model, theirs: Model) -> tuple[list[Col], dict[int, int]]:
        """(columns of the merge; id in ``theirs`` -> id in ``ours`` of columns that both added under one name)."""
        b, t = {c.id: c for c in base.columns}, {c.id: c for c in theirs.columns}
        same = {
            c.id: o.id for c in theirs.columns for o in ours.columns
            if c.id not in b and o.id not in b and c.name == o.name
        }  # fmt: skip
        back = {o: i for i, o in same.items()}
        columns: list[Col] = []
        for column in ours.columns:
            twin = t.get(back.get(column.id, column.id))
            if twin is None:
                if column.id not in b:
                    columns.append(column)
                continue
            was = b.get(column.id)
            name = column.name if was is None or twin.name == was.name else twin.name
            kind = twin.type if can_widen(column.type, twin.type) else column.type
            columns.append(replace(column, name=name, type=kind, default=cast(column.default, kind)))
        columns += [
            c for c in theirs.columns if c.id not in b and same.get(c.id, c.id) not in [o.id for o in ours.columns]
        ]
        return columns, same

    # ---- what holds

    def check(self, version: Version) -> None:
        found = self.bench.reader.read(version.layout)
        wanted = self.frame(version.model)
        assert found.schema == wanted.schema
        key = version.layout.key[0]
        assert found.sort(key).equals(wanted.sort(key), null_equal=True)
        assert version.layout.digest == self.bench.fresh(wanted, self.schema(version.model.columns)).digest

    @invariant()
    def heads_are_the_model(self) -> None:
        for branch in self.heads:
            self.check(self.head(branch))

    @rule(place=st.integers(0, 30))
    def an_old_version_is_what_it_was(self, place: int) -> None:
        self.check(self.versions[place % len(self.versions)])

    @rule(one=st.integers(0, 30), other=st.integers(0, 30))
    def a_difference_applied_to_one_version_is_the_other(self, one: int, other: int) -> None:
        before, after = (self.versions[n % len(self.versions)] for n in (one, other))
        found = diff_layouts(self.bench.reader, before.layout, after.layout)
        rows = found.columns.fit(self.bench.reader.read(before.layout))
        key = after.layout.key
        gone = pl.concat([found.columns.fit(found.removed), found.columns.fit(found.before)]).select(key)
        news = pl.concat([found.added, found.after]).select(after.layout.schema.names)
        made = pl.concat([rows.join(gone, on=key, how="anti"), news])
        assert made.sort(key).equals(self.bench.reader.read(after.layout).sort(key), null_equal=True)

    def teardown(self) -> None:
        self.bench.store.close()
        self.folder.cleanup()


TestTableVerbs = TableVerbs.TestCase
TestTableVerbs.settings = settings(max_examples=30, stateful_step_count=14, deadline=None)
