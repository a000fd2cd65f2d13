"""The consistency check of foreign files: missing, changed and damaged ones, and folders that are not mounted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.catalog.database.engine import now
from app.migration.consistency.finding_repair import ConsistencyRepair
from app.migration.consistency.findings import FindingKind
from tests.migration.verify.damaged_library import DamagedLibrary
from tests.real.foreign_files import ForeignAsset, ForeignTree


@pytest.fixture
async def tree(library: DamagedLibrary, tmp_path: Path) -> ForeignTree:
    tree = ForeignTree(tmp_path / "immich")
    for _ in range(4):
        await tree.add(library.catalog, library.owner, sidecar=True)
    library.storage.set_foreign_roots([str(tree.root)])
    return tree


def _damage(asset: ForeignAsset, kind: FindingKind) -> None:
    path = asset.path
    if kind is FindingKind.MISSING:
        path.unlink()
    elif kind is FindingKind.SIZE:
        path.write_bytes(b"longer" * 1000)
    else:
        path.write_bytes(bytes(len(asset.content)))


@pytest.mark.parametrize("kind", [FindingKind.MISSING, FindingKind.SIZE, FindingKind.CHECKSUM])
async def test_what_is_wrong_with_a_foreign_file_is_told_and_left_alone(
    library: DamagedLibrary, tree: ForeignTree, kind: FindingKind
) -> None:
    await library.fill(2)
    assert await library.problems(checksums=True) == {}
    await asyncio.to_thread(_damage, tree.assets[1], kind)
    before = await asyncio.to_thread(tree.state)

    repair = ConsistencyRepair(library.catalog, library.storage, now(), jobs=None, quarantine_orphans=True)
    summary, findings = await library.verify(checksums=kind is FindingKind.CHECKSUM, repairs=repair)

    assert [(each.problem, each.path, each.repair) for each in findings] == [(kind, str(tree.assets[1].path), None)]
    assert (summary.foreign, summary.files, summary.external) == (16, 2, 0)
    assert await asyncio.to_thread(tree.state) == before


async def test_a_folder_that_is_not_mounted_is_one_finding(library: DamagedLibrary, tree: ForeignTree) -> None:
    await library.fill(2)
    await asyncio.to_thread(tree.root.rename, tree.root.with_name("away"))
    summary, findings = await library.verify(checksums=True)
    assert [(each.problem, each.path) for each in findings] == [(FindingKind.UNREADABLE, str(tree.root))]
    assert "not mounted" in findings[0].detail
    assert (summary.foreign, summary.files) == (16, 2)
