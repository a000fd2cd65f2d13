"""The parts of a move that decide or count, by themselves."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from app.cli.moving_progress import Lines, size_text, time_text
from app.config import Settings, StorageEngine
from app.migration.batches import MOST, Batches
from app.migration.parallel import in_parallel
from app.migration.planning import USUAL_RATE, estimate
from app.migration.problems import source_problem, target_problem
from app.migration.resting import REST, rest_at
from app.migration.throttle import Throttle
from app.migration.verification import Digest, Record
from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.s3.body import whole_crc32


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
    assert source_problem(error("k", "s3", "why")).kind == at_source
    assert target_problem(error("k", "s3", "why")).kind == at_target


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
    assert whole_crc32(value, kind) == number


def test_every_recorded_checksum_must_agree() -> None:
    digest = Digest()
    digest.update(b"data")
    right = digest.record()
    assert digest.fits(right)
    assert digest.fits(Record(4, right.sha1, None))
    assert not digest.fits(Record(5, right.sha1, right.crc32))
    assert not digest.fits(Record(4, b"x" * 20, right.crc32))
    assert not digest.fits(Record(4, None, 1))


def test_an_estimate_counts_bytes_and_requests() -> None:
    assert estimate(0, 0, 1.0, 8, None) == 0
    assert estimate(0, USUAL_RATE * 10, 0.0, 8, None) == 10
    assert estimate(0, 1000, 0.0, 8, 100) == 10
    assert estimate(80, 0, 0.1, 8, None) == pytest.approx(3.0)


def test_what_was_moved_away_from_rests_as_long_as_links_work() -> None:
    def settings(**more: str | int) -> Settings:
        return Settings(_env_file=None, S3_BUCKET="bucket", **more)  # pyright: ignore[reportCallIssue, reportArgumentType]

    redirecting = settings(S3_DELIVERY="redirect", MEDIAVAULT_S3_LINK_SECONDS=900)
    assert rest_at(StorageEngine.S3, settings()) == REST
    assert rest_at(StorageEngine.LOCAL, redirecting) == REST
    assert rest_at(StorageEngine.S3, redirecting) == REST + timedelta(seconds=900), (
        "a link may be made late in the first"
    )


async def test_a_limit_holds_for_all_together() -> None:
    throttle = Throttle(100_000)
    began = time.monotonic()
    await asyncio.gather(*(throttle.take(2000) for _ in range(10)))
    assert time.monotonic() - began >= 0.19
    await Throttle(None).take(10**12)


async def test_results_are_settled_in_batches_and_all_of_them() -> None:
    settled: list[list[int]] = []

    async def settle(batch: list[int]) -> None:
        await asyncio.sleep(0)
        settled.append(batch)

    batches = Batches(settle)
    await asyncio.gather(*(batches.add(number) for number in range(2 * MOST + 5)))
    await batches.flush()
    assert sorted(number for batch in settled for number in batch) == list(range(2 * MOST + 5))
    assert max(map(len, settled)) <= MOST


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
            await in_parallel(pages(), 3, act)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 1024**4, "5.0 TiB")]
)
def test_sizes_are_told_in_a_fitting_unit(size: int, text: str) -> None:
    assert size_text(size) == text


def test_times_are_told_in_hours() -> None:
    assert (time_text(0), time_text(61.4), time_text(7265)) == ("0:00:00", "0:01:01", "2:01:05")


def test_lines_tell_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("app.cli.moving_progress.time.monotonic", lambda: clock[0])
    lines = Lines()
    lines.begin("copying", 2, 4096)
    clock[0] = 6.0
    lines.advance(1024)
    lines.done(0)
    clock[0] = 24.0
    lines.done(3072)
    lines.end()
    assert capsys.readouterr().err.splitlines() == [
        "copying: 2 files, 4.0 KiB",
        "copying: 0/2 files, 1.0 KiB of 4.0 KiB at 170 bytes/s, 0:00:18 left".replace("170", "171"),
        "copying: 2/2 files, 4.0 KiB of 4.0 KiB at 171 bytes/s",
        "copying: 2/2 files, 4.0 KiB of 4.0 KiB at 171 bytes/s",
    ]
