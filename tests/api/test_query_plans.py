"""No statement that a hot route sends reads a large table whole: the database is asked how it would run each of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.http.application import ApiApplication
from app.catalog.assets.exif_indexes import INDEXES
from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.library_records import ScanChanges, ScannedFile
from app.catalog.schema.records import AssetType
from app.main import create_app
from tests.api.photos import photo
from tests.real.accounts import settings_of
from tests.real.generated_rows import COMMON_MAKE, RARE_MAKE, checksum_of, exif_of, insert_assets, name_of
from tests.real.secrets import record_secret
from tests.real.sql_statements import SentStatement, explain, record_statements
from tests.real.stacks import Database, Stacks

ASSETS = 1500
TABLES = ("asset", "derivative", "file", "library_file", "task")
"""Tables that grow with the number of files."""
_SCANNED = re.compile(rf"SCAN (?:{'|'.join(TABLES)}|made|photo|asset_\d+|file_\d+)\b(?:.* INDEX (?P<index>\w+))?")
_INDEX_SCANS = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
MONTH = "2010-05-01"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict[str, str])


def search(**filters: Any) -> Request:
    return Request("POST", "/api/search/metadata", filters)


REQUESTS = (
    Request("GET", "/api/assets", query={"limit": "250"}),
    Request("GET", "/api/assets", query={"trashed": "true"}),
    search(page=5, size=100),
    search(originalFileName=name_of(77)),
    search(isFavorite=True),
    search(type="VIDEO", order="asc"),
    search(checksum=base64.b64encode(checksum_of(5)).decode()),
    search(takenAfter="2010-01-01T00:00:00Z", takenBefore="2011-01-01T00:00:00Z"),
    Request("POST", "/api/search/random", {"size": 10}),
    Request("POST", "/api/search/statistics", {"type": "IMAGE"}),
    Request("GET", "/api/timeline/buckets"),
    Request("GET", "/api/timeline/buckets", query={"isTrashed": "true", "isFavorite": "true"}),
    Request("GET", "/api/timeline/bucket", query={"timeBucket": MONTH}),
    Request("GET", "/api/assets/statistics"),
    Request("GET", "/api/server/statistics"),
    Request("GET", "/api/server/storage"),
    Request("GET", "/api/libraries"),
    Request(
        "POST",
        "/api/assets/bulk-upload-check",
        {"assets": [{"id": str(n), "checksum": checksum_of(n).hex()} for n in range(1400, 1600)]},
    ),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    return request.param


async def test_no_hot_route_reads_a_table_whole(database: Database, stacks: Stacks, tmp_path: Path) -> None:
    async with running(stacks, database, tmp_path) as (catalog, client):
        with record_statements() as sent:
            for request in REQUESTS:
                answer = await client.request(request.method, request.path, json=request.body, params=request.query)
                assert answer.status_code in (200, 201), (request, answer.text)
            await use_single_assets(client)
            await do_periodic_work(catalog)
        statements = {each.text: each for each in sent if re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)", each.text)}
        async with catalog.engine.connect() as connection:
            await prefer_indexes(connection)
            found = [problem for each in statements.values() for problem in await find_whole_reads(connection, each)]
    assert len(statements) > 40
    assert found == [], "\n".join(found)


async def test_names_are_found_by_their_index(database: Database, stacks: Stacks, tmp_path: Path) -> None:
    part = name_of(77)[1:-1].lower()
    index = {"sqlite": "asset_name_index VIRTUAL TABLE", "postgresql": "ix_asset_folded_name_trigram"}[database]
    async with running(stacks, database, tmp_path) as (catalog, client):
        for path, body in (("metadata", {}), ("metadata", {"page": 2}), ("random", {"size": 10}), ("statistics", {})):
            with record_statements() as sent:
                answer = await client.post(f"/api/search/{path}", json={"originalFileName": part, **body})
            assert answer.status_code == 200, answer.text
            found = [each for each in sent if "LIKE" in each.text]
            assert found
            async with catalog.engine.connect() as connection:
                await prefer_indexes(connection)
                plans = [str(await explain(connection, each)) for each in found]
                assert all(index in plan for plan in plans), plans
                assert not [problem for each in found for problem in await find_whole_reads(connection, each)]


async def test_exif_values_are_found_by_their_indexes(database: Database, stacks: Stacks, tmp_path: Path) -> None:
    """A page of a value, rare or common, is read in the index's order, and of several values the rarest is looked up."""
    cases: list[tuple[str, dict[str, Any]]] = [(name, {name: value}) for name, value in exif_of(77).items()]
    cases += [
        ("make", {"make": RARE_MAKE}),
        ("city", {"make": COMMON_MAKE, "city": "City 77"}),
        ("make", {"make": RARE_MAKE, "rating": 1}),
        ("city", {"city": None}),
    ]
    async with running(stacks, database, tmp_path) as (catalog, client):
        may_choose = database == "postgresql"  # where statistics tell that most assets have the value
        for field_, filters in cases:
            is_common = {COMMON_MAKE, "Germany", None}.issuperset(filters.values())
            for path, body in (
                ("metadata", {}),
                ("metadata", {"order": "asc"}),
                ("random", {"size": 1000}),
                ("statistics", {}),
            ):
                with record_statements() as sent:
                    answer = await client.post(f"/api/search/{path}", json={**filters, **body})
                assert answer.status_code == 200, answer.text
                found = [each for each in sent if "exif" in each.text and "visibility" in each.text]
                assert found
                async with catalog.engine.connect() as connection:
                    await prefer_indexes(connection)
                    for each in found:
                        plan = await explain(connection, each)
                        whole = await find_whole_reads(connection, each)
                        assert not (path == "metadata" and "USE TEMP B-TREE FOR ORDER BY" in plan[:-1]), plan
                        assert INDEXES[field_] in str(plan) or (may_choose and is_common), (filters, path, plan)
                        assert whole == []


