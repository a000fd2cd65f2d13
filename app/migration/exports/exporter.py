"""Export: brings originals and sidecars back into a folder, with their names and dates, each compared with its SHA-1.

A file that lies in the folder already with the same bytes is left alone, so an export that was stopped goes on where it was. No file is
ever overwritten: where a name is taken by other bytes, the asset's id is part of the name. A sidecar has the name of its original and
`.xmp`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from app.archives.member_names import MAX_NAME_BYTES, append_to_stem, clean_member_name
from app.catalog.browsing.exports import ExportedAsset
from app.catalog.schema.records import File
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.copy_check import ContentHasher, RecordedChecksums
from app.migration.exports.export_folder import ExportFolder, finish_part, is_full
from app.migration.reports import ProblemList
from app.migration.step_progress import MoveProgress
from app.storage.backend import ObjectStream
from app.storage.errors import StorageError
from app.storage.local.syscalls import write_all
from app.storage.local.threads import ThreadPool
from app.storage.service import StorageService

DEFAULT_CONCURRENCY = 4
_SIDECAR_SUFFIX = ".xmp"
_OpenRead = Callable[[str], AbstractAsyncContextManager[ObjectStream]]


class ExportStopped(Exception):
    """The folder cannot be written any more; the text is one line."""


@dataclass(slots=True)
class ExportReport:
    """`files` and `bytes` were written; `present` files were there already."""

    files: int = 0
    bytes: int = 0
    present: int = 0
    problems: ProblemList = field(default_factory=ProblemList)


@dataclass(frozen=True, slots=True)
class _Export:
    """One file: its row, its folder below the target, and its names, the later ones for the case that those before are taken."""

    file: File
    folder: str
    names: tuple[str, ...]
    modified: datetime

    @property
    def part(self) -> str:
        return f".{self.file.id}.mediavault-part"

    @property
    def recorded(self) -> RecordedChecksums:
        return RecordedChecksums(self.file.size or 0, self.file.sha1, self.file.crc32)


class _BytesDiffer(Exception):
    """What was read is not what the catalogue records."""


class Exporter:
    def __init__(
        self,
        storage: StorageService,
        target: Path,
        progress: MoveProgress,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
    ) -> None:
        self._storage = storage
        self._folder = ExportFolder(target)
        self._progress = progress
        self._concurrency = concurrency
        self._threads = ThreadPool("export", concurrency)
        self._report = ExportReport()

    async def run(self, pages: AsyncIterator[list[ExportedAsset]], files: int, size: int) -> ExportReport:
        """`files` and `size` (bytes) are those of all pages, for the progress. Raises `ExportStopped`, `CatalogError`."""
        self._progress.begin("exporting", files, size)
        try:
            await run_in_parallel(pages, self._concurrency, self._export_asset)
        finally:
            await self._threads.aclose()
        return self._report

    async def _export_asset(self, exported: ExportedAsset) -> None:
        original, sidecar = _plan(exported)
        if sidecar is None:
            await self._export_file(original)
            return
        original, sidecar = await self._avoid_other_sidecars(original, sidecar)
        # Where the original could not be exported, no other photo has the name with the asset's id.
        name = await self._export_file(original) or original.names[-1]
        await self._export_file(replace(sidecar, names=(_name_sidecar(name),)))

    async def _avoid_other_sidecars(self, original: _Export, sidecar: _Export) -> tuple[_Export, _Export]:
        """The original, without those of its names beside which another file has the sidecar's name; and the sidecar, with its checksum."""
        try:
            sidecar = await self._with_checksum(sidecar)
            holds = [
                await self._threads.run(self._folder.holds, sidecar.folder, _name_sidecar(name), sidecar.recorded)
                for name in original.names
            ]
        except (OSError, StorageError):
            return original, sidecar  # the export of the sidecar tells why
        names = tuple(name for name, is_there in zip(original.names, holds, strict=True) if is_there is not False)
        return replace(original, names=names or original.names), sidecar

    async def _export_file(self, export: _Export) -> str | None:
        """Returns the name that the file has in its folder now; None where it could not be exported, which is reported."""
        name: str | None = None
        try:
            name = await self._export(await self._with_checksum(export))
        except OSError as error:
            if is_full(error):
                raise ExportStopped(f"the folder cannot be written: {error.strerror}") from error
            self._report.problems.add(export.file.path, f"cannot be written: {error.strerror}")
        except StorageError as error:
            self._report.problems.add(export.file.path, str(error))
        self._progress.done(export.file.size or 0)
        return name

    async def _export(self, export: _Export) -> str | None:
        for name in export.names:
            if await self._threads.run(self._folder.holds, export.folder, name, export.recorded):
                self._report.present += 1
                return name
        try:
            await self._write_from_any_place(export)
        except (StorageError, _BytesDiffer) as error:
            self._report.problems.add(export.file.path, str(error))
            await self._threads.run(self._folder.remove_part, export.folder, export.part)
            return None
        for name in export.names:
            if await self._threads.run(self._folder.publish, export.folder, export.part, name):
                self._report.files += 1
                self._report.bytes += export.file.size or 0
                return name
        await self._threads.run(self._folder.remove_part, export.folder, export.part)
        self._report.problems.add(export.file.path, f"{export.names[-1]} is taken by another file")
        return None

    async def _with_checksum(self, export: _Export) -> _Export:
        """The file of a library may not have been read yet: its bytes are hashed where they lie. Raises `StorageError`: without a checksum
        nothing is compared, nor exported."""
        if export.file.sha1 is not None:
            return export
        digest = ContentHasher()
        async with self._storage.read(export.file.path) as stream:
            async for chunk in stream.chunks:
                digest.update(chunk)
        return replace(export, file=replace(export.file, sha1=digest.to_checksums().sha1))

    async def _write_from_any_place(self, export: _Export) -> None:
        """From where the file is read usually; if its bytes there are wrong, from the source and from the copy, whichever came first
        before."""
        file = export.file
        try:
            await self._write(export, file.path, self._storage.read)
        except (StorageError, _BytesDiffer):
            if file.copy_path is None:
                raise
        else:
            return
        try:
            await self._write(export, file.path, self._storage.read_foreign_source)
        except (StorageError, _BytesDiffer):
            await self._write(export, file.copy_path, self._storage.read)

    async def _write(self, export: _Export, path: str, read: _OpenRead) -> None:
        digest = ContentHasher()
        descriptor = await self._threads.acquire(self._folder.open_part, os.close, export.folder, export.part)
        try:
            async with read(path) as stream:
                async for chunk in stream.chunks:
                    digest.update(chunk)
                    await self._threads.run(write_all, descriptor, [chunk])
            if not digest.matches(export.recorded):
                raise _BytesDiffer(f"{path} does not hold the bytes that the catalogue records")
            await self._threads.run(finish_part, descriptor, export.modified)
        finally:
            await self._threads.run_uncancelled(os.close, descriptor)


def _plan(exported: ExportedAsset) -> tuple[_Export, _Export | None]:
    """An asset's original and its sidecar, in the folder of the month when it was taken."""
    asset, sidecar = exported.asset, exported.sidecar
    folder, mark = f"{asset.local_date_time:%Y-%m}", str(asset.id)[:8]
    max_bytes = MAX_NAME_BYTES if sidecar is None else MAX_NAME_BYTES - len(_SIDECAR_SUFFIX)
    clean = clean_member_name(asset.original_file_name)
    # `IMG.jpg`, `IMG~1234abcd.jpg`
    names = tuple(append_to_stem(clean, suffix, max_bytes) for suffix in ("", f"~{mark}"))
    original = _Export(asset.file, folder, names, asset.file_modified_at)
    if sidecar is None:
        return original, None
    return original, replace(original, file=sidecar, names=tuple(map(_name_sidecar, names)))


def _name_sidecar(name: str) -> str:
    return f"{name}{_SIDECAR_SUFFIX}"
