"""The table format: what a table is must not depend on how it came to be."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from noria.base.errors import Invalid
from noria.data.rows import TableReader, TableWriter, load_layout
from noria.data.rows.encoding import encode_rows, hash_ordered, hash_rows, sum_hashes
from noria.data.rows.layout import column_id, decode_layout, encode_layout
from noria.data.rows.schema import KNOWN, SEQ, infer, polars_type, type_name
from noria.data.rows.write import KeyMissing, KeyRepeated
from noria.store import Kind, ObjectStore
from noria.testing import MemoryBytes

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(MemoryBytes(), tmp_path)


@pytest.fixture
def writer(store: ObjectStore) -> TableWriter:
    return TableWriter(TableReader(store))


EVERY_TYPE = pl.DataFrame(
    {
        "b": [True, None],
        "i": pl.Series([-1, None], dtype=pl.Int16),
        "u": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
        "f": [0.1, None],
        "g": pl.Series([float("nan"), None], dtype=pl.Float32),
        "s": ["ünï", None],
        "y": [b"\x00\xff", None],
        "d": [date(2013, 4, 1), None],
        "t": [datetime(2013, 4, 1, 5, 15, tzinfo=UTC), None],
        "n": [datetime(2013, 4, 1, 5, 15), None],
        "p": [timedelta(hours=2), None],
        "c": pl.Series(["1.50", None]).cast(pl.Decimal(10, 2)),
        "l": [[1, 2, None], None],
        "e": ["", "x"],
    }
)


def reference(row: dict[str, Any], frame: pl.DataFrame) -> bytes:
    """The encoding written down a second time, one value after another."""
    cells, tail = b"", b""
    epoch = datetime(1970, 1, 1)
    for name, dtype in frame.schema.items():
        v = row[name]
        variable = isinstance(dtype, pl.String | pl.Binary | pl.Decimal | pl.List)
        if v is None:
            cells += bytes(5 if variable else 9)
            continue
        if variable:
            raw = (
                v
                if isinstance(v, bytes)
                else (json.dumps({"v": v}, separators=(",", ":")) if isinstance(v, list) else str(v)).encode()
            )
            cells += b"\x01" + len(raw).to_bytes(4, "little")
            tail += raw
            continue
        if isinstance(v, float):
            bits = np.float64(v).tobytes() if v == v else bytes.fromhex("000000000000f87f")
            cells += b"\x01" + bits
            continue
        if isinstance(v, datetime):
            v = (v.replace(tzinfo=None) - epoch) // timedelta(microseconds=1)
        elif isinstance(v, date):
            v = (v - epoch.date()).days
        elif isinstance(v, timedelta):
            v = v // timedelta(microseconds=1)
        cells += b"\x01" + (int(v) % 2**64).to_bytes(8, "little")
    return cells + tail


def test_the_encoding_is_what_its_description_says() -> None:
    data, ends = encode_rows(EVERY_TYPE)
    start = 0
    for row, end in zip(EVERY_TYPE.to_dicts(), ends.tolist(), strict=True):
        assert data[start:end] == reference(row, EVERY_TYPE)
        start = end


def test_row_hashes_never_change(golden) -> None:
    hashes = [bytes(h).hex() for h in hash_rows(EVERY_TYPE)]
    ordered = [bytes(h).hex() for h in hash_ordered(EVERY_TYPE, 5)]
    schema = infer(EVERY_TYPE, key=["e"], time="t")
    golden(
        "rows.json", json.dumps({"rows": hashes, "ordered": ordered, "schema": schema.as_value()}, indent=1).encode()
    )


rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=True),
            "s": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        }
    ),
    max_size=12,
)


@given(rows_strategy)
def test_vectorised_hashes_equal_one_at_a_time(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "f": pl.Float64, "s": pl.String})
    found = [bytes(h) for h in hash_rows(frame)]
    assert found == [blake3(reference(row, frame)).digest() for row in frame.to_dicts()]
    total = sum(int.from_bytes(h, "little") for h in found) % 2**256
    assert sum_hashes(hash_rows(frame)) == total


@given(st.integers(0, 3), st.permutations(range(6)))
def test_slices_and_orders_do_not_matter(offset: int, order: list[int]) -> None:
    frame = pl.DataFrame({"s": ["a", None, "ccc", "", "ee", "f"], "n": [1, 2, None, 4, 5, 6]})
    assert (hash_rows(frame[offset:]) == hash_rows(frame)[offset:]).all()
    assert sum_hashes(hash_rows(frame[list(order)])) == sum_hashes(hash_rows(frame))


@pytest.mark.parametrize("dtype", [*EVERY_TYPE.dtypes, pl.List(pl.List(pl.String)), pl.Datetime("ns", "Europe/Zurich")])
def test_type_names_read_back(dtype: pl.DataType) -> None:
    assert polars_type(type_name(dtype, "c")) == dtype


@pytest.mark.parametrize("name", ["int", "list<", "datetime[s]", "decimal[x]", ""])
def test_unknown_type_names_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match="not the name of a column type"):
        polars_type(name)


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


def test_the_layout_format_never_changes(store: ObjectStore, writer: TableWriter, golden) -> None:
    schema = infer(frame(k=[1], v=["x"]), key=["k"])
    with store.writer() as w:
        done = writer.replace(w, schema, frame(k=[1, 2], v=["x", "y"]), seq=1, known_us=0)
        w.flush()
    from msgspec.structs import replace

    pinned = replace(done.layout, fragments=[replace(f, id=bytes(32), size=0) for f in done.layout.fragments])
    golden("table-2.bin", encode_layout(pinned))
    assert load_layout(store, done.layout_id) == done.layout


def test_tables_of_version_1_are_read() -> None:
    """A file that version 1 wrote: its fragments hold the columns of the table, whose ids follow from their names."""
    found = decode_layout("old", (Path(__file__).parents[1] / "golden" / "table.bin").read_bytes())
    assert (found.columns, found.key, found.rows) == ([("k", "int64"), ("v", "str")], ["k"], 2)
    assert [(f.rows, f.shape) for f in found.fragments] == [(2, 0)]
    assert (found.ids, found.shapes, found.defaults) == ([], [], {})
    assert found.column_ids == [column_id("k", 0), column_id("v", 0)]


def test_an_append_stores_the_new_rows_only(store: ObjectStore, writer: TableWriter) -> None:
    rows = frame(k=list(range(50_000)), v=[f"value {n}" for n in range(50_000)])
    with store.writer() as w:
        base = writer.replace(w, infer(rows, key=["k"]), rows, seq=1, known_us=0)
        w.flush()
        first = w.written
    changed = rows[::100].with_columns(v=pl.lit("changed"))
    with store.writer() as w:
        after = writer.append(w, base.layout, changed, seq=2, known_us=0)
        w.flush()
        assert w.written < first / 20
    assert (after.added, after.updated, after.unchanged) == (0, 500, 0)
    assert writer.reader.read(after.layout).filter(v="changed").height == 500
    assert writer.reader.read(base.layout).equals(rows)


def test_hidden_columns_say_when_a_row_was_known_and_arrived(store: ObjectStore, writer: TableWriter) -> None:
    at = datetime(2013, 1, 1, tzinfo=UTC)
    rows = frame(k=[1, 2], t=[at, at])
    with store.writer() as w:
        base = writer.replace(w, infer(rows, key=["k"], time="t"), rows, seq=1, known_us=1_000_000)
        after = writer.append(w, base.layout, frame(k=[2, 3], t=[at, at]), seq=2, known_us=2_000_000)
        w.flush()
    assert (after.added, after.unchanged) == (1, 1)
    seen = writer.reader.read(after.layout, hidden=True)
    assert seen[SEQ].to_list() == [1, 1, 2]
    assert seen[KNOWN].dt.epoch("s").to_list() == [1, 1, 2]
    assert writer.reader.read(after.layout, columns=["k"], after_seq=1)["k"].to_list() == [3]
    assert writer.reader.read(after.layout, after_seq=2).is_empty()


@pytest.mark.parametrize(
    ("rows", "error"),
    [({"k": [1, 1], "v": ["a", "b"]}, KeyRepeated), ({"k": [1, None], "v": ["a", "b"]}, KeyMissing)],
)
def test_bad_keys_are_refused_with_examples(store: ObjectStore, writer: TableWriter, rows, error) -> None:
    with store.writer() as w, pytest.raises(error) as raised:
        writer.replace(w, infer(frame(k=[1], v=["x"]), key=["k"]), frame(**rows), seq=1, known_us=0)
    assert raised.value.details["rows"]


def test_wrong_columns_and_values_are_named(store: ObjectStore, writer: TableWriter) -> None:
    schema = infer(frame(flight=[1], carrier=["UA"]))
    with store.writer() as w:
        with pytest.raises(Invalid, match="missing carrier; unknown carier") as error:
            writer.replace(w, schema, frame(flight=[1], carier=["UA"]), seq=1, known_us=0)
        assert "Did you mean 'carrier'?" in error.value.hint
        with pytest.raises(Invalid, match="does not fit"):
            writer.replace(w, schema, frame(flight=["x"], carrier=["UA"]), seq=1, known_us=0)


class TableMachine(RuleBasedStateMachine):
    """A table that is changed step by step against a dictionary; its digest against that of a fresh table."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = ObjectStore(MemoryBytes(), Path(self.folder.name))
        self.writer = TableWriter(TableReader(self.store))
        self.schema = infer(frame(k=[1], v=["x"]), key=["k"])
        self.model: dict[int, str | None] = {}
        self.seq = 0
        with self.store.writer() as w:
            self.layout = self.writer.replace(w, self.schema, self.rows({}), seq=0, known_us=0).layout
            w.flush()

    @staticmethod
    def rows(values: dict[int, str | None]) -> pl.DataFrame:
        return pl.DataFrame({"k": list(values), "v": list(values.values())}, schema={"k": pl.Int64, "v": pl.String})

    @rule(values=st.dictionaries(st.integers(0, 60), st.none() | st.sampled_from("abc"), max_size=8))
    def append(self, values: dict[int, str | None]) -> None:
        self.seq += 1
        with self.store.writer() as w:
            done = self.writer.append(w, self.layout, self.rows(values), seq=self.seq, known_us=0)
            w.flush()
        new = {k for k in values if k not in self.model}
        same = {k for k, v in values.items() if k in self.model and self.model[k] == v}
        assert (done.added, done.unchanged, done.updated) == (len(new), len(same), len(values) - len(new) - len(same))
        self.layout = done.layout
        self.model.update(values)

    @rule(keys=st.lists(st.integers(0, 60), max_size=8))
    def delete(self, keys: list[int]) -> None:
        self.seq += 1
        with self.store.writer() as w:
            done = self.writer.delete(w, self.layout, pl.DataFrame({"k": keys}, schema={"k": pl.Int64}))
            w.flush()
        assert done.deleted == len({k for k in keys if k in self.model})
        self.layout = done.layout
        for key in keys:
            self.model.pop(key, None)

    @rule(count=st.integers(15, 20))
    def many_small_commits(self, count: int) -> None:
        for number in range(count):
            self.append({100 + (self.seq * 7 + number) % 300: "z"})

    @invariant()
    def equals_the_model(self) -> None:
        found = self.writer.reader.read(self.layout)
        assert dict(zip(found["k"], found["v"], strict=True)) == self.model
        assert self.layout.rows == len(self.model)
        assert len(self.layout.fragments) < 50

    @invariant()
    def has_the_digest_of_a_fresh_table(self) -> None:
        with self.store.writer() as w:
            fresh = self.writer.replace(w, self.schema, self.rows(dict(sorted(self.model.items()))), seq=9, known_us=1)
        assert fresh.layout.digest == self.layout.digest

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestTables = TableMachine.TestCase
TestTables.settings = settings(max_examples=10 * TIMES, stateful_step_count=12, deadline=None)


