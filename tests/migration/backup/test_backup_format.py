"""Decoding of backups: every damaged or foreign file is refused with one line."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator, Iterable

import pytest

from app.migration.backups import backup_format
from app.migration.backups.backup_format import BackupDamaged, BackupHeader, BackupTrailer, TableRows, read_backup

HEADER = {
    "mediavault_backup": 1,
    "revision": "0003",
    "created_at": "2026-01-02T03:04:05.123456+00:00",
    "program": "0.1.0",
    "installation": "5d2e9a0c-3c39-4b9e-8d7f-0a5f6a3b1c2d",
    "media_location": "/media",
    "bucket_location": None,
}
TABLE = {"table": "thing", "columns": [["id", "integer"], ["name", "text"]]}


def packed(lines: Iterable[object], *, last: object = None) -> bytes:
    """A valid backup, with another last line where one is given."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    counts = {TABLE["table"]: sum(isinstance(line, list) for line in lines)}
    end = last or {"rows": counts, "sha256": backup_format.hashlib.sha256(data).hexdigest()}
    return gzip.compress(data + json.dumps(end).encode() + b"\n", mtime=0)


WHOLE = [HEADER, TABLE, *([number, f"row {number} {random.Random(number).random()}"] for number in range(1200))]


async def parts(data: bytes, *, piece: int = 1000) -> list[BackupHeader | TableRows | BackupTrailer]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    return [part async for part in read_backup(chunks())]


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_a_whole_one_is_read_in_pieces_of_any_size(piece: int) -> None:
    header, *batches, trailer = await parts(packed(WHOLE), piece=piece)
    assert isinstance(header, BackupHeader)
    assert header.revision == "0003"
    assert [row for batch in batches if isinstance(batch, TableRows) for row in batch.rows] == WHOLE[2:]
    assert trailer == BackupTrailer({"thing": 1200})


async def test_one_that_is_cut_short_is_refused_wherever_it_ends() -> None:
    data = packed(WHOLE)
    for length in [*range(40), *range(40, len(data), 97), *range(len(data) - 20, len(data))]:
        with pytest.raises(BackupDamaged):
            await parts(data[:length])


async def test_one_in_which_a_bit_is_flipped_is_refused_wherever_that_is() -> None:
    data = packed(WHOLE)
    dice = random.Random(5)
    # The ten bytes of gzip's header hold time and system of the compression: changes there do not matter.
    for place in [*range(10, 60), *dice.sample(range(60, len(data)), 150), *range(len(data) - 8, len(data))]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << dice.randrange(8)
        with pytest.raises(BackupDamaged):
            await parts(bytes(damaged))


OTHERS = (
    (b"", "no backup"),
    (b"PK\x03\x04 a zip", "no backup"),
    (gzip.compress(b"-- PostgreSQL database dump\n"), "no backup"),
    (gzip.compress(b'{"findings": []}\n'), "no backup"),
    (gzip.compress(b"[1, 2]\n"), "no backup"),
    (gzip.compress(b"5\n"), "no backup"),
    (packed([{**HEADER, "mediavault_backup": 2}]), "newer"),
    (packed([{"mediavault_backup": 1}]), "first line"),
    (packed([{**HEADER, "created_at": "yesterday"}]), "first line"),
    (packed([HEADER, [1, "x"]]), "fits no table"),
    (packed([HEADER, TABLE, [1]]), "fits no table"),
    (packed([HEADER, {"table": "thing"}]), "not described"),
    (packed([HEADER, TABLE, [1, "x"]], last={"rows": {"thing": 1}, "sha256": "0" * 64}), "checksum"),
    (packed(WHOLE) + b"more", "behind its end"),
    (packed(WHOLE) + packed(WHOLE), "behind its end"),
)


@pytest.mark.parametrize("number", range(len(OTHERS)))
async def test_others_are_refused_with_the_reason(number: int) -> None:
    data, reason = OTHERS[number]
    with pytest.raises(BackupDamaged, match=reason) as refused:
        await parts(data)
    assert "\n" not in str(refused.value)


async def test_rows_that_were_taken_out_are_missed_although_the_checksum_fits() -> None:
    lines = [HEADER, TABLE, [1, "x"]]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    last = {"rows": {"thing": 2}, "sha256": backup_format.hashlib.sha256(data).hexdigest()}
    with pytest.raises(BackupDamaged, match="not as many rows"):
        await parts(packed(lines, last=last))


async def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_format, "MAX_LINE_BYTES", 4 * 1024 * 1024)
    with pytest.raises(BackupDamaged):
        await parts(gzip.compress(b"[" + b" " * 64 * 1024 * 1024))
