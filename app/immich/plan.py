"""`mediavault immich plan`: looks through an installation of Immich, and reports what an import would take over and what is wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from app.immich.accounts import has_usable_email, has_usable_password
from app.immich.asset_pages import AssetPages
from app.immich.errors import ImportRefused, MovesUnfinished, NotMounted
from app.immich.media_roots import FoundFile, MediaRoot, MediaRoots
from app.immich.problems import ProblemKind, ProblemLog
from app.immich.source.reader import SourceReader
from app.immich.source.records import SourceAsset, SourceKey, SourceLibrary, SourceUser
from app.immich.translation import TranslatedAsset
from app.immich.unknown_files import compare_with_rows


class Progress(Protocol):
    def begin(self, stage: str, total: int | None) -> None: ...

    def advance(self, count: int, size: int = 0) -> None: ...


@dataclass(slots=True)
class PlanReport:
    """Counts of what an import would take over, and bytes of files. `assets`: all rows by type; `importable`: those that an import would
    take over, each looked at by itself: of two with one path or checksum it takes one. `refusals`: why an import would not begin."""

    version: str | None
    media_location: str | None
    users: int = 0
    api_keys: int = 0
    libraries: int = 0
    persons: int = 0
    assets: Counter[str] = field(default_factory=Counter[str])
    importable: Counter[str] = field(default_factory=Counter[str])
    external: int = 0
    trashed: int = 0
    locked: int = 0
    files: Counter[str] = field(default_factory=Counter[str])
    bytes: Counter[str] = field(default_factory=Counter[str])
    not_taken_over: dict[str, int] = field(default_factory=dict[str, int])
    refusals: list[str] = field(default_factory=list[str])
    problems: ProblemLog = field(default_factory=ProblemLog)

    def to_json(self) -> dict[str, object]:
        counted = {
            name: dict(sorted(getattr(self, name).items())) for name in ("assets", "importable", "files", "bytes")
        }
        plain = (
            "version",
            "media_location",
            "users",
            "api_keys",
            "libraries",
            "persons",
            "external",
            "trashed",
            "locked",
        )
        return {
            **{name: getattr(self, name) for name in plain},
            **counted,
            "not_taken_over": self.not_taken_over,
            "refusals": self.refusals,
            "problems": self.problems.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Owners:
    """Ids of users. `live`: those that Immich has not deleted, and that can be taken over."""

    all: frozenset[UUID]
    live: frozenset[UUID]


async def plan_import(reader: SourceReader, roots: MediaRoots, progress: Progress) -> PlanReport:
    """Reads every row and looks at every file; opens none. Raises `SourceUnavailable`."""
    report = PlanReport(await reader.read_version(), await reader.read_media_location())
    _add_columns(reader, report)
    users = await reader.list_users()
    live = (user.id for user in users if user.deleted_at is None and has_usable_email(user))
    owners = Owners(all=frozenset(user.id for user in users), live=frozenset(live))
    await _add_accounts(reader, roots, report, users, owners)
    found = await reader.list_libraries()
    libraries = [each for each in found if each.deleted_at is None and each.owner_id in owners.live]
    await _add_libraries(roots, report, libraries)
    await _add_persons(reader, roots, report, owners)
    await _add_assets(reader, roots, report, owners, {library.id for library in libraries}, progress)
    await _add_conflicts(reader, roots, report, progress)
    report.not_taken_over = await reader.count_not_taken_over()
    report.refusals += map(str, await find_refusals(reader, roots))
    return report


async def find_refusals(reader: SourceReader, roots: MediaRoots, *, accept_moves: bool = False) -> list[ImportRefused]:
    """Why nothing may be imported now."""
    refusals: list[ImportRefused] = []
    moves = await reader.count_moves()
    if moves and not accept_moves:
        refusals.append(
            MovesUnfinished(
                f"Immich has {moves} running or interrupted moves of files: let it finish them (job `Storage Template Migration`), "
                "or give `--accept-moves`, which takes whichever of the two paths holds the file"
            )
        )
    location = await reader.read_media_location()
    if location is None:
        return refusals
    root = roots.find_root(location)
    if root is None:
        refusals.append(ImportRefused(f"no --media-root translates {location}, Immich's media location"))
    elif not await asyncio.to_thread(_has_marker, root, location):
        refusals.append(
            NotMounted(f"{root.host} holds none of Immich's markers (upload/.immich and others): is it mounted?")
        )
    return refusals


def _has_marker(root: MediaRoot, location: str) -> bool:
    folder = Path(root.host + location[len(root.container) :])
    return any((folder / name / ".immich").is_file() for name in ("upload", "library", "thumbs"))


def _add_columns(reader: SourceReader, report: PlanReport) -> None:
    for name in reader.schema.missing:
        report.problems.add(ProblemKind.MISSING_COLUMN, name)
    for name in reader.schema.unknown:
        report.problems.add(ProblemKind.UNKNOWN_COLUMN, name)


async def _add_accounts(
    reader: SourceReader, roots: MediaRoots, report: PlanReport, users: Sequence[SourceUser], owners: Owners
) -> None:
    used = await reader.sum_used_bytes()
    report.users = len(owners.live)
    for user in users:
        if user.deleted_at is not None:
            report.problems.add(ProblemKind.DELETED_USER, user.email)
            continue
        if user.id not in owners.live:
            report.problems.add(ProblemKind.INVALID_EMAIL, user.email)
            continue
        if user.quota_usage is not None and user.quota_usage != used.get(user.id, 0):
            example = f"{user.email}: {user.quota_usage} bytes, the rows have {used.get(user.id, 0)}"
            report.problems.add(ProblemKind.QUOTA_USAGE, example)
        if not has_usable_password(user):
            report.problems.add(ProblemKind.INVALID_PASSWORD, user.email)
    await _add_files(roots, report, "profile", [user.profile_image_path for user in users if user.id in owners.live])
    for key in await reader.list_keys():
        if key.user_id in owners.live:
            _add_key(report, key)


def _add_key(report: PlanReport, key: SourceKey) -> None:
    if key.key_hash is None:
        report.problems.add(ProblemKind.INVALID_KEY, f"{key.id} {key.name}")
    else:
        report.api_keys += 1


async def _add_libraries(roots: MediaRoots, report: PlanReport, libraries: Sequence[SourceLibrary]) -> None:
    report.libraries = len(libraries)
    for library in libraries:
        for path in library.import_paths:
            translated = roots.translate(path.rstrip("/"))
            if not isinstance(translated, str):
                report.problems.add(translated.kind, path)
            elif not await asyncio.to_thread(Path(translated).is_dir):
                report.problems.add(ProblemKind.ABSENT_LIBRARY, f"{library.name}: {path}")


async def _add_persons(reader: SourceReader, roots: MediaRoots, report: PlanReport, owners: Owners) -> None:
    async for page in reader.iterate_persons():
        persons = [person for person in page if person.owner_id in owners.live]
        report.persons += len(persons)
        await _add_files(roots, report, "person", [person.thumbnail_path for person in persons])


async def _add_files(roots: MediaRoots, report: PlanReport, kind: str, paths: Sequence[str | None]) -> None:
    named = [path for path in paths if path]
    for path, found in (await asyncio.to_thread(roots.find_many, named)).items():
        if isinstance(found, FoundFile):
            _count_file(report, kind, found.size)
        else:
            report.problems.add(found.kind, path)


async def _add_assets(
    reader: SourceReader,
    roots: MediaRoots,
    report: PlanReport,
    owners: Owners,
    libraries: set[UUID],
    progress: Progress,
) -> None:
    """Assets of users who are not taken over are counted as rows only: these users are named."""
    progress.begin("assets", await reader.count_assets())
    async for page in AssetPages(reader, roots).iterate():
        for asset, translated in page.assets:
            if asset.owner_id not in owners.all:
                translated.refuse(ProblemKind.UNKNOWN_OWNER, f"{asset.id} {asset.original_path}")
            elif asset.owner_id not in owners.live:
                translated.asset = None
                translated.problems.clear()
            elif asset.library_id is not None and asset.library_id not in libraries:
                translated.refuse(ProblemKind.REMOVED_LIBRARY, f"{asset.id} {asset.original_path}")
            _count_asset(report, asset, translated)
        progress.advance(len(page.assets))


def _count_asset(report: PlanReport, asset: SourceAsset, translated: TranslatedAsset) -> None:
    report.assets[asset.type] += 1
    report.external += asset.is_external
    report.trashed += asset.deleted_at is not None
    report.locked += asset.visibility == "locked"
    for kind, example in translated.problems:
        report.problems.add(kind, example)
    imported = translated.asset
    if imported is not None:
        report.importable[asset.type] += 1
        for file in filter(None, (imported.original, imported.sidecar, *imported.derivatives)):
            _count_file(report, file.kind.value, file.size)


def _count_file(report: PlanReport, kind: str, size: int) -> None:
    report.files[kind] += 1
    report.bytes[kind] += size


async def _add_conflicts(reader: SourceReader, roots: MediaRoots, report: PlanReport, progress: Progress) -> None:
    conflicts = await reader.count_checksum_conflicts()
    if conflicts:
        report.problems.add(ProblemKind.CHECKSUM_CONFLICT, f"{conflicts} pairs of owner and checksum", conflicts)
    for root in roots.roots:
        progress.begin(f"files below {root.host}", None)

        def add_shared(path: str, rows: int, root: MediaRoot = root) -> None:
            if roots.find_root(path) is root:
                report.problems.add(ProblemKind.SHARED_PATH, f"{path} ({rows} rows)")

        def add_unknown(path: str) -> None:
            report.problems.add(ProblemKind.UNKNOWN_FILE, path)

        await compare_with_rows(reader, root, add_unknown, add_shared)
