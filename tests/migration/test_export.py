"""`mediavault export`: originals come back with names and dates, from either place, checked, and nothing is overwritten."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.catalog.schema import tables
from app.catalog.schema.records import FileKind
from app.migration.exports import export_folder, exporter
from app.migration.step_progress import SilentProgress
from app.migration.steps.run_step import run_move
from app.storage.key import Key
from tests.migration.commands import mediavault
from tests.migration.library import Library, open_library
from tests.real.foreign_files import TAKEN, ForeignAsset, ForeignTree
from tests.real.service import Service
from tests.real.stacks import Stacks

MONTH = f"{TAKEN:%Y-%m}"


@pytest.fixture
async def library(stacks: Stacks, tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(stacks, tmp_path) as library:
        yield library


@pytest.fixture
async def tree(library: Library, tmp_path: Path) -> ForeignTree:
    """Three assets of one name, the first with a sidecar."""
    tree = ForeignTree(tmp_path / "immich")
    for number in range(3):
        await tree.add(library.catalog, library.owner, name=f"{number}/IMG.jpg", sidecar=not number, derivatives=False)
    for storage in (library.source, library.storage):
        storage.set_foreign_roots([str(tree.root)])
    return tree


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "back").mkdir()
    return tmp_path / "back"


async def export(
    library: Library, target: Path, *arguments: str, status: int = 0, preferred: str = "local"
) -> dict[str, Any]:
    settings = {"IMMICH_STORAGE_ENGINE": "s3", "MEDIAVAULT_FOREIGN_READS": preferred}
    service = Service(library.stack, settings=settings)
    ended = await asyncio.to_thread(mediavault, service, "export", "--to", str(target), "--json", *arguments)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return json.loads(ended.stdout) if ended.stdout else {"error": ended.stderr}


async def damage_copy(library: Library, asset: ForeignAsset) -> None:
    file = await library.catalog.files.get(asset.file_id)
    bucket = library.stack.bucket
    assert file is not None
    assert file.copy_path is not None
    assert bucket is not None
    key = file.copy_path.removeprefix(f"s3://{bucket.name}/")
    put_object = bucket.server.administration.put_object
    await asyncio.to_thread(put_object, Bucket=bucket.name, Key=key, Body=bytes(len(asset.content)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("preferred", ["local", "s3"], ids=["disk first", "copy first"])
@pytest.mark.parametrize("place", ["disk", "copy", "damaged disk", "damaged copy"])
async def test_originals_come_back_from_either_place(
    library: Library, tree: ForeignTree, target: Path, place: str, preferred: str
) -> None:
    before, first = await asyncio.to_thread(tree.state), tree.assets[0]
    sidecar = await asyncio.to_thread(first.paths[FileKind.SIDECAR].read_bytes)
    if place != "disk":
        assert (await run_move(library.work())).problems.count == 0
    if place == "copy":
        await asyncio.to_thread(tree.root.rename, tree.root.with_name("away"))
    elif place == "damaged disk":
        await asyncio.to_thread(tree.assets[0].path.write_bytes, bytes(len(tree.assets[0].content)))
    elif place == "damaged copy":
        await damage_copy(library, tree.assets[0])

    report = await export(library, target, "--user", str(library.owner), preferred=preferred)

    assert (report["files"], report["present"], report["problemCount"]) == (4, 0, 0)
    found = await asyncio.to_thread(contents, target)
    assert f"{MONTH}/IMG.jpg" in found
    beside = {path for path, data in found.items() if data == first.content}
    assert {path for path, data in found.items() if data == sidecar} == {f"{path}.xmp" for path in beside}
    images = {data for path, data in found.items() if path.endswith(".jpg")}
    assert images == {asset.content for asset in tree.assets}
    assert {(target / path).stat().st_mtime for path in found} == {TAKEN.timestamp()}
    again = await export(library, target, "--user", str(library.owner), preferred=preferred)
    assert (again["files"], again["present"]) == (0, 4)
    if place == "disk":
        assert await asyncio.to_thread(tree.state) == before


async def test_nothing_is_overwritten_and_a_stopped_export_goes_on(
    library: Library, tree: ForeignTree, target: Path
) -> None:
    first = tree.assets[0]
    folder = target / MONTH
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread((folder / "IMG.jpg").write_bytes, b"mine")
    await asyncio.to_thread((folder / f".{first.file_id}.mediavault-part").write_bytes, b"half of a former export")

    report = await export(library, target, "--asset", str(first.id))

    assert report["files"] == 2
    mark = str(first.id)[:8]
    assert await asyncio.to_thread(contents, folder) == {
        "IMG.jpg": b"mine",
        f"IMG~{mark}.jpg": first.content,
        f"IMG~{mark}.jpg.xmp": await asyncio.to_thread(first.paths[FileKind.SIDECAR].read_bytes),
    }


@pytest.mark.parametrize("taken", ["original", "sidecar", "both", "none"])
async def test_each_sidecar_lies_beside_its_own_original(
    library: Library, tree: ForeignTree, target: Path, taken: str
) -> None:
    """Another file may have the name of the original, or of the sidecar; a second export finds both."""
    first, other = tree.assets[0], b"of another photo"
    sidecar = await asyncio.to_thread(first.paths[FileKind.SIDECAR].read_bytes)
    folder = target / MONTH
    await asyncio.to_thread(folder.mkdir)
    before: dict[str, bytes] = {}
    if taken in ("original", "both"):
        before["IMG.jpg"] = other
    if taken in ("sidecar", "both"):
        before["IMG.jpg.xmp"] = other
    for name, content in before.items():
        await asyncio.to_thread((folder / name).write_bytes, content)

    for files, present in ((2, 0), (0, 2)):
        report = await export(library, target, "--asset", str(first.id))
        assert (report["files"], report["present"]) == (files, present)

    name = "IMG.jpg" if taken == "none" else f"IMG~{str(first.id)[:8]}.jpg"
    assert await asyncio.to_thread(contents, folder) == before | {name: first.content, f"{name}.xmp": sidecar}


async def test_the_sidecar_of_a_damaged_original_gets_beside_no_other_photo(
    library: Library, tree: ForeignTree, target: Path
) -> None:
    first = tree.assets[0]
    sidecar = await asyncio.to_thread(first.paths[FileKind.SIDECAR].read_bytes)
    await asyncio.to_thread(first.path.write_bytes, bytes(len(first.content)))
    report = await export(library, target, "--user", str(library.owner), status=1)
    assert (report["files"], report["problemCount"]) == (3, 1)
    found = await asyncio.to_thread(contents, target / MONTH)
    (name,) = (name for name, content in found.items() if content == sidecar)
    assert name == f"IMG~{str(first.id)[:8]}.jpg.xmp"


async def test_a_long_name_leaves_room_for_that_of_the_sidecar(
    library: Library, tree: ForeignTree, target: Path
) -> None:
    asset = tree.assets[0]
    longest = update(tables.asset).where(tables.asset.c.id == asset.id).values(original_file_name=f"{'x' * 251}.jpg")
    async with library.catalog.database.write() as connection:
        await connection.execute(longest)
    report = await export(library, target, "--asset", str(asset.id))
    assert report["files"] == 2
    original, sidecar = sorted(await asyncio.to_thread(contents, target / MONTH), key=len)
    assert (original, sidecar) == (f"{'x' * 247}.jpg", f"{'x' * 247}.jpg.xmp")


async def test_a_link_in_the_folder_leads_nowhere(
    library: Library, tree: ForeignTree, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (target / MONTH).symlink_to(tmp_path / "elsewhere")
    report = await export(library, target, "--asset", str(tree.assets[1].id), status=1)
    assert report["problemCount"] == 1
    assert await asyncio.to_thread(os.listdir, tmp_path / "elsewhere") == []


async def test_a_damaged_original_is_named_and_not_written(library: Library, tree: ForeignTree, target: Path) -> None:
    damaged = tree.assets[1]
    await asyncio.to_thread(damaged.path.write_bytes, bytes(len(damaged.content)))
    report = await export(library, target, "--user", str(library.owner), status=1)
    assert [each["path"] for each in report["problems"]] == [str(damaged.path)]
    found = await asyncio.to_thread(contents, target)
    assert len(found) == 3
    assert not any(path.endswith("-part") for path in found)


async def test_files_of_ours_come_back_and_the_trash_on_request(library: Library, target: Path) -> None:
    data = b"a photo of ours" * 1000
    kept = await library.add(library.storage, Key("upload/1/kept.jpg"), data)
    trashed = await library.add(library.storage, Key("upload/1/trashed.jpg"), data[1:])
    await library.catalog.assets.trash(library.owner, [trashed.asset_id])
    assert (await export(library, target, "--asset", str(kept.asset_id)))["files"] == 1
    assert list((await asyncio.to_thread(contents, target)).values()) == [data]
    assert (await export(library, target, "--user", str(library.owner)))["files"] == 0
    assert (await export(library, target, "--user", str(library.owner), "--trash"))["files"] == 1


async def test_what_would_write_into_photos_is_refused(library: Library, tree: ForeignTree, target: Path) -> None:
    """Into the media location, the other program's folder or a library, whatever leads there; or into a folder that holds one."""
    photos = target / "photos"
    for folder in (photos / "2020", library.stack.media / "upload"):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await library.catalog.libraries.create(library.owner, "Holidays", (str(photos),), ())
    (target / "link").symlink_to(tree.root / "library")
    (target / "other").symlink_to(photos)
    asset = ("--asset", str(tree.assets[0].id))
    refused = {
        tree.root: "is a folder of another program's files",
        target / "link": "lies in a folder of another program's files",
        library.stack.media: "is the media location",
        library.stack.media / "upload": "lies in the media location",
        photos: "is an import path of the library 'Holidays'",
        target / "other" / "2020": "lies in an import path of the library 'Holidays'",
        target: "holds an import path of the library 'Holidays'",
    }
    for folder, reason in refused.items():
        assert reason in (await export(library, folder, *asset, status=2))["error"]
    assert "is no folder" in (await export(library, target / "missing", *asset, status=2))["error"]
    assert "give either" in (await export(library, target, status=2))["error"]


