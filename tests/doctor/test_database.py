"""The doctor's checks of the catalogue, on each database: what is missing is reported, and nothing is created or changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.catalog.catalog import Catalog, upgrade_catalog
from app.config import Settings
from app.doctor.database import check_database, open_database
from app.doctor.findings import CheckOutcome, DiagnosisReport, Finding
from tests.real.catalogues import Databases
from tests.real.databases import DatabaseKind
from tests.real.postgres import Postgres


@asynccontextmanager
async def diagnose_database(db_url: str) -> AsyncIterator[dict[str, Finding]]:
    report = DiagnosisReport()
    section = report.section("database")
    opened = await open_database(section, Settings(_env_file=None, DB_URL=db_url))  # pyright: ignore[reportCallIssue]
    if opened is not None:
        await check_database(section, opened)
        await opened.catalog.aclose()
    yield {finding.check: finding for finding in report.findings}


async def test_a_catalogue_in_use(catalog: Catalog, db_url: str, database: DatabaseKind) -> None:
    await catalog.installation.get_id()
    async with diagnose_database(db_url) as findings:
        assert {finding.outcome for finding in findings.values()} == {CheckOutcome.OK}
        assert {"connection", "version", "latency", "writes"} <= findings.keys()
        assert ("disk" in findings) is (database == "sqlite")
    assert await catalog.installation.get_flag("doctor-probe") is None
    assert await upgrade_catalog(db_url) is False, "its tables are as they were"


async def test_a_database_without_tables_is_looked_at_and_gets_none(databases: Databases) -> None:
    db_url = databases.empty("postgresql")
    async with diagnose_database(db_url) as findings:
        assert findings["tables"].outcome is CheckOutcome.WARNING
        assert findings["writes"].outcome is CheckOutcome.OK
    async with await psycopg.AsyncConnection.connect(db_url) as connection:
        made = await connection.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
        assert await made.fetchone() == (0,)
    databases.done(db_url)


async def test_rights_that_lack_are_named(databases: Databases, postgres: Postgres) -> None:
    db_url = databases.ready("postgresql")
    async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as administrator:
        name = sql.Identifier("reader_of_the_doctor")
        await administrator.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        try:
            as_reader = db_url.replace("//postgres:@", "//reader_of_the_doctor:@")
            assert as_reader != db_url
            await administrator.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name))
            async with diagnose_database(as_reader) as findings:
                assert findings["writes"].outcome is CheckOutcome.FAILED
                assert "permission denied" in findings["writes"].detail
            grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}"
            await administrator.execute(sql.SQL(grant).format(name))
            async with diagnose_database(as_reader) as findings:
                assert findings["writes"].outcome is CheckOutcome.FAILED
                assert "GRANT CREATE ON SCHEMA" in findings["writes"].hint
        finally:
            await administrator.execute(sql.SQL("DROP OWNED BY {}").format(name))
            await administrator.execute(sql.SQL("DROP ROLE {}").format(name))
    databases.done(db_url)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"this is no database at all, only some text" * 200, "not a database"), (None, "not there yet")],
)
async def test_a_file_that_is_no_catalogue(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "catalogue.db"
    if content is not None:
        file.write_bytes(content)
    async with diagnose_database(f"sqlite:///{file}") as findings:
        opened = findings["file" if content is None else "connection"]
        assert told in opened.detail
        assert opened.outcome is (CheckOutcome.WARNING if content is None else CheckOutcome.FAILED)
    assert file.exists() is (content is not None)
