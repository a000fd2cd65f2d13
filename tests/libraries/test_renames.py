"""Rename detection, with chains and circles of renames between two scans: each asset stays with its file, and nothing is processed again."""

from __future__ import annotations

import os
import random
from pathlib import Path
from uuid import UUID

import pytest

from app.libraries.scanning import walk
from tests.libraries.library_tree import LibraryTree
from tests.libraries.test_scan import process_all, tasks_of

FOLDERS = ("a", "b", "c/deep", "d")


def rename_all(tree: LibraryTree, names: dict[str, str]) -> None:
    """Renames all files at once, old to new, also if a new name is the old one of another file."""
    aside = {new: tree.root / f"aside-{number}" for number, new in enumerate(names.values())}
    for old, new in names.items():
        (tree.root / old).rename(aside[new])
    for new, path in aside.items():
        (tree.root / new).parent.mkdir(parents=True, exist_ok=True)
        path.rename(tree.root / new)


async def read_asset_ids(tree: LibraryTree, *, trashed: bool = False) -> dict[str, UUID]:
    return {name: asset.id for name, asset in (await tree.assets(trashed=trashed)).items()}


async def fill_and_process(tree: LibraryTree, *names: str) -> dict[str, UUID]:
    """Writes photos of different sizes, scans and processes them. Returns the ids of their assets."""
    for number, name in enumerate(names):
        tree.write(name, b"." * (number + 1))
    await tree.scan()
    await process_all(tree.catalog)
    return await read_asset_ids(tree)


async def assert_nothing_left_to_do(tree: LibraryTree) -> None:
    before = await tree.assets(), await tree.assets(trashed=True)
    report = await tree.scan()
    assert (report.new, report.changed, report.renamed, report.back, report.trashed) == (0, 0, 0, 0, 0)
    assert (await tree.assets(), await tree.assets(trashed=True)) == before


@pytest.fixture(params=[2000, 1], ids=["one batch", "a batch for each folder"])
def batch_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", request.param)


CYCLES = {
    "swap": {"a/1.jpg": "a/2.jpg", "a/2.jpg": "a/1.jpg"},
    "swap across folders": {"a/1.jpg": "b/1.jpg", "b/1.jpg": "a/1.jpg"},
    "chain": {"a/1.jpg": "a/2.jpg", "a/2.jpg": "a/3.jpg", "a/3.jpg": "a/4.jpg"},
    "chain across folders": {"a/1.jpg": "b/1.jpg", "b/1.jpg": "c/1.jpg", "c/1.jpg": "d/1.jpg"},
    "chain across folders, the other way": {"c/1.jpg": "b/1.jpg", "b/1.jpg": "a/1.jpg", "a/1.jpg": "0/1.jpg"},
    "renumbered": {f"a/{number}.jpg": f"a/{number + 1}.jpg" for number in range(1, 4)},
    "circle of folders": {"a/1.jpg": "b/1.jpg", "b/1.jpg": "c/1.jpg", "c/1.jpg": "a/1.jpg"},
    "another kind": {"a/1.jpg": "a/film.mp4", "a/film.mp4": "a/1.jpg"},
}


@pytest.mark.usefixtures("batch_size")
@pytest.mark.parametrize("names", CYCLES.values(), ids=CYCLES)
async def test_files_that_take_one_anothers_names_keep_their_assets(tree: LibraryTree, names: dict[str, str]) -> None:
    before = await fill_and_process(tree, "a/1.jpg", "a/2.jpg", "a/3.jpg", "a/film.mp4", "b/1.jpg", "c/1.jpg")
    known, tasks = await tree.assets(), await tasks_of(tree.catalog)
    rename_all(tree, names)
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.trashed) == (len(names), 0, 0, 0)
    assert await read_asset_ids(tree) == {names.get(name, name): asset_id for name, asset_id in before.items()}
    assert await tasks_of(tree.catalog) == tasks
    for name, asset in (await tree.assets()).items():
        path = tree.root / name
        former = next(each for each in known.values() if each.id == asset.id)
        assert (asset.file.size, asset.original_file_name) == (path.stat().st_size, path.name)
        assert (asset.file.id, asset.file.sha1, asset.checksum) == (former.file.id, former.file.sha1, former.checksum)
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_folders_that_take_each_others_names_keep_their_assets(tree: LibraryTree) -> None:
    before = await fill_and_process(
        tree, *(f"{folder}/{number}.jpg" for folder in ("x/deep", "y/deep") for number in range(6))
    )
    tasks = await tasks_of(tree.catalog)
    (tree.root / "x").rename(tree.root / "z")
    (tree.root / "y").rename(tree.root / "x")
    (tree.root / "z").rename(tree.root / "y")
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.trashed) == (12, 0, 0, 0)
    other = {"x": "y", "y": "x"}
    assert await read_asset_ids(tree) == {other[name[0]] + name[1:]: asset_id for name, asset_id in before.items()}
    assert await tasks_of(tree.catalog) == tasks
    await assert_nothing_left_to_do(tree)