async def test_a_file_without_a_checksum_is_compared_by_its_bytes(
    library: Library, tree: ForeignTree, target: Path
) -> None:
    """As those of a library that was not read yet: the sidecar of the first asset has none."""
    asset = tree.assets[0]
    sidecar = await asyncio.to_thread(asset.paths[FileKind.SIDECAR].read_bytes)
    await asyncio.to_thread((target / MONTH).mkdir)
    await asyncio.to_thread((target / MONTH / "IMG.jpg.xmp").write_bytes, bytes(len(sidecar)))
    for files, present in ((2, 0), (0, 2)):
        report = await export(library, target, "--asset", str(asset.id))
        assert (report["files"], report["present"]) == (files, present)
    found = await asyncio.to_thread(contents, target / MONTH)
    name = f"IMG~{str(asset.id)[:8]}.jpg"
    assert found == {"IMG.jpg.xmp": bytes(len(sidecar)), name: asset.content, f"{name}.xmp": sidecar}


async def test_a_file_that_cannot_be_hashed_is_not_taken_for_exported_by_its_size(
    library: Library, tree: ForeignTree, target: Path
) -> None:
    asset = tree.assets[0]
    sidecar = asset.paths[FileKind.SIDECAR]
    length = len(await asyncio.to_thread(sidecar.read_bytes))
    await asyncio.to_thread((target / MONTH).mkdir)
    await asyncio.to_thread((target / MONTH / "IMG.jpg.xmp").write_bytes, bytes(length))
    await asyncio.to_thread(sidecar.unlink)
    report = await export(library, target, "--asset", str(asset.id), status=1)
    assert (report["files"], report["present"]) == (1, 0)
    assert [each["path"] for each in report["problems"]] == [str(sidecar)]