def test_without_a_key_order_is_content(store: ObjectStore, writer: TableWriter) -> None:
    rows = frame(v=[1, 2, 3])
    schema = infer(rows)
    with store.writer() as w:
        whole = writer.replace(w, schema, rows, seq=1, known_us=0).layout
        turned = writer.replace(w, schema, rows.reverse(), seq=1, known_us=0).layout
        part = writer.replace(w, schema, rows[:2], seq=1, known_us=0).layout
        w.flush()
    assert whole.digest != turned.digest
    with store.writer() as w:
        assert writer.append(w, part, rows[2:], seq=2, known_us=0).layout.digest == whole.digest
        with pytest.raises(Invalid, match="without a key"):
            writer.delete(w, whole, rows)


def test_a_flipped_bit_in_a_fragment_is_never_read(store: ObjectStore, writer: TableWriter) -> None:
    rows = frame(k=list(range(100)))
    with store.writer() as w:
        layout = writer.replace(w, infer(rows, key=["k"]), rows, seq=1, known_us=0).layout
        (pack,) = w.flush()
    files = store.source.files  # type: ignore[attr-defined]
    ((name, data),) = [(n, d) for n, d in files.items() if pack.id in n]
    place = next(f.offset for f in store.pack_entries(pack.id) if f.kind == Kind.FRAGMENT) + 48 + 20
    files[name] = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    from noria.store.errors import ObjectCorrupt

    with pytest.raises(ObjectCorrupt):
        TableReader(store).read(layout)
