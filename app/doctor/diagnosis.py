"""Runs all checks of `mediavault doctor` in their order. A check that fails does not keep the others from running, unless they need its result."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from app.catalog.catalog import Catalog
from app.config import Settings, StorageEngine
from app.doctor.cache_folder import check_cache
from app.doctor.codecs import check_codecs
from app.doctor.configuration import check_configuration, check_front_server, collect_secrets
from app.doctor.database import check_database, open_database
from app.doctor.findings import DiagnosisReport, ReportSection
from app.doctor.media_location import check_local_writes, check_markers, check_media_folder, check_staging
from app.doctor.programs import check_programs
from app.storage.errors import StorageError
from app.storage.opening import open_storage
from app.storage.service import StorageService


async def diagnose(settings: Settings) -> DiagnosisReport:
    """On cancellation, too, objects that were created in a store are removed."""
    report = DiagnosisReport(collect_secrets(settings))
    settings_section = report.section("settings")
    check_configuration(settings_section, settings)
    await asyncio.to_thread(check_front_server, settings_section, settings)
    async with AsyncExitStack() as stack:
        database = report.section("database")
        opened = await open_database(database, settings)
        if opened is not None:
            stack.push_async_callback(opened.catalog.aclose)
            await check_database(database, opened)
        catalog = opened.catalog if opened is not None and opened.is_current else None
        await _check_media(report, settings, catalog, stack)
    await check_staging(report.section("staging"), settings)
    await check_cache(report.section("cache"), settings)
    await check_programs(report.section("programs"), settings)
    await asyncio.to_thread(check_codecs, report.section("pictures"))
    return report


async def _check_media(
    report: DiagnosisReport, settings: Settings, catalog: Catalog | None, stack: AsyncExitStack
) -> None:
    local, folder = settings.storage_engine is StorageEngine.LOCAL, report.section("media location")
    exists = check_media_folder(folder, settings.media_location) if local else settings.media_location.is_dir()
    if local and not exists:
        if settings.s3_bucket:
            report.section("store").skip("calls", "the media location has to be there first")
        return
    try:
        storage = await open_storage(settings, with_cache=False)
    except StorageError as error:
        report.section("media location" if local else "store").fail("opens", error.detail, error.hint)
        return
    stack.push_async_callback(storage.aclose)
    await _check_storages(report, settings, catalog, storage)


async def _check_storages(
    report: DiagnosisReport, settings: Settings, catalog: Catalog | None, storage: StorageService
) -> None:
    for engine in (StorageEngine.LOCAL, StorageEngine.S3):
        location = storage.find_location(engine)
        if location is None:
            continue
        in_use = engine is storage.engine
        section = report.section("store" if engine is StorageEngine.S3 else "media location")
        if engine is StorageEngine.S3:
            from app.doctor.s3_calls import check_store  # noqa: PLC0415 - the S3 client takes 0.5 s to load
            from app.storage.s3 import S3Backend  # noqa: PLC0415

            if isinstance(location.backend, S3Backend):
                await check_store(section, location.backend, settings)
        elif in_use:
            await check_local_writes(section, location.backend)
        await _check_markers(section, catalog, storage, engine, in_use=in_use)


async def _check_markers(
    section: ReportSection, catalog: Catalog | None, storage: StorageService, engine: StorageEngine, *, in_use: bool
) -> None:
    if catalog is None:
        section.skip("markers", "there is no catalogue to compare with")
    elif in_use:
        await check_markers(section, catalog, storage, engine)