async def test_a_new_folder_is_durable_in_its_parent_before_files_are(
    library: Library, tree: ForeignTree, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(export_folder.os, "fsync", record)
    await export(library, target, "--asset", str(tree.assets[1].id))
    ours = [path for path in synced if path.startswith(str(target))]
    part = f"{target}/{MONTH}/.{tree.assets[1].file_id}.mediavault-part"
    assert ours == [str(target), part, f"{target}/{MONTH}"]


async def test_a_cancelled_export_closes_no_file_that_a_thread_still_writes(
    library: Library, tree: ForeignTree, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file might get the number of the descriptor."""
    loop = asyncio.get_running_loop()
    is_writing, is_cancelled, is_done = asyncio.Event(), threading.Event(), asyncio.Event()
    open_files: list[str] = []

    def write_late(descriptor: int, data: bytes) -> None:
        loop.call_soon_threadsafe(is_writing.set)
        assert is_cancelled.wait(60)
        for _ in range(100):  # what the cancelled task does meanwhile
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
        open_files.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        loop.call_soon_threadsafe(is_done.set)

    monkeypatch.setattr(exporter, "write_all", write_late)
    asset = tree.assets[1]
    export = exporter.Exporter(library.storage, target, SilentProgress())
    task = asyncio.create_task(export.run(library.catalog.exports.iterate_by_id([asset.id]), 1, 0))
    async with asyncio.timeout(120):
        await is_writing.wait()
        task.cancel()
        is_cancelled.set()
        await asyncio.wait([task])
        await is_done.wait()
    assert task.cancelled()
    assert open_files == [f"{target}/{MONTH}/.{asset.file_id}.mediavault-part"]
