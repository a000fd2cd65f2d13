"""Adoption: foreign files become ours at verified copies, and their sources are left as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert

from app.catalog.database.engine import now
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, FileState
from app.config import StorageEngine
from app.migration.source_and_target import MoveRefused
from app.migration.step_progress import SilentProgress
from app.migration.steps.adopt_step import AdoptionReport, adopt_foreign_files, make_adoption_context
from app.migration.steps.run_step import run_move
from tests.api.consistency import assert_consistent
from tests.migration.commands import mediavault
from tests.migration.foreign_assets import get_file
from tests.migration.library import Library, open_library
from tests.real.foreign_files import ForeignTree
from tests.real.service import Service
from tests.real.stacks import Stacks


@pytest.fixture(params=["s3-postgresql", "local-sqlite"])
async def library(request: pytest.FixtureRequest, stacks: Stacks, tmp_path: Path) -> AsyncIterator[Library]:
    """`storage` has the engine to which files are adopted."""
    engine, _, database = request.param.partition("-")
    async with open_library(stacks, tmp_path, database, StorageEngine(engine)) as library:
        yield library


@pytest.fixture
async def tree(library: Library, tmp_path: Path) -> ForeignTree:
    tree = ForeignTree(tmp_path / "immich")
    for number in range(3):
        await tree.add(library.catalog, library.owner, sidecar=number == 0)
    for storage in (library.source, library.storage):
        storage.set_foreign_roots([str(tree.root)])
    return tree


async def adopt(library: Library) -> AdoptionReport:
    return await adopt_foreign_files(make_adoption_context(library.catalog, library.storage, SilentProgress()))


async def read(library: Library, path: str) -> bytes:
    async with library.storage.read(path) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


@pytest.mark.parametrize("copied", [False, True], ids=["not copied", "copied"])
async def test_files_become_ours_and_immich_keeps_its_own(library: Library, tree: ForeignTree, *, copied: bool) -> None:
    if copied and library.to is StorageEngine.S3:
        await run_move(library.work())
    before = await asyncio.to_thread(tree.state)

    report = await adopt(library)

    assert (report.files, report.left, report.problems.count, report.roots) == (10, 0, 0, [str(tree.root)])
    assert await asyncio.to_thread(tree.state) == before
    assert await library.catalog.foreign_files.list_roots() == []
    files = [file async for file in library.catalog.files.iterate_all()]
    assert {(file.is_foreign, file.copy_path, file.path.startswith(library.target_base)) for file in files} == {
        (False, None, True)
    }
    await asyncio.to_thread(tree.root.rename, tree.root.with_name("gone"))
    library.storage.set_foreign_roots([])
    for asset in tree.assets:
        assert await read(library, (await get_file(library, asset)).path) == asset.content
    previews = {file.size for file in files if file.kind is FileKind.PREVIEW}
    assert previews
    await library.sweep()
    assert_consistent(library.stack, exact=True)
    again = await adopt(library)
    assert (again.files, again.left, again.problems.count) == (0, 0, 0)
    await library.catalog.assets.delete(library.owner, [tree.assets[0].id])
    await library.sweep()
    assert_consistent(library.stack, exact=True)


async def test_a_file_without_a_whole_copy_stays_foreign(library: Library, tree: ForeignTree) -> None:
    damaged = tree.assets[1]
    await asyncio.to_thread(damaged.path.write_bytes, bytes(len(damaged.content)))
    report = await adopt(library)
    assert (report.files, report.left, report.roots) == (9, 1, [])
    assert [each.path for each in report.problems.listed] == [str(damaged.path)]
    assert (await get_file(library, damaged)).is_foreign
    await asyncio.to_thread(damaged.path.write_bytes, damaged.content)
    report = await adopt(library)
    assert (report.files, report.left, report.roots) == (1, 0, [str(tree.root)])
    await library.sweep()
    assert_consistent(library.stack, exact=True)


@pytest.mark.parametrize("place", ["own root", "main root"])
async def test_the_folder_of_a_library_is_still_needed(
    library: Library, tree: ForeignTree, tmp_path: Path, place: str
) -> None:
    """The originals of a library stay where they lie: an import makes a root of its folder, and inserts external files."""
    folder = tmp_path / "photos" if place == "own root" else tree.root / "photos"
    await asyncio.to_thread(folder.mkdir)
    await library.catalog.foreign_files.add_root(str(folder))
    moment = now()
    row = {
        "id": uuid4(), "owner_id": library.owner, "kind": FileKind.EXTERNAL, "path": f"{folder}/IMG.jpg", "state": FileState.LIVE,
        "size": 3, "mime_type": "image/jpeg", "created_at": moment, "not_before": moment,
    }  # fmt: skip
    await asyncio.to_thread((folder / "IMG.jpg").write_bytes, b"IMG")
    async with library.catalog.database.write() as connection:
        await connection.execute(insert(tables.file).values(row))

    report = await adopt(library)

    main = [str(tree.root)]
    assert (report.files, report.left) == (10, 0)
    assert report.roots == (main if place == "own root" else []), "its owner may remove only what holds no photo"
    kept = [str(folder), *(main if place == "main root" else [])]
    assert await library.catalog.foreign_files.list_roots() == sorted(kept)
    assert report.kept_roots == sorted(kept)


async def test_it_is_refused_while_a_move_or_a_mount_is_missing(library: Library, tree: ForeignTree) -> None:
    await asyncio.to_thread(tree.root.rename, tree.root.with_name("gone"))
    with pytest.raises(MoveRefused, match="not mounted"):
        await adopt(library)
    await asyncio.to_thread(tree.root.with_name("gone").rename, tree.root)
    await library.fill((10,))
    await run_move(library.work())
    with pytest.raises(MoveRefused, match="is under way"):
        await adopt(library)
    assert (await library.catalog.foreign_files.count())[0] == 10


async def test_the_command_asks_and_looks_for_immich(library: Library, tree: ForeignTree) -> None:
    service = Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": library.to.value})

    async def run(*arguments: str) -> tuple[int, str]:
        ended = await asyncio.to_thread(mediavault, service, "immich", "adopt", "--json", *arguments)
        return ended.returncode, ended.stdout + ended.stderr

    status, said = await run("--without-database", "--confirm", "adopt 9")
    assert (status, "not confirmed" in said) == (2, True)
    assert (await run())[0] == 2
    marker = tree.root / "library" / ".immich"
    await asyncio.to_thread(marker.rename, tree.root / "aside")
    status, said = await run("--without-database", "--confirm", "adopt 10")
    assert (status, f"no marker (.immich) of Immich's in {marker.parent}: " in said) == (2, True)
    await asyncio.to_thread((tree.root / "aside").rename, marker)
    assert (await library.catalog.foreign_files.count())[0] == 10
    status, said = await run("--without-database", "--confirm", "adopt 10")
    assert (status, json.loads(said)["files"]) == (0, 10)
