"""CPU time of requests and of periodic work, by the number of assets in the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileKind
from app.jobs.sweeper import sweep
from app.migration.migration_context import PAGE_FILES
from app.storage.service import StorageService
from bench.curves.measured_service import DatabaseName, MeasuredService, measured_service
from tests.api.photos import photo
from tests.real.generated_rows import checksum_of, insert_assets, name_of
from tests.real.uploads import upload

CHECKED = 5000
SWEPT = 200
Point = tuple[int, float]
Curves = dict[str, list[Point]]
"""By name of the work: number of assets, and CPU seconds."""


def measure_catalogue(
    folder: Path, database: DatabaseName, sizes: Iterable[int], postgres_parent: Path | None = None
) -> Iterator[Curves]:
    """`postgres_parent`: as `Postgres` takes it. Grow one catalogue to each of the sizes, and yield all curves so far after each."""
    curves: Curves = {}
    with measured_service(folder / database, database, postgres_parent=postgres_parent) as running:
        present = 0
        for size in sizes:
            media = str(running.service.stack.media)
            growing = insert_assets(running.catalog, running.account.id, size - present, media=media, first=present)
            running.run(growing)
            present = size
            for name, seconds in _measure(running, size):
                curves.setdefault(name, []).append((size, seconds))
                print(f"{database}, {size} assets: {name}: {seconds * 1000:.2f} ms of CPU", flush=True)
            yield curves


def _measure(running: MeasuredService, size: int) -> Iterator[tuple[str, float]]:
    for name, work in _list_requests(running, size):
        yield name, running.measure(work)
    yield "upload", running.measure(partial(_upload, running))
    uploaded = iter([_upload(running) for _ in range(32)])
    yield "delete for good", running.measure(lambda: _delete(running, [next(uploaded)]))
    running.run(_mark_files(running))
    yield f"sweep of {SWEPT} files", running.measure_in_bench(partial(_sweep, running))
    yield "catalogue's part of verify", running.measure_in_bench(lambda: running.run(_read_all(running.catalog)))
    yield (
        "catalogue's part of migrate plan",
        running.measure_in_bench(lambda: running.run(_plan(running.catalog, str(running.service.stack.media)))),
    )


def _list_requests(running: MeasuredService, size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    def get(path: str, **query: str) -> Callable[[], object]:
        return lambda: running.client.get(path, params=query).raise_for_status()

    def post(path: str, body: Any) -> Callable[[], object]:
        return lambda: running.client.post(path, json=body).raise_for_status()

    checked = [{"id": str(n), "checksum": checksum_of(n * 2 * size // CHECKED).hex()} for n in range(CHECKED)]
    yield "list of 250", get("/api/assets", limit="250")
    yield "search, page 100", post("/api/search/metadata", {"page": 100, "size": 100})
    yield "search by name", post("/api/search/metadata", {"originalFileName": name_of(7777)})
    yield "timeline buckets", get("/api/timeline/buckets")
    yield "timeline bucket", get("/api/timeline/bucket", timeBucket="2012-05-01")
    yield "asset statistics", get("/api/assets/statistics")
    yield "server statistics", get("/api/server/statistics")
    yield f"bulk check of {CHECKED}", post("/api/assets/bulk-upload-check", {"assets": checked})


def _upload(running: MeasuredService) -> str:
    answer = upload(running.client, photo() + secrets.token_bytes(8))
    answer.raise_for_status()
    return answer.json()["id"]


def _delete(running: MeasuredService, ids: list[str]) -> None:
    running.client.request("DELETE", "/api/assets", json={"ids": ids, "force": True}).raise_for_status()


async def _mark_files(running: MeasuredService) -> None:
    """Files for the sweep, of uploads that were given up."""
    media, catalog = running.service.stack.media, running.catalog
    for _ in range(SWEPT):
        path = f"{media}/upload/{secrets.token_hex(16)}.jpg"
        lease = timedelta(minutes=10)
        file = await catalog.files.begin_write(running.account.id, FileKind.ORIGINAL, path, "image/jpeg", lease)
        await catalog.files.mark_for_deletion(file.id, timedelta(minutes=30))


def _sweep(running: MeasuredService) -> None:
    async def run(catalog: Catalog, storage: StorageService) -> None:
        await sweep(catalog, storage, now=datetime.now(UTC) + timedelta(hours=1))

    running.service.people.call_with_storage(run)


async def _read_all(catalog: Catalog) -> None:
    """What verify reads of the catalogue. The listing of the storage is not in it."""
    paths: list[str] = []
    async for file in catalog.files.iterate_all():
        paths.append(file.path)
        if len(paths) == 500:
            await catalog.files.find_known_paths(paths)
            paths = []
    if differences := await catalog.kept_counts.find_differences():
        raise SystemExit(f"kept counts are wrong: {differences}")


async def _plan(catalog: Catalog, media: str) -> None:
    """What the plan of a move reads of the catalogue. The listings of source and target are not in it."""
    after = None
    while page := await catalog.moves.get_candidates(media, None, after=after, limit=PAGE_FILES):
        after = page[-1].file.id