async def test_names_that_go_round_in_a_folder_that_comes_in_parts(
    tree: LibraryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "PART_FILES", 3)
    monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", 3)
    names = [f"a/{number}.jpg" for number in range(12)]
    before = await fill_and_process(tree, *names)
    rename_all(tree, dict(zip(names, [*names[1:], names[0]], strict=True)))
    (tree.root / names[5]).unlink()
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.trashed) == (11, 0, 0, 1)
    after = {new: before[old] for old, new in zip(names, [*names[1:], names[0]], strict=True)}
    gone = after.pop(names[5])
    assert await read_asset_ids(tree) == after
    assert set((await read_asset_ids(tree, trashed=True)).values()) == {gone}
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")], ids=["to a later folder", "to an earlier folder"])
async def test_a_file_that_took_the_name_of_a_deleted_one_keeps_its_asset(
    tree: LibraryTree, order: tuple[str, str]
) -> None:
    old, new = (f"{folder}/photo.jpg" for folder in order)
    before = await fill_and_process(tree, old, new)
    (tree.root / old).rename(tree.root / new)
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.trashed) == (1, 0, 0, 1)
    assert await read_asset_ids(tree) == {new: before[old]}
    ((path, asset),) = (await tree.assets(trashed=True)).items()
    assert (asset.id, asset.is_offline, asset.original_file_name) == (before[new], True, "photo.jpg")
    assert not (tree.root / path).exists()
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")], ids=["to a later folder", "to an earlier folder"])
async def test_a_new_file_under_the_name_of_one_that_went_elsewhere_is_a_new_asset(
    tree: LibraryTree, order: tuple[str, str]
) -> None:
    old, new = (f"{folder}/photo.jpg" for folder in order)
    (tree.root / order[1]).mkdir()
    before = await fill_and_process(tree, old)
    (tree.root / old).rename(tree.root / new)
    tree.write(old, b"quite another photo")
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.trashed) == (1, 1, 0, 0)
    after = await read_asset_ids(tree)
    assert (after[new], len(after)) == (before[old], 2)
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_a_file_that_a_program_saved_as_a_new_one_is_a_changed_one(tree: LibraryTree) -> None:
    before = await fill_and_process(tree, "a/photo.jpg", "b/photo.jpg")
    tasks = await tasks_of(tree.catalog)
    saved = tree.write("a/photo.jpg.tmp", b"an edited photo")
    saved.rename(tree.root / "a/photo.jpg")
    report = await tree.scan()
    assert (report.changed, report.new, report.renamed, report.trashed, report.found) == (1, 0, 0, 0, 2)
    assert await read_asset_ids(tree) == before
    changed = (await tree.assets())["a/photo.jpg"]
    assert (changed.file.size, changed.file.sha1, changed.checksum) == (15, None, None)
    renewed = {
        name
        for name, asset_id in before.items()
        if (await tasks_of(tree.catalog))[str(asset_id)] != tasks[str(asset_id)]
    }
    assert renewed == {"a/photo.jpg"}
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_a_restored_backup_is_the_same_files(tree: LibraryTree) -> None:
    """The inodes differ; names, sizes and times are as before."""
    names = [f"{folder}/{number}.jpg" for folder in FOLDERS for number in range(3)]
    before, tasks = await fill_and_process(tree, *names), await tasks_of(tree.catalog)
    for name in names:
        path = tree.root / name
        status = path.stat()
        copy = path.with_suffix(".tmp")
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = await tree.scan()
    assert (report.new, report.changed, report.renamed, report.trashed) == (0, 0, 0, 0)
    assert (await read_asset_ids(tree), await tasks_of(tree.catalog)) == (before, tasks)
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_a_chain_through_the_name_of_a_file_that_was_gone(tree: LibraryTree, tmp_path: Path) -> None:
    before = await fill_and_process(tree, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    (tree.root / "b/1.jpg").rename(tmp_path / "away.jpg")
    assert (await tree.scan()).trashed == 1
    rename_all(tree, {"a/1.jpg": "b/1.jpg", "c/1.jpg": "a/1.jpg"})
    report = await tree.scan()
    assert (report.renamed, report.new, report.changed, report.back, report.trashed) == (2, 0, 0, 0, 0)
    assert await read_asset_ids(tree) == {"b/1.jpg": before["a/1.jpg"], "a/1.jpg": before["c/1.jpg"]}
    assert set((await read_asset_ids(tree, trashed=True)).values()) == {before["b/1.jpg"]}
    (tmp_path / "away.jpg").rename(tree.root / "a/back.jpg")
    report = await tree.scan()
    assert (report.renamed, report.back, report.new) == (1, 1, 0)
    assert (await read_asset_ids(tree))["a/back.jpg"] == before["b/1.jpg"]
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_a_chain_through_a_file_that_its_owner_put_into_the_trash(tree: LibraryTree) -> None:
    before = await fill_and_process(tree, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    await tree.catalog.assets.trash((await tree.library()).owner_id, [before["b/1.jpg"]])
    rename_all(tree, {"a/1.jpg": "b/1.jpg", "b/1.jpg": "c/1.jpg", "c/1.jpg": "a/1.jpg"})
    assert (await tree.scan()).renamed == 3
    assert await read_asset_ids(tree) == {"b/1.jpg": before["a/1.jpg"], "a/1.jpg": before["c/1.jpg"]}
    assert await read_asset_ids(tree, trashed=True) == {"c/1.jpg": before["b/1.jpg"]}
    await assert_nothing_left_to_do(tree)


@pytest.mark.usefixtures("batch_size")
async def test_a_name_that_became_a_second_link_of_another_file_is_a_changed_file(tree: LibraryTree) -> None:
    before = await fill_and_process(tree, "a/1.jpg", "b/1.jpg")
    (tree.root / "b/1.jpg").unlink()
    (tree.root / "b/1.jpg").hardlink_to(tree.root / "a/1.jpg")
    report = await tree.scan()
    assert (report.changed, report.renamed, report.new, report.trashed) == (1, 0, 0, 0)
    assert await read_asset_ids(tree) == before
    await assert_nothing_left_to_do(tree)


async def test_hard_links_that_are_all_renamed_are_all_kept(tree: LibraryTree) -> None:
    tree.write("a/1.jpg")
    (tree.root / "a/2.jpg").hardlink_to(tree.root / "a/1.jpg")
    await tree.scan()
    before = await read_asset_ids(tree)
    (tree.root / "a").rename(tree.root / "b")
    report = await tree.scan()
    assert (report.renamed, report.new, report.trashed) == (2, 0, 0)
    assert await read_asset_ids(tree) == {f"b{name[1:]}": asset_id for name, asset_id in before.items()}


async def test_a_scan_that_was_cut_off_in_a_swap_of_folders_is_finished_by_the_next_one(
    tree: LibraryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", 1)
    before = await fill_and_process(tree, *(f"{folder}/{number}.jpg" for folder in ("x", "y") for number in range(3)))
    (tree.root / "x").rename(tree.root / "z")
    (tree.root / "y").rename(tree.root / "x")
    (tree.root / "z").rename(tree.root / "y")

    def cut(_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await tree.scan(progress=cut)
    report = await tree.scan()
    assert (report.new, report.changed, report.trashed) == (0, 0, 0)
    other = {"x": "y", "y": "x"}
    assert await read_asset_ids(tree) == {other[name[0]] + name[1:]: asset_id for name, asset_id in before.items()}
    await assert_nothing_left_to_do(tree)


async def test_whatever_happens_to_names_assets_stay_with_their_files(
    tree: LibraryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(2**32)
    print(f"seed: {seed}")
    chance = random.Random(seed)
    contents = iter(range(1, 10_000))
    names = [f"{folder}/{number}.jpg" for folder in FOLDERS for number in range(10)]
    for name in chance.sample(names, 15):
        tree.write(name, b"." * next(contents))
    await tree.scan()
    for _ in range(6):
        monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", chance.choice([1, 5, 2000]))
        monkeypatch.setattr(walk, "PART_FILES", chance.choice([3, 20_000]))
        before, tasks = await read_asset_ids(tree), await tasks_of(tree.catalog)
        stay = set(chance.sample(sorted(before), len(before) // 3))
        movers = sorted(set(before) - stay)
        changes = dict(zip(movers, chance.sample(sorted(set(names) - stay), len(movers)), strict=True))
        free = set(names) - stay - set(changes.values())
        rename_all(tree, changes)
        for name in chance.sample(sorted(free), min(2, len(free))):
            tree.write(name, b"." * next(contents))
        edited = sorted(stay)[0]
        (tree.root / "saved").write_bytes(b"." * next(contents))
        (tree.root / "saved").rename(tree.root / edited)
        report = await tree.scan()
        after = await read_asset_ids(tree)
        for old, asset_id in before.items():
            assert after[changes.get(old, old)] == asset_id, (old, changes)
        assert (report.renamed, report.changed) == (sum(old != new for old, new in changes.items()), 1)
        assert set(after) == {str(path.relative_to(tree.root)) for path in tree.root.rglob("*.jpg")}
        now = await tasks_of(tree.catalog)
        unchanged = [str(asset_id) for name, asset_id in before.items() if name != edited]
        assert {each: now[each] for each in unchanged} == {each: tasks[each] for each in unchanged}
        await assert_nothing_left_to_do(tree)
