"""Unit tests of a move's parts that decide or count."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from app.cli.move_progress import MoveProgressLines, format_duration, format_size
from app.config import Settings, StorageEngine
from app.migration.bandwidth_limit import BandwidthLimit
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.commit_batches import MAX_BATCH_RESULTS, BatchCommitter
from app.migration.copy_check import ContentHasher, RecordedChecksums
from app.migration.problems import describe_source_error, describe_target_error
from app.migration.source_retention import SOURCE_RETENTION, choose_source_retention
from app.migration.steps.plan_step import DEFAULT_BYTES_PER_SECOND, estimate_seconds
from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.s3.protocol.upload_body import parse_whole_crc32


@pytest.mark.parametrize(
    ("error", "at_source", "at_target"),
    [
        (ObjectNotFound, "missing", "unavailable"),
        (ObjectChanged, "damaged", "unavailable"),
        (StoragePermission, "forbidden", "forbidden"),
        (StorageFull, "full", "full"),
        (InvalidKey, "name", "name"),
        (StorageUnavailable, "unavailable", "unavailable"),
        (StorageError, "unavailable", "unavailable"),
    ],
)
def test_each_error_has_a_word(error: type[StorageError], at_source: str, at_target: str) -> None:
    assert describe_source_error(error("k", "s3", "why")).kind == at_source
    assert describe_target_error(error("k", "s3", "why")).kind == at_target


@pytest.mark.parametrize(
    ("value", "kind", "number"),
    [
        ("AAAAAQ==", None, 1),
        ("AAAAAQ==", "FULL_OBJECT", 1),
        ("AAAAAQ==", "COMPOSITE", None),
        ("AAAAAQ==-3", None, None),
        ("AAAA", None, None),
        ("no base64!", None, None),
        (None, None, None),
    ],
)
def test_only_a_checksum_of_the_whole_counts(value: str | None, kind: str | None, number: int | None) -> None:
    assert parse_whole_crc32(value, kind) == number


def test_every_recorded_checksum_must_agree() -> None:
    digest = ContentHasher()
    digest.update(b"data")
    right = digest.to_checksums()
    assert digest.matches(right)
    assert digest.matches(RecordedChecksums(4, right.sha1, None))
    assert not digest.matches(RecordedChecksums(5, right.sha1, right.crc32))
    assert not digest.matches(RecordedChecksums(4, b"x" * 20, right.crc32))
    assert not digest.matches(RecordedChecksums(4, None, 1))


def test_an_estimate_counts_bytes_and_requests() -> None:
    assert estimate_seconds(0, 0, 1.0, 8, None) == 0
    assert estimate_seconds(0, DEFAULT_BYTES_PER_SECOND * 10, 0.0, 8, None) == 10
    assert estimate_seconds(0, 1000, 0.0, 8, 100) == 10
    assert estimate_seconds(80, 0, 0.1, 8, None) == pytest.approx(3.0)


def test_what_was_moved_away_from_rests_as_long_as_links_work() -> None:
    def settings(**more: str | int) -> Settings:
        return Settings(_env_file=None, S3_BUCKET="bucket", **more)  # pyright: ignore[reportCallIssue, reportArgumentType]

    redirecting = settings(S3_DELIVERY="redirect", MEDIAVAULT_S3_LINK_SECONDS=900)
    assert choose_source_retention(StorageEngine.S3, settings()) == SOURCE_RETENTION
    assert choose_source_retention(StorageEngine.LOCAL, redirecting) == SOURCE_RETENTION
    assert choose_source_retention(StorageEngine.S3, redirecting) == SOURCE_RETENTION + timedelta(seconds=900), (
        "a link may be made late in the first"
    )


async def test_a_limit_holds_for_all_together() -> None:
    throttle = BandwidthLimit(100_000)
    began = time.monotonic()
    await asyncio.gather(*(throttle.acquire(2000) for _ in range(10)))
    assert time.monotonic() - began >= 0.19
    await BandwidthLimit(None).acquire(10**12)


async def test_results_are_settled_in_batches_and_all_of_them() -> None:
    settled: list[list[int]] = []

    async def settle(batch: list[int]) -> None:
        await asyncio.sleep(0)
        settled.append(batch)

    batches = BatchCommitter(settle)
    await asyncio.gather(*(batches.add(number) for number in range(2 * MAX_BATCH_RESULTS + 5)))
    await batches.flush()
    assert sorted(number for batch in settled for number in batch) == list(range(2 * MAX_BATCH_RESULTS + 5))
    assert max(map(len, settled)) <= MAX_BATCH_RESULTS


async def test_the_first_failure_ends_what_is_done_in_parallel() -> None:
    async def pages():
        for page in range(1000):
            yield [page]

    async def act(number: int) -> None:
        if number == 5:
            raise LookupError(number)
        await asyncio.sleep(0)

    with pytest.raises(LookupError):
        async with asyncio.timeout(10):
            await run_in_parallel(pages(), 3, act)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 1024**4, "5.0 TiB")]
)
def test_sizes_are_told_in_a_fitting_unit(size: int, text: str) -> None:
    assert format_size(size) == text


def test_times_are_told_in_hours() -> None:
    assert (format_duration(0), format_duration(61.4), format_duration(7265)) == ("0:00:00", "0:01:01", "2:01:05")


def test_lines_tell_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("app.cli.move_progress.time.monotonic", lambda: clock[0])
    lines = MoveProgressLines()
    lines.begin("copying", 2, 4096)
    clock[0] = 6.0
    lines.advance(1024)
    lines.done(0)
    clock[0] = 24.0
    lines.done(3072)
    lines.finish()
    assert capsys.readouterr().err.splitlines() == [
        "copying: 2 files, 4.0 KiB",
        "copying: 0/2 files, 1.0 KiB of 4.0 KiB at 170 bytes/s, 0:00:18 left".replace("170", "171"),
        "copying: 2/2 files, 4.0 KiB of 4.0 KiB at 171 bytes/s",
        "copying: 2/2 files, 4.0 KiB of 4.0 KiB at 171 bytes/s",
    ]