async def test_a_table_that_is_read_whole_is_found(database: Database, stacks: Stacks, tmp_path: Path) -> None:
    async with running(stacks, database, tmp_path, assets=10) as (catalog, _), catalog.engine.connect() as connection:
        await prefer_indexes(connection)
        for text in ("SELECT id FROM asset WHERE sidecar_error = 'x'", "SELECT count(*) FROM task"):
            assert len(await find_whole_reads(connection, SentStatement(text, ()))) == 1, text


@asynccontextmanager
async def running(
    stacks: Stacks, database: Database, folder: Path, *, assets: int = ASSETS
) -> AsyncIterator[tuple[Catalog, httpx.AsyncClient]]:
    """The application in this process, on a catalogue with `assets` of an administrator and a few of another user; and a client of the
    administrator."""
    stack = stacks.create("local", folder, database=database)
    application = create_app(settings_of(stack), process_tasks=False)
    async with _lifespan(application):
        catalog = application.services.catalog
        user, other = [await catalog.users.create(f"{n}@example.org", "A", is_admin=not n) for n in range(2)]
        key = secrets.token_urlsafe(32)
        record_secret(key)
        await catalog.api_keys.create(user.id, "key", ("all",), hashlib.sha256(key.encode()).digest())
        await insert_assets(catalog, user.id, assets)
        await scan_files(catalog, user.id, assets // 5)
        await insert_assets(catalog, other.id, 20, first=assets)
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://service", headers={"x-api-key": key}, timeout=60
        ) as client:
            yield catalog, client


async def scan_files(catalog: Catalog, owner_id: UUID, count: int) -> None:
    """A library of so many files, as after its first scan."""
    library = await catalog.libraries.create(owner_id, "disk", ("/disk",), ())
    day = datetime(2015, 1, 1, tzinfo=UTC)
    found = [
        ScannedFile(f"/disk/{n // 5}", (f"{n}.jpg", 1, n, 1000, 1), AssetType.IMAGE, "image/jpeg", day)
        for n in range(count)
    ]
    await catalog.library_files.apply_changes(library, ScanChanges(new=found))


