"""`mediavault migrate` on the command line: output and exit status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.config import StorageEngine
from app.migration.file_copier import FileCopier
from app.migration.problems import FileProblem
from app.migration.steps.plan_step import plan_move
from app.migration.steps.run_step import run_move
from app.storage.key import Key
from app.storage.opening import open_storage
from tests.migration.commands import mediavault
from tests.migration.library import Library, settings_of
from tests.real.service import Service
from tests.real.stacks import Stacks


@pytest.fixture
async def library(stacks: Stacks, tmp_path: Path) -> Library:
    library = await Library.create(stacks.create("s3", tmp_path, database="sqlite"), StorageEngine.S3)
    await library.fill([0, 1000, 70_000])
    await library.aclose()
    return library


def service_of(library: Library, engine: str = "s3") -> Service:
    return Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": engine})


def test_what_a_person_reads(library: Library) -> None:
    service = service_of(library)

    planned = mediavault(service, "migrate", "plan", "--to", "s3")
    ran = mediavault(
        service, "migrate", "run", "--to", "s3", "--bandwidth", "10M", "--concurrency", "2", "--verify", "readback"
    )
    switched = mediavault(service, "migrate", "switch", "--to", "s3")
    status = mediavault(service, "migrate", "status", "--to", "s3")
    back = mediavault(service, "migrate", "rollback", "--to", "s3")

    assert planned.stdout.startswith("to s3: 3 files, 69.3 KiB, about ")
    assert ran.stdout.startswith("run: 3 files, 69.3 KiB in ")
    assert "copying: 3 files, 69.3 KiB\n" in ran.stderr, "plain lines where there is no terminal"
    assert "copying: 3/3 files, 69.3 KiB of 69.3 KiB at " in ran.stderr
    assert "\x1b" not in ran.stderr + ran.stdout
    assert "`mediavault migrate cleanup --to s3` removes the sources" in switched.stdout
    assert "switched" in status.stdout
    assert "the move to s3 is undone" in back.stdout
    assert [each.returncode for each in (planned, ran, switched, status, back)] == [0] * 5


def test_a_dry_run_copies_nothing_and_problems_show_in_the_status(library: Library) -> None:
    service = service_of(library)
    library.local_file(library.files[1].path).unlink()

    dry = mediavault(service, "migrate", "run", "--to", "s3", "--dry-run", "--json")
    ran = mediavault(service, "migrate", "run", "--to", "s3", "--json")

    assert (dry.returncode, ran.returncode) == (1, 1)
    planned, told = json.loads(dry.stdout), json.loads(ran.stdout)
    missing = [{"path": library.files[1].path, "problem": "missing: there is no such object"}]
    assert (planned["files"], planned["problems"]) == (3, missing)
    assert planned["byKind"] == {"original": {"files": 3, "bytes": 71_000}}
    assert (told["files"], told["problemCount"], told["problems"]) == (2, 1, missing)
    assert told["states"]["verified"] == {"files": 2, "bytes": 70_000, "problems": 0}
    assert ran.stderr == ""


def test_what_is_refused_is_one_line(library: Library) -> None:
    service = service_of(library)
    wrong = {
        ("run", "--to", "local"): "IMMICH_STORAGE_ENGINE is s3: set it to local and restart the service first",
        ("switch", "--to", "s3"): "no move to s3 is under way: `mediavault migrate run --to s3` begins one",
        ("run", "--to", "s3", "--user", "nobody@example.org"): "there is no user nobody@example.org",
        ("run", "--to", "s3", "--bandwidth", "fast"): "--bandwidth: 'fast' is no number of bytes per second",
        ("run", "--to", "s3", "--verify", "size"): "--verify: 'size' is none of auto, checksum, readback",
    }
    for arguments, line in wrong.items():
        done = mediavault(service, "migrate", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"mediavault: {line}"), done.stderr
        assert done.stderr.count("\n") == 1


def test_before_the_engine_is_set_a_plan_says_so(library: Library) -> None:
    planned = mediavault(service_of(library, "local"), "migrate", "plan", "--to", "s3")
    assert planned.returncode == 0
    assert "IMMICH_STORAGE_ENGINE is still local: set it to s3 and restart the service before" in planned.stdout


async def test_no_more_files_at_a_time_than_there_are_connections(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that waits for a connection would look like a store that does not answer."""
    library = await Library.create(stacks.create("s3", tmp_path, database="sqlite"), StorageEngine.S3)
    await library.fill([50_000] * 12)
    await library.aclose()
    at_once: list[int] = []
    under_way = 0
    carry = FileCopier.copy_file

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal under_way
        under_way += 1
        at_once.append(under_way)
        try:
            return await carry(*arguments, **options)
        finally:
            under_way -= 1

    monkeypatch.setattr(FileCopier, "copy_file", counted)
    service = Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": "s3", "MEDIAVAULT_S3_CONNECTIONS": "4"})

    ran = await asyncio.to_thread(mediavault, service, "migrate", "run", "--to", "s3", "--concurrency", "32")

    assert ran.returncode == 0, ran.stderr
    assert len(at_once) == len(library.files)
    assert max(at_once) == 4


def test_a_plan_makes_no_folder(library: Library, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    settings = {"IMMICH_STORAGE_ENGINE": "local", "IMMICH_MEDIA_LOCATION": str(elsewhere)}
    service = Service(library.stack, settings=settings)

    planned = mediavault(service, "migrate", "plan", "--to", "s3")

    assert planned.returncode == 2
    assert planned.stderr == "mediavault: IMMICH_MEDIA_LOCATION: the folder is not there\n"
    assert not elsewhere.exists()


async def test_a_name_that_is_too_long_with_the_prefix_is_planned_before_and_told_after(
    stacks: Stacks, tmp_path: Path
) -> None:
    library = await Library.create(stacks.create("s3", tmp_path, database="sqlite"), StorageEngine.S3)
    source = await open_storage(settings_of(library.stack, StorageEngine.LOCAL))
    kept = await library.add(source, Key("upload/" + "/".join("d" * 199 for _ in range(5)) + "/a.jpg"), b"a photo")
    await source.aclose()

    planned, ran = await plan_move(library.work()), await run_move(library.work())
    await library.aclose()

    detail = "name: s3 does not take this name: longer than 1024 bytes with the prefix"
    assert planned.problems.listed == ran.problems.listed == [FileProblem(kept.path, detail)]


async def test_two_runs_refuse_each_other(library: Library) -> None:
    again = await Library.create(library.stack, StorageEngine.S3)
    try:
        async with again.catalog.moves.lock_ledger():
            done = await asyncio.to_thread(mediavault, service_of(library), "migrate", "run", "--to", "s3")
    finally:
        await again.aclose()
    assert done.returncode == 2
    assert done.stderr == "mediavault: another `mediavault migrate` is at work on this catalogue\n"
