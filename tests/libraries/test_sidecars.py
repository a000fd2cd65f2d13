"""Sidecars beside the files of a library, found by scans of real folders, on both databases: which asset has which, and what is read again."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from app.catalog.schema import tables
from app.catalog.schema.library_records import ScanReport
from app.catalog.schema.records import TaskState
from app.libraries.scanning import walk
from tests.libraries.library_tree import LibraryTree
from tests.libraries.test_events import eventually, is_watched, shows, watching


async def sidecars(tree: LibraryTree) -> dict[str, str | None]:
    """The sidecar of each asset, both by their path below the root."""
    found: dict[str, str | None] = {}
    for name, asset in (await tree.assets()).items():
        path = await tree.catalog.library_sidecars.get_path(asset.id)
        found[name] = None if path is None else path.removeprefix(f"{tree.root}/")
    return found


async def finish_tasks(tree: LibraryTree) -> None:
    async with tree.catalog.engine.begin() as connection:
        await connection.execute(sa.update(tables.task).values(state=TaskState.DONE))


async def read_again(tree: LibraryTree) -> set[str]:
    """The files whose metadata is to be read since `finish_tasks`. No derivative is to be made again."""
    names = {asset.id: name for name, asset in (await tree.assets()).items()}
    found: set[str] = set()
    async with tree.catalog.engine.begin() as connection:
        task = tables.task
        columns = sa.select(task.c.asset_id, task.c.requested_at, task.c.created_at)
        for asset_id, requested_at, created_at in await connection.execute(
            columns.where(task.c.state == TaskState.PENDING)
        ):
            assert requested_at == created_at, "as before"
            found.add(names[asset_id])
    await finish_tasks(tree)
    return found


async def rescan(tree: LibraryTree, **options: object) -> tuple[ScanReport, set[str]]:
    report = await tree.scan(**options)  # pyright: ignore[reportArgumentType]
    return report, await read_again(tree)


async def test_each_file_has_the_sidecar_of_its_name(tree: LibraryTree) -> None:
    for name in (
        "both.jpg", "both.jpg.xmp", "both.xmp",
        "shared.jpg", "shared.raw", "shared.xmp",
        "upper.JPG", "upper.XMP",
        "cases.jpg", "cases.XMP", "cases.xmp",
        "film.mp4", "film.mp4.xmp",
        "a.b.jpg", "a.xmp",
        "other/alone.xmp", "Alone.jpg", "alone.xmp",
        "dir.jpg", "dir.xmp/inside.jpg",
    ):  # fmt: skip
        tree.write(name)
    report = await tree.scan()
    assert (report.found, report.complete, report.unreadable_count) == (10, True, 0)
    expected = {
        "both.jpg": "both.jpg.xmp",
        "shared.jpg": "shared.xmp",
        "shared.raw": "shared.xmp",
        "upper.JPG": "upper.XMP",
        "cases.jpg": "cases.xmp",
        "film.mp4": "film.mp4.xmp",
        "a.b.jpg": None,
        "Alone.jpg": None,
        "dir.jpg": None,
        "dir.xmp/inside.jpg": None,
    }
    assert await sidecars(tree) == expected
    await finish_tasks(tree)
    report, read = await rescan(tree)
    assert (report.changed, report.new, read) == (0, 0, set())
    assert await sidecars(tree) == expected


async def test_a_sidecar_that_comes_changes_and_goes_is_read_again_alone(tree: LibraryTree) -> None:
    for name in ("a/photo.jpg", "a/photo.raw", "a/other.jpg"):
        tree.write(name)
    await tree.scan()
    await finish_tasks(tree)
    before = await tree.assets()

    path = tree.write("a/photo.xmp", b"<x/>")
    report, read = await rescan(tree)
    assert (report.changed, read) == (2, {"a/photo.jpg", "a/photo.raw"})

    exact = tree.write("a/photo.jpg.xmp", b"<y/>")
    assert (await rescan(tree))[1] == {"a/photo.jpg"}
    assert (await sidecars(tree))["a/photo.jpg"] == "a/photo.jpg.xmp"

    exact.write_bytes(b"<longer/>")
    assert (await rescan(tree))[1] == {"a/photo.jpg"}
    status = exact.stat()
    os.utime(exact, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert (await rescan(tree))[1] == {"a/photo.jpg"}

    exact.unlink()
    assert (await rescan(tree))[1] == {"a/photo.jpg"}
    assert (await sidecars(tree))["a/photo.jpg"] == "a/photo.xmp"

    path.unlink()
    report, read = await rescan(tree)
    assert (report.changed, report.trashed, read) == (2, 0, {"a/photo.jpg", "a/photo.raw"})
    assert set((await sidecars(tree)).values()) == {None}
    assert (await rescan(tree))[1] == set()
    assert await tree.assets() == before, "the photos themselves have not changed"


async def test_a_renamed_photo_has_the_sidecar_of_its_new_name(tree: LibraryTree) -> None:
    for name in ("both.jpg", "both.xmp", "alone.jpg", "alone.xmp", "moved/c.jpg", "moved/c.xmp"):
        tree.write(name, name.encode())
    await tree.scan()
    ids = {name: asset.id for name, asset in (await tree.assets()).items()}
    await finish_tasks(tree)

    for former, name in (
        ("both.jpg", "new.jpg"),
        ("both.xmp", "new.xmp"),
        ("alone.jpg", "left.jpg"),
        ("moved", "there"),
    ):
        (tree.root / former).rename(tree.root / name)
    report, read = await rescan(tree)

    assert (report.renamed, report.new, report.trashed) == (3, 0, 0)
    assert await sidecars(tree) == {"new.jpg": "new.xmp", "left.jpg": None, "there/c.jpg": "there/c.xmp"}
    assert read == {"new.jpg", "left.jpg"}, "the sidecar in the moved folder is the same"
    assert {asset.id for asset in (await tree.assets()).values()} == set(ids.values())

    (tree.root / "left.jpg").rename(tree.root / "alone.jpg")
    assert (await rescan(tree))[1] == {"alone.jpg"}
    assert (await sidecars(tree))["alone.jpg"] == "alone.xmp"


async def test_excluded_sidecars_and_links_out_of_the_library_are_left_alone(tree: LibraryTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside.xmp"
    outside.write_bytes(b"<secret/>")
    for name in ("out.jpg", "in.jpg", "loop.jpg", "gone.jpg", "kept/real.xmp", "no/a.jpg", "no/a.xmp", "pipe.jpg"):
        tree.write(name)
    (tree.root / "out.xmp").symlink_to(outside)
    (tree.root / "in.xmp").symlink_to("kept/real.xmp")
    (tree.root / "loop.xmp").symlink_to("loop.xmp")
    (tree.root / "gone.xmp").symlink_to("nowhere.xmp")
    os.mkfifo(tree.root / "pipe.xmp")
    await tree.change(exclusion_patterns=("**/no/*.xmp",))
    await tree.scan()
    expected = {
        "out.jpg": None,
        "in.jpg": "in.xmp",
        "loop.jpg": None,
        "gone.jpg": None,
        "no/a.jpg": None,
        "pipe.jpg": None,
    }
    assert await sidecars(tree) == expected
    await finish_tasks(tree)

    await tree.change(exclusion_patterns=("**/in.xmp",))
    assert (await rescan(tree))[1] == {"in.jpg", "no/a.jpg"}
    assert await sidecars(tree) == expected | {"in.jpg": None, "no/a.jpg": "no/a.xmp"}
    assert outside.read_bytes() == b"<secret/>"


async def test_a_folder_that_is_listed_in_parts_has_its_sidecars(
    tree: LibraryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "PART_FILES", 3)
    expected: dict[str, str | None] = {}
    for number in range(10):
        for extension in ("jpg", "xmp"):
            tree.write(f"a/{number}.{extension}")
        expected[f"a/{number}.jpg"] = f"a/{number}.xmp"
    await tree.scan()
    assert await sidecars(tree) == expected
    await finish_tasks(tree)
    (tree.root / "a/3.xmp").unlink()
    tree.write("a/7.xmp", b"changed")
    assert (await rescan(tree))[1] == {"a/3.jpg", "a/7.jpg"}
    assert await sidecars(tree) == expected | {"a/3.jpg": None}


async def test_a_sidecar_that_is_still_being_written_waits_with_its_photo(tree: LibraryTree) -> None:
    for name in ("a/photo.jpg", "a/other.jpg", "a/other.xmp"):
        tree.write(name)
    written = (tree.root / "a/other.xmp").stat().st_ctime
    await tree.scan()
    await finish_tasks(tree)
    tree.write("a/photo.xmp", b"<half")
    later = (tree.root / "a/photo.xmp").stat().st_ctime - 1e-4
    if later <= written:
        pytest.skip("the clock of this file system is too coarse")

    report, read = await rescan(tree, settled_before=later)
    assert (report.complete, report.trashed, read) == (False, 0, set())
    assert (await sidecars(tree)) == {"a/photo.jpg": None, "a/other.jpg": "a/other.xmp"}

    assert (await rescan(tree))[1] == {"a/photo.jpg"}


async def test_a_sidecar_that_could_not_be_read_is_read_after_the_next_scan(tree: LibraryTree) -> None:
    for name in ("a/photo.jpg", "a/photo.xmp"):
        tree.write(name)
    await tree.scan()
    await finish_tasks(tree)
    photo: UUID = (await tree.assets())["a/photo.jpg"].id

    for gone in (False, True):
        await tree.catalog.library_sidecars.mark_unread(photo)
        if gone:
            (tree.root / "a/photo.xmp").unlink()
        assert (await rescan(tree))[1] == {"a/photo.jpg"}
        assert (await rescan(tree))[1] == set()
    assert (await sidecars(tree))["a/photo.jpg"] is None


async def test_a_watched_sidecar_that_comes_and_goes_is_noticed(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write("a/photo.jpg")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        await shows(tree, {"a/photo.jpg"})

        async def has(sidecar: str | None) -> bool:
            return await sidecars(tree) == {"a/photo.jpg": sidecar}

        path = tree.write("a/photo.xmp")
        await eventually(lambda: has("a/photo.xmp"), "the sidecar is found")
        path.rename(path.with_name("photo.jpg.xmp"))
        await eventually(lambda: has("a/photo.jpg.xmp"), "its new name is found")
        path.with_name("photo.jpg.xmp").unlink()
        await eventually(lambda: has(None), "it is gone")
