"""`verify` of the copies of foreign files: they are checked without their sources, and forgotten only where the sources are whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest

from app.catalog.database.engine import now
from app.jobs.service import JobService
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.migration.consistency.finding_repair import ConsistencyRepair
from app.migration.consistency.findings import ConsistencyFinding, ConsistencySummary
from app.migration.steps.run_step import run_move
from tests.api.consistency import assert_consistent
from tests.migration.foreign_assets import change_object, get_file, record_anew
from tests.migration.library import Library, open_library
from tests.migration.verify.damaged_library import IgnoredProgress
from tests.real.foreign_files import ForeignAsset, ForeignTree
from tests.real.stacks import Stacks

Findings = set[tuple[str, str, str | None]]


@pytest.fixture
async def library(stacks: Stacks, tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(stacks, tmp_path) as library:
        yield library


@pytest.fixture
async def tree(library: Library, tmp_path: Path) -> ForeignTree:
    """Three originals with copies."""
    tree = ForeignTree(tmp_path / "immich")
    for _ in range(3):
        await tree.add(library.catalog, library.owner, derivatives=False)
    library.storage.set_foreign_roots([str(tree.root)])
    assert (await run_move(library.work())).problems.count == 0
    return tree


async def verify(
    library: Library, *, checksums: bool = False, repairs: bool = False
) -> tuple[Findings, ConsistencySummary]:
    found: list[ConsistencyFinding] = []
    jobs = cast("JobService", object())  # no derivative is generated again here
    repair = ConsistencyRepair(
        library.catalog, library.storage, now(), jobs=jobs if repairs else None, quarantine_orphans=False
    )
    check = ConsistencyCheck(
        library.catalog,
        library.storage,
        on_finding=found.append,
        progress=IgnoredProgress(),
        repairer=repair,
        checksums=checksums,
    )
    summary = await check.run()
    return {(each.problem, each.path, each.repair) for each in found}, summary


async def get_copy_path(library: Library, asset: ForeignAsset) -> str:
    path = (await get_file(library, asset)).copy_path
    assert path is not None
    return path


@pytest.mark.parametrize("checksums", [False, True], ids=["sizes", "checksums"])
async def test_copies_are_checked_while_the_folder_of_their_sources_is_not_mounted(
    library: Library, tree: ForeignTree, checksums: bool
) -> None:
    lost, cut, damaged = [await get_copy_path(library, asset) for asset in tree.assets]
    await asyncio.to_thread(change_object, library, lost, None)
    await asyncio.to_thread(change_object, library, cut, tree.assets[1].content[:-1])
    await asyncio.to_thread(change_object, library, damaged, bytes(len(tree.assets[2].content)))
    away = await asyncio.to_thread(tree.root.rename, tree.root.with_name("away"))

    found, summary = await verify(library, checksums=checksums, repairs=True)

    expected: Findings = {("unreadable", str(tree.root), None), ("missing", lost, None), ("size", cut, None)}
    assert found == (expected | {("checksum", damaged, None)} if checksums else expected)
    assert (summary.foreign, summary.copies, summary.unsettled) == (3, 3, 0)
    await asyncio.to_thread(away.rename, tree.root)


@pytest.mark.parametrize("checksums", [False, True], ids=["sizes", "checksums"])
async def test_former_copies_are_checked_and_never_given_up(
    library: Library, tree: ForeignTree, checksums: bool
) -> None:
    """What a file has held before is nowhere else."""
    lost, cut, damaged = [await get_copy_path(library, asset) for asset in tree.assets]
    former = [asset.content for asset in tree.assets]
    for number, asset in enumerate(tree.assets):
        await record_anew(library, asset, b"another photo %d" % number)
    assert (await run_move(library.work())).problems.count == 0
    found, summary = await verify(library, checksums=True)
    assert (found, summary.copies, summary.unsettled) == (set(), 6, 0)
    await asyncio.to_thread(change_object, library, lost, None)
    await asyncio.to_thread(change_object, library, cut, former[1][:-1])
    await asyncio.to_thread(change_object, library, damaged, bytes(len(former[2])))

    found, summary = await verify(library, checksums=checksums, repairs=True)

    expected: Findings = {("missing", lost, None), ("size", cut, None)}
    assert found == (expected | {("checksum", damaged, None)} if checksums else expected)
    assert (summary.copies, summary.unsettled) == (6, 0)
    await library.sweep()
    assert {cut, damaged} <= library.at_target().keys()


async def test_a_former_copy_that_goes_meanwhile_is_no_finding(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = tree.assets[0]
    former = await get_copy_path(library, asset)
    await record_anew(library, asset, b"another photo")
    await asyncio.to_thread(change_object, library, former, None)
    find = library.catalog.kept_copies.find_former

    async def find_before_the_asset_is_removed(ids: Iterable[UUID]) -> frozenset[UUID]:
        found = await find(ids)
        if await library.catalog.files.get(asset.file_id) is not None:
            await library.catalog.assets.delete(library.owner, [asset.id])
        return found

    monkeypatch.setattr(library.catalog.kept_copies, "find_former", find_before_the_asset_is_removed)
    assert (await verify(library))[0] == set()


@pytest.mark.parametrize("damage", ["missing", "size", "checksum"])
async def test_a_lost_or_damaged_copy_is_made_anew_from_a_whole_source(
    library: Library, tree: ForeignTree, damage: str
) -> None:
    asset = tree.assets[0]
    path = await get_copy_path(library, asset)
    content = {"missing": None, "size": asset.content[:-1], "checksum": bytes(len(asset.content))}[damage]
    await asyncio.to_thread(change_object, library, path, content)
    assert (await verify(library, checksums=True))[0] == {(damage, path, None)}, "nobody asked for a repair"
    assert (await get_file(library, asset)).copy_path == path

    assert (await verify(library, checksums=True, repairs=True))[0] == {(damage, path, "forgotten")}

    await library.sweep()
    assert len(library.at_target()) == 2
    report = await run_move(library.work())
    assert (report.files, report.problems.count) == (1, 0)
    async with library.storage.read(await get_copy_path(library, asset)) as stream:
        assert b"".join([chunk async for chunk in stream.chunks]) == asset.content
    assert (await verify(library, checksums=True))[0] == set()
    assert_consistent(library.stack)


@pytest.mark.parametrize("copy", ["missing", "checksum"])
@pytest.mark.parametrize("source", ["missing", "longer", "other bytes"])
async def test_a_copy_of_a_source_that_is_not_whole_is_kept(
    library: Library, tree: ForeignTree, source: str, copy: str
) -> None:
    """Parts of it may be all that is left; and a store may answer wrongly that it has no such object."""
    asset = tree.assets[0]
    path = await get_copy_path(library, asset)
    await asyncio.to_thread(change_object, library, path, None if copy == "missing" else bytes(len(asset.content)))
    if source == "missing":
        await asyncio.to_thread(asset.path.unlink)
    else:
        other = asset.content + b"1" if source == "longer" else bytes(len(asset.content))
        await asyncio.to_thread(asset.path.write_bytes, other)

    found, _ = await verify(library, checksums=True, repairs=True)

    assert (copy, path, None) in found
    assert (await get_file(library, asset)).copy_path == path
    await library.sweep()
    assert (path in library.at_target()) is (copy == "checksum")
    await asyncio.to_thread(asset.path.write_bytes, asset.content)
