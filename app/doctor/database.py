"""The catalogue: does it answer, in what time, is it ours, and may it be written to? Nothing is made or upgraded."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, text
from sqlalchemy.exc import ProgrammingError

from app.catalog.catalog import Catalog
from app.catalog.database.engine import Database, SqliteFile, parse_url
from app.catalog.database.schema_upgrade import ensure_current
from app.catalog.errors import CatalogError, SchemaMismatch
from app.catalog.schema import tables
from app.config import MEBIBYTE, Settings
from app.doctor.findings import ReportSection, UnexpectedResult, format_size

ROUNDS = 7
SLOW_SECONDS = 0.05
OLDEST_POSTGRESQL = 13
LOW_SPACE_BYTES = 256 * MEBIBYTE
_PROBE = "doctor-probe"
_TABLE = "mediavault_doctor"
_POSTGRESQL_HINT = "DB_URL: is the server running, and are user and password right?"
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph", "glusterfs"})


@dataclass(frozen=True, slots=True)
class OpenedDatabase:
    """A database that answers; the caller closes `catalog`. `is_current`: its tables are those of this program."""

    catalog: Catalog
    is_current: bool


async def open_database(area: ReportSection, settings: Settings) -> OpenedDatabase | None:
    """None where it does not answer, or is not there yet."""
    try:
        place = parse_url(settings.db_url.get_secret_value())
    except CatalogError as error:
        area.fail("address", str(error))
        return None
    sqlite = isinstance(place, SqliteFile)
    if isinstance(place, SqliteFile) and not await asyncio.to_thread(_check_sqlite_file, area, place.path):
        return None
    database, current = Database(place), True
    try:
        await ensure_current(database, upgrade=False)
    except SchemaMismatch:
        current = False
        area.warn("tables", "are not there yet, or older", "the next start of the service brings them up to date")
    except CatalogError as error:
        await database.aclose()
        hint = "is the file whole? `mediavault backup list` tells what there is" if sqlite else _POSTGRESQL_HINT
        area.fail("connection", str(error), hint)
        return None
    area.ok("connection", "SQLite" if sqlite else "PostgreSQL")
    return OpenedDatabase(Catalog(database), current)


async def check_database(area: ReportSection, found: OpenedDatabase) -> None:
    catalog = found.catalog
    await area.run_check("version", _check_version(catalog, sqlite=isinstance(catalog.database.location, SqliteFile)))
    await _check_latency(area, catalog)
    await area.run_check("writes", _check_writes(found))


def _check_sqlite_file(area: ReportSection, path: Path) -> bool:
    folder = path.parent
    if not path.exists():
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            area.fail(
                "file", f"{path} is not there, and can not be made", f"give this user the right to write to {folder}"
            )
        else:
            area.warn("file", f"{path} is not there yet", "the first start of the service makes it")
        return False
    kind = _find_file_system(path)
    if kind in _NETWORK:
        hint = "SQLite needs a local disk; for a share use PostgreSQL"
        area.fail("file system", f"{path} lies on {kind}", hint)
    room = shutil.disk_usage(folder)
    told = f"{format_size(room.free)} of {format_size(room.total)} free"
    if room.free < LOW_SPACE_BYTES:
        area.warn("disk", told, f"make room on the disk of {folder}")
    else:
        area.ok("disk", told)
    return True


def _find_file_system(path: Path) -> str:
    """The type of the mount that the path lies on; "" where that cannot be told."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        real = path.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for _, place, found, *_ in (line.split(" ") for line in lines):
        folder = place.replace("\\040", " ")
        if real.is_relative_to(folder) and len(folder) >= best:
            best, kind = len(folder), found
    return kind


async def _check_version(catalog: Catalog, *, sqlite: bool) -> str:
    async with catalog.database.read() as connection:
        if sqlite:
            return str((await connection.execute(text("SELECT sqlite_version()"))).scalar_one())
        version = str((await connection.execute(text("SHOW server_version"))).scalar_one())
    major = version.partition(".")[0].split(" ")[0]
    if major.isdigit() and int(major) < OLDEST_POSTGRESQL:
        raise UnexpectedResult(version, f"PostgreSQL {OLDEST_POSTGRESQL} or newer is needed")
    return version


async def _check_latency(area: ReportSection, catalog: Catalog) -> None:
    seconds: list[float] = []
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            await catalog.ping()
            seconds.append(time.perf_counter() - start)
    except CatalogError as error:
        area.fail("latency", str(error))
        return
    median = statistics.median(seconds)
    told = f"{median * 1000:.1f} ms per query"
    if median > SLOW_SECONDS:
        area.warn("latency", told, "every request asks several times: put the database nearer")
    else:
        area.ok("latency", told)


async def _check_writes(found: OpenedDatabase) -> str:
    """In a transaction that is rolled back."""
    try:
        async with found.catalog.database.write() as connection:
            if found.is_current:
                await connection.execute(insert(tables.installation).values(name=_PROBE, value=""))
            try:
                await connection.execute(text(f"CREATE TABLE {_TABLE} (id integer)"))
            except ProgrammingError as error:
                hint = "upgrades make tables: GRANT CREATE ON SCHEMA public to the user of DB_URL"
                raise UnexpectedResult("tables may not be made", hint) from error
            raise _Rollback
    except _Rollback:
        return "rows may be written and tables made"


class _Rollback(Exception):
    pass
