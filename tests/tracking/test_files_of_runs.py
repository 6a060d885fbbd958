"""Files of runs as the library keeps them: once, in packs, named by rows; deleted, copied, collected."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest

from noria import workspace as ws
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.store import Kind
from noria.testing import ManualClock
from noria.tracking import shelves
from noria.tracking.errors import ArtifactInTheWay, ArtifactNotFound, ArtifactPathInvalid, UploadNotFound
from noria.tracking.records import Owner, OwnerKind
from noria.workspace import Workspace

BIG = random.Random(3).randbytes(3_000_000)


def owner(opened: Workspace, actor: Actor) -> Owner:
    with opened.db.write() as tx:
        return Owner(OwnerKind.RUN, opened.tracking.create_run(tx, opened.project.id, 0, name="r", actor=actor).id)


def put(opened: Workspace, of: Owner, path: str, data: Any) -> None:
    opened.tracking.put_artifact(of, path, data, project_id=opened.project.id)


def read(opened: Workspace, of: Owner, path: str) -> bytes:
    with opened.tracking.open_artifact(opened.tracking.artifact(of, path)) as file:
        return file.read()


def packed(opened: Workspace) -> int:
    """Bytes of all packs."""
    opened.store.refresh()
    return sum(opened.store.source.size(name) for name in opened.store.source.list("packs/"))


def test_equal_files_are_stored_once(both: Workspace, actor: Actor) -> None:
    one, two = owner(both, actor), owner(both, actor)
    put(both, one, "a", BIG)
    before = packed(both)
    for n in range(5):
        put(both, two, f"deep/{n}", io.BytesIO(BIG))
    put(both, two, "longer", BIG + b"and more")
    assert packed(both) - before < 400_000  # the last chunk of the longer one, and lists of chunks
    assert read(both, two, "deep/4") == BIG
    assert read(both, two, "longer") == BIG + b"and more"


def test_small_files_wait_in_their_rows_and_go_into_one_pack(both: Workspace, actor: Actor) -> None:
    one, two = owner(both, actor), owner(both, actor)
    datas = {f"f{n}": random.Random(n % 40).randbytes(1_000 + n % 40) for n in range(80)}
    for n, (path, data) in enumerate(datas.items()):
        put(both, (one, two)[n % 2], path, data)
    put(both, one, "tiny", b"x" * shelves.INLINE)
    assert packed(both) == 0
    put(both, one, "f0", b"other" * 20)  # in the place of one that waits
    datas["f0"] = b"other" * 20
    assert both.tracking.pack_artifacts() == 80
    assert both.tracking.pack_artifacts() == 0
    assert 0 < packed(both) < 41 * 1_100 + 10_000  # equal ones once
    assert len(list(both.store.source.list("packs/"))) == 1
    for n, (path, data) in enumerate(datas.items()):
        found = both.tracking.artifact((one, two)[n % 2], path)
        assert found.content_kind == Kind.CHUNK
        assert read(both, (one, two)[n % 2], path) == data
    assert read(both, one, "tiny") == b"x" * shelves.INLINE
    both.sessions.renew()
    both.gc.run()
    assert read(both, two, "f1") == datas["f1"]


def test_small_files_are_packed_when_they_are_many(workspace: Workspace, actor: Actor) -> None:
    of = owner(workspace, actor)
    for n in range(300):
        put(workspace, of, f"f{n}", random.Random(n).randbytes(500))
    assert len(list(workspace.store.source.list("packs/"))) == 1
    assert all(read(workspace, of, f"f{n}") == random.Random(n).randbytes(500) for n in range(300))


def test_what_was_deleted_is_collected_and_what_is_there_stays(both: Workspace, actor: Actor) -> None:
    one, two = owner(both, actor), owner(both, actor)
    gone = random.Random(4).randbytes(2_000_000)
    put(both, one, "a/gone", gone)
    put(both, one, "a/b/kept", BIG)
    with both.db.write() as tx:
        assert both.tracking.copy_artifacts(tx, one, two) == 2
    both.tracking.delete_artifacts(two, "a/gone", project_id=both.project.id, actor=actor)
    assert both.tracking.delete_artifacts(one, "a", project_id=both.project.id, actor=actor) == 2
    assert both.tracking.list_artifacts(one).items == []  # folders go with their last file
    with pytest.raises(ArtifactNotFound):
        both.tracking.delete_artifacts(one, "a", project_id=both.project.id, actor=actor)
    full = packed(both)
    both.sessions.renew()
    assert both.gc.run().removed >= 1
    assert packed(both) < full - 1_500_000
    assert read(both, two, "a/b/kept") == BIG
    assert both.verify(data=True) == []


def test_parts_of_an_open_upload_are_kept_until_they_are_too_old(
    workspace: Workspace, clock: ManualClock, actor: Actor
) -> None:
    tracking, project, of = workspace.tracking, workspace.project.id, owner(workspace, actor)
    id = tracking.begin_upload(of, "big", project_id=project)
    with tracking.receive() as file:
        file.add(BIG)
        digest = tracking.keep_part(file, id, 1, project_id=project)
    workspace.sessions.renew()
    workspace.gc.run()
    assert workspace.store.has(Digest(bytes.fromhex(digest)))
    tracking.complete_upload(id, {1: digest}, of, "big", project_id=project)
    assert read(workspace, of, "big") == BIG
    late = tracking.begin_upload(of, "late", project_id=project)
    clock.tick(25 * 3_600_000)
    tracking.begin_upload(of, "other", project_id=project)
    with pytest.raises(UploadNotFound):
        tracking.check_upload(late, 1, project)


def test_a_path_is_one_thing_and_leads_nowhere_else(both: Workspace, actor: Actor) -> None:
    of = owner(both, actor)
    put(both, of, "a/b/c", b"1")
    for path in ("a", "a/b", "a/b/c/d"):
        with pytest.raises(ArtifactInTheWay):
            put(both, of, path, b"2")
    for path in ("", "/a", "a/", "a//b", "..", "a/../b", "a\\b", "a\0b", "%2e%2e/a", "C:/a", "\ud800"):
        with pytest.raises(ArtifactPathInvalid):
            put(both, of, path, b"2")
    put(both, of, "a/b/c", b"3")
    assert read(both, of, "a/b/c") == b"3"


def test_lists_go_by_pages(both: Workspace, actor: Actor) -> None:
    of = owner(both, actor)
    for n in range(7):
        put(both, of, f"x/{n}", b"1")
        put(both, of, f"x/sub{n}/f", b"1")
    seen, after = [], None
    while True:
        page = both.tracking.list_artifacts(of, "x", limit=3, after=after)
        seen += [(one.path, one.is_folder) for one in page.items]
        after = page.next
        if after is None:
            break
    assert seen == [(f"x/{n}", False) for n in range(7)] + [(f"x/sub{n}", True) for n in range(7)]
    everything, after = [], None
    while True:
        found = both.tracking.all_artifacts(of, limit=4, after=after)
        everything += [one.path for one in found.items]
        after = found.next
        if after is None:
            break
    assert everything == [f"x/{n}" for n in range(7)] + [f"x/sub{n}/f" for n in range(7)]


def test_a_file_is_read_on_while_another_takes_its_place(tmp_path: Path, actor: Actor) -> None:
    root = tmp_path / "p"
    root.mkdir()
    opened = ws.init(root, environment={})
    try:
        of = owner(opened, actor)
        put(opened, of, "m", BIG)
        with opened.tracking.open_artifact(opened.tracking.artifact(of, "m")) as file:
            begun = file.read(100_000)
            put(opened, of, "m", BIG[::-1])
            assert begun + file.read() == BIG
        assert read(opened, of, "m") == BIG[::-1]
    finally:
        opened.close()
