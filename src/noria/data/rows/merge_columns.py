"""Three-way merge of the columns of a table: by their ids, so that renames are seen as such."""

from __future__ import annotations

from dataclasses import dataclass, field

from noria.base.errors import Conflict
from noria.data.rows.alter import Alterations, NewColumn, altered, can_widen, resum
from noria.data.rows.columns import Columns
from noria.data.rows.layout import Layout
from noria.data.rows.read import TableReader


class SchemasContradict(Conflict):
    """Both sides of a merge changed the columns, and not alike."""

    code = "schemas_contradict"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The columns cannot be merged: {what}.",
            hint="Give both branches the same columns first: noria data alter NAME --rename, --widen or --drop",
        )


@dataclass(slots=True)
class _Plan:
    """What ``theirs`` did to the columns, as changes of ``ours``.

    Attributes:
        same: id in ``theirs`` -> id in ``ours`` of a column that both sides made.
    """

    add: list[NewColumn] = field(default_factory=list[NewColumn])
    drop: list[str] = field(default_factory=list[str])
    rename: dict[str, str] = field(default_factory=dict[str, str])
    widen: dict[str, str] = field(default_factory=dict[str, str])
    same: dict[int, int] = field(default_factory=dict[int, int])


def merge_columns(
    reader: TableReader, base: Layout | None, ours: Layout, theirs: Layout, *, seq: int
) -> tuple[Layout, Columns]:
    """(``ours`` with what ``theirs`` changed in the columns, itself where that is nothing; how rows of ``theirs`` fit).

    Raises:
        SchemasContradict: both changed a column, and not alike.
    """
    b, o, t = ({} if base is None else _by_id(base)), _by_id(ours), _by_id(theirs)
    plan = _Plan()
    for number in b:
        if number in o and number in t:
            _both(plan, b[number], o[number], t[number])
        elif number in o or number in t:
            if (o.get(number) or t.get(number)) != b[number]:
                raise SchemasContradict(f"{b[number][0]!r} was dropped on one side and changed on the other")
            plan.drop += [b[number][0]] if number in o else []
    for number in t:
        if number not in b:
            _added(plan, number, b, o, t[number], theirs)
    if base is not None and base.rows:
        _same_defaults(plan, ours, theirs)
    changes = Alterations(
        add=tuple(plan.add),
        drop=tuple(plan.drop),
        rename=plan.rename,
        widen=plan.widen,
        key=_key(base, ours, theirs, plan),
    )
    merged = ours if changes.nothing else resum(reader, ours, altered(ours, changes, seq=seq))
    names = dict(zip(merged.column_ids, (name for name, _ in merged.columns), strict=True))
    source: dict[str, str] = {}
    for number, (name, _) in t.items():
        here = names.get(plan.same.get(number, number))
        if here is not None:
            source[here] = name
    return merged, Columns(before=theirs, after=merged, source=source)


def _by_id(layout: Layout) -> dict[int, tuple[str, str]]:
    return dict(zip(layout.column_ids, layout.columns, strict=True))


def _both(plan: _Plan, b: tuple[str, str], o: tuple[str, str], t: tuple[str, str]) -> None:
    if t[0] not in (b[0], o[0]):
        if o[0] != b[0]:
            raise SchemasContradict(f"{b[0]!r} was renamed to {o[0]!r} and to {t[0]!r}")
        plan.rename[o[0]] = t[0]
    if t[1] != o[1]:  # whoever changed it: rows of theirs have to fit
        _widest(plan, o, t[1])


def _widest(plan: _Plan, o: tuple[str, str], kind: str) -> None:
    if can_widen(o[1], kind):
        plan.widen[o[0]] = kind
    elif not can_widen(kind, o[1]):
        raise SchemasContradict(f"{o[0]!r} is {o[1]} here and {kind} there")


def _added(
    plan: _Plan,
    number: int,
    b: dict[int, tuple[str, str]],
    o: dict[int, tuple[str, str]],
    t: tuple[str, str],
    theirs: Layout,
) -> None:
    twin = number if number in o else next((i for i, (name, _) in o.items() if i not in b and name == t[0]), None)
    if twin is None:
        if any(name == t[0] for i, (name, _) in o.items() if name not in plan.drop):
            raise SchemasContradict(f"{t[0]!r} is another column here than there")
        # With its id: where files of ours hold it already (a drop is reverted), its values are back.
        plan.add.append(NewColumn(name=t[0], type=t[1], default=theirs.defaults.get(number), number=number))
        return
    plan.same[number] = twin
    if o[twin][1] != t[1]:
        _widest(plan, o[twin], t[1])


def _same_defaults(plan: _Plan, ours: Layout, theirs: Layout) -> None:
    """Rows that were there before a column hold its default: of one that both sides made it must be the same."""
    names = dict(zip(ours.column_ids, (name for name, _ in ours.columns), strict=True))
    for there, here in plan.same.items():
        mine, other = ours.defaults.get(here), theirs.defaults.get(there)
        if mine != other:
            raise SchemasContradict(
                f"{names[here]!r} was added on both sides, and rows without it hold {mine} here and {other} there"
            )


def _key(base: Layout | None, ours: Layout, theirs: Layout, plan: _Plan) -> tuple[str, ...] | None:
    """The key of the merged table where it is not that of ``ours``."""
    start, mine = None if base is None else _key_ids(base), _key_ids(ours)
    other = [plan.same.get(number, number) for number in _key_ids(theirs)]
    if other in (start, mine):
        return None
    if mine != start:
        raise SchemasContradict("both sides changed the key")
    there, here = _by_id(theirs), _by_id(ours)
    names = [here[number][0] if number in here else there[number][0] for number in other]
    return tuple(plan.rename.get(name, name) for name in names)


def _key_ids(layout: Layout) -> list[int]:
    ids = dict(zip((name for name, _ in layout.columns), layout.column_ids, strict=True))
    return [ids[name] for name in layout.key]