@asynccontextmanager
async def _lifespan(application: ApiApplication) -> AsyncIterator[None]:
    incoming, outgoing = asyncio.Queue[dict[str, str]](), asyncio.Queue[Any]()
    task = asyncio.create_task(application({"type": "lifespan"}, incoming.get, outgoing.put))
    try:
        for kind in ("startup", "shutdown"):
            await incoming.put({"type": f"lifespan.{kind}"})
            async with asyncio.timeout(30):
                assert (await outgoing.get())["type"] == f"lifespan.{kind}.complete"
            if kind == "startup":
                yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def use_single_assets(client: httpx.AsyncClient) -> None:
    """Upload, show, change, trash, restore and delete."""
    dates = {"fileCreatedAt": "2024-06-01T12:00:00Z", "fileModifiedAt": "2024-06-01T12:00:00Z"}
    created = await client.post("/api/assets", data=dates, files={"assetData": ("new.jpg", photo())})
    assert created.status_code == 201, created.text
    asset = created.json()["id"]
    for method, path, content in (
        ("GET", f"/api/assets/{asset}", None),
        ("GET", f"/api/assets/{asset}/original", None),
        ("GET", f"/api/assets/{asset}/thumbnail", None),
        ("PUT", f"/api/assets/{asset}", {"isFavorite": True, "dateTimeOriginal": "2012-05-06T07:08:09Z"}),
        ("POST", "/api/download/info", {"assetIds": [asset]}),
        ("DELETE", "/api/assets", {"ids": [asset]}),
        ("POST", "/api/trash/restore/assets", {"ids": [asset]}),
        ("DELETE", "/api/assets", {"ids": [asset], "force": True}),
    ):
        answer = await client.request(method, path, json=content)
        assert answer.status_code < 300 or path.endswith("/thumbnail"), answer.text


async def do_periodic_work(catalog: Catalog) -> None:
    """What is repeated every few seconds, or every minute."""
    await catalog.tasks.recover_lapsed(datetime.now(UTC))
    await catalog.kept_counts.fold()
    await catalog.folded_names.fill_missing()
    await catalog.name_index.update()
    await catalog.files.claim_sweepable(datetime.now(UTC), 100)
    await catalog.assets.purge_trash(datetime.now(UTC) - timedelta(days=30))


async def find_whole_reads(connection: AsyncConnection, statement: SentStatement) -> list[str]:
    if connection.dialect.name == "sqlite":
        steps = await explain(connection, statement)
        scans = [(step, _SCANNED.match(step)) for step in steps]
        return [f"{step}: {statement.text}" for step, scan in scans if scan and not is_partial(scan["index"])]
    (plan,) = await explain(connection, statement)
    return [f"{step}: {statement.text}" for step in _list_whole_reads(plan[0]["Plan"])]


def is_partial(index_name: str | None) -> bool:
    """Whether the index has few of the table's rows, and may be read whole."""
    indexes = {str(index.name): index for name in TABLES for index in tables.metadata.tables[name].indexes}
    index = indexes.get(index_name or "")
    return index is not None and index.dialect_options["postgresql"]["where"] is not None


def _index_names(table: str) -> set[str]:
    definition = tables.metadata.tables[table]
    keys = (constraint.name for constraint in definition.constraints)
    return {str(name) for name in (*keys, *(index.name for index in definition.indexes))}


async def prefer_indexes(connection: AsyncConnection) -> None:
    """PostgreSQL's planner prefers to read whole tables as long as they are small. Now it does so where no index serves."""
    if connection.dialect.name == "postgresql":
        for name in ("seqscan", "hashjoin", "mergejoin"):
            await connection.exec_driver_sql(f"SET enable_{name} = off")


def _list_whole_reads(node: dict[str, Any]) -> Iterator[str]:
    kind, index = node["Node Type"], node.get("Index Name")
    table = node.get("Relation Name") or next((name for name in TABLES if index in _index_names(name)), None)
    is_whole = kind == "Seq Scan" or (kind in _INDEX_SCANS and "Index Cond" not in node and not is_partial(index))
    if table in TABLES and is_whole:
        yield f"{kind} of {table} by {index}"
    for child in node.get("Plans", []):
        yield from _list_whole_reads(child)
