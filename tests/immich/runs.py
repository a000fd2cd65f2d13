"""Runs an import, or a look of `follow`, in the test's process, with small pages and a catalogue of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from app.immich.import_run import ImmichImport, ImportOptions, ImportReport
from app.immich.media_roots import parse_media_roots
from app.immich.source.connection import open_source
from app.immich.source.reader import SourceReader
from tests.immich.installation import Installation

PAGE_ROWS = 2


class QuietProgress:
    def begin(self, stage: str, total: int | None) -> None:
        """Shows nothing."""

    def advance(self, count: int, size: int = 0) -> None:
        """Shows nothing."""


@asynccontextmanager
async def import_all(installation: Installation, folder: Path) -> AsyncIterator[Catalog]:
    """A catalogue into which everything was imported."""
    url = f"sqlite:///{folder / 'catalogue.db'}"
    await upgrade_catalog(url)
    catalog = await open_catalog(url)
    try:
        await run(catalog, installation)
        yield catalog
    finally:
        await catalog.aclose()


async def run(catalog: Catalog, installation: Installation, *, is_follow: bool = False) -> ImportReport:
    async with open_source(installation.url) as connection:
        reader = await SourceReader.open(connection)
        roots = parse_media_roots(installation.media_roots)
        work = ImmichImport(catalog, reader, roots, ImportOptions(), QuietProgress(), page_rows=PAGE_ROWS)
        return await (work.follow(compare_after=timedelta(days=1)) if is_follow else work.import_all())
