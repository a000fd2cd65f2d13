"""Takes over Immich's users, API keys, libraries and persons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from app.catalog.accounts.bcrypt_hashes import is_bcrypt_hash
from app.catalog.accounts.users import validate_email
from app.catalog.catalog import Catalog
from app.catalog.errors import EmailTaken, InvalidEmail
from app.catalog.schema.import_records import (
    ImportedFile,
    ImportedKey,
    ImportedLibrary,
    ImportedPerson,
    ImportedUser,
)
from app.catalog.schema.records import FileKind
from app.immich.errors import ImportRefused
from app.immich.media_roots import MediaRoots, PathProblem
from app.immich.problems import ProblemKind, ProblemLog
from app.immich.source.reader import PAGE_ROWS, SourceReader
from app.immich.source.records import SourceDate, SourceLibrary, SourceUser
from app.immich.translation import build_file

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AccountImport:
    """All methods raise `SourceUnavailable` and `CatalogError`. `owners` are the users that were taken over."""

    def __init__(self, catalog: Catalog, reader: SourceReader, roots: MediaRoots, problems: ProblemLog) -> None:
        self._catalog = catalog
        self._reader = reader
        self._roots = roots
        self._problems = problems

    async def import_users(
        self, emails: Sequence[str] | None, *, dry_run: bool, accept_vanished: bool = False
    ) -> list[UUID]:
        """The ids of the users whose assets are to be taken over. `emails`: only these; None: all. Deleted users are left out, unless
        they came over before: these can no longer log in. Raises `ImportRefused`, before anything is changed, for an unknown address, and
        where Immich has none of the users that came over before, as in the database of another installation, unless `accept_vanished`."""
        all_users = await self._reader.list_users()
        known = await self._catalog.imported_accounts.list_user_ids()
        if known and known.isdisjoint(user.id for user in all_users) and not accept_vanished:
            raise ImportRefused(
                f"Immich has none of the {len(known)} users that were taken over: is it the database of another installation? "
                "If they were deleted, `mediavault immich import --accept-vanished` closes their accounts"
            )
        users = all_users if emails is None else _select_users(all_users, emails)
        owners: list[UUID] = []
        for user in users:
            if user.deleted_at is not None:
                self._problems.add(ProblemKind.DELETED_USER, user.email)
                owners += [user.id] if user.id in known else []
                continue
            if not has_usable_password(user):
                self._problems.add(ProblemKind.INVALID_PASSWORD, user.email)
            if await self._import_user(user, dry_run=dry_run):
                owners.append(user.id)
        if not dry_run:
            there = {user.id for user in all_users if user.deleted_at is None}
            await self._catalog.imported_accounts.close_accounts(known - there)
        return owners

    async def _import_user(self, user: SourceUser, *, dry_run: bool) -> bool:
        """Returns False where it cannot be taken over."""
        created = _date(user.created_at)
        image = await self._find_file(user.id, FileKind.PROFILE, user.profile_image_path)
        changed_at = user.profile_changed_at if image is not None else None
        imported = ImportedUser(
            id=user.id,
            email=user.email,
            name=user.name,
            is_admin=user.is_admin,
            quota=user.quota,
            password_hash=user.password,
            profile_image=image,
            profile_changed_at=changed_at if isinstance(changed_at, datetime) else None,
            created_at=created,
            updated_at=_date(user.updated_at, created),
        )
        try:
            if dry_run:
                await self._catalog.imported_accounts.check_email(user.id, user.email)
            else:
                await self._catalog.imported_accounts.apply_user(imported)
        except EmailTaken:
            self._problems.add(ProblemKind.EMAIL_CONFLICT, user.email)
            return False
        except InvalidEmail:
            self._problems.add(ProblemKind.INVALID_EMAIL, user.email)
            return False
        return True

    async def import_keys(self, owners: Sequence[UUID], *, dry_run: bool) -> int:
        """Keys of deleted users, and keys that Immich has revoked, end. Returns how many keys there are."""
        keys: list[ImportedKey] = []
        deleted = {user.id for user in await self._reader.list_users() if user.deleted_at is not None}
        for key in await self._reader.list_keys():
            if key.user_id not in owners or key.user_id in deleted:
                continue
            if key.key_hash is None:
                self._problems.add(ProblemKind.INVALID_KEY, f"{key.id} {key.name}")
                continue
            created = _date(key.created_at)
            updated = _date(key.updated_at, created)
            keys.append(ImportedKey(key.id, key.user_id, key.name, key.key_hash, key.permissions, created, updated))
        refused = [] if dry_run else await self._catalog.imported_accounts.apply_keys(keys, owners)
        for key_id in refused:
            self._problems.add(ProblemKind.INVALID_KEY, f"{key_id} has the secret of another key")
        return len(keys) - len(refused)

    async def import_libraries(self, owners: Sequence[UUID], *, dry_run: bool) -> set[UUID]:
        """Returns the libraries whose assets are to be taken over."""
        libraries = [
            self._translate_library(library)
            for library in await self._reader.list_libraries()
            if library.owner_id in owners and library.deleted_at is None
        ]
        if not dry_run:
            await self._catalog.imported_libraries.apply(libraries)
        return {library.id for library in libraries}

    def _translate_library(self, library: SourceLibrary) -> ImportedLibrary:
        paths: list[str] = []
        for path in library.import_paths:
            translated = self._roots.translate(path.rstrip("/"))
            if isinstance(translated, PathProblem):
                self._problems.add(translated.kind, f"{library.name}: {path}")
            else:
                paths.append(translated)
        created = _date(library.created_at)
        return ImportedLibrary(
            id=library.id,
            owner_id=library.owner_id,
            name=library.name,
            import_paths=tuple(paths),
            exclusion_patterns=library.exclusion_patterns,
            created_at=created,
            updated_at=_date(library.updated_at, created),
        )

    async def import_persons(self, owners: Sequence[UUID], since: datetime | None = None, *, dry_run: bool) -> int:
        """`since`: only those that Immich has written then or later. Returns how many there were."""
        count = 0
        async for page in self._reader.iterate_persons(since):
            persons: list[ImportedPerson] = []
            for person in page:
                if person.owner_id in owners:
                    thumbnail = await self._find_file(person.id, FileKind.PERSON, person.thumbnail_path)
                    created = _date(person.created_at)
                    updated = _date(person.updated_at, created)
                    imported = ImportedPerson(person.id, person.owner_id, person.name, thumbnail, created, updated)
                    persons.append(imported)
            if not dry_run:
                await self._catalog.imported_accounts.apply_persons(persons)
            count += len(persons)
        if since is None and not dry_run:
            await self._remove_persons()
        return count

    async def _remove_persons(self) -> None:
        """Persons that Immich has no more."""
        after = UUID(int=0)
        while page := await self._catalog.imported_accounts.get_persons_with_foreign_thumbnail(after, PAGE_ROWS):
            last = page[-1][0]
            there = await self._reader.list_ids("person", after, last)
            await self._catalog.imported_accounts.remove_persons([pair for pair in page if pair[0] not in there])
            after = last

    async def _find_file(self, owner: UUID, kind: FileKind, path: str | None) -> ImportedFile | None:
        if path is None:
            return None
        found = await asyncio.to_thread(self._roots.find, path)
        if isinstance(found, PathProblem):
            self._problems.add(found.kind, path)
            return None
        return build_file(owner, kind, found)


def has_usable_password(user: SourceUser) -> bool:
    """False if there is one, but none that a login could be compared with. Users without one log in by other means at Immich."""
    return user.password is None or is_bcrypt_hash(user.password)


def has_usable_email(user: SourceUser) -> bool:
    try:
        validate_email(user.email)
    except InvalidEmail:
        return False
    return True


def _select_users(users: Sequence[SourceUser], emails: Sequence[str]) -> list[SourceUser]:
    """Raises `ImportRefused` for an address that no user has."""
    wanted = {email.strip().lower() for email in emails}
    unknown = wanted - {user.email.lower() for user in users}
    if unknown:
        raise ImportRefused(f"Immich has no user {', '.join(sorted(unknown))}")
    return [user for user in users if user.email.lower() in wanted]


def _date(date: SourceDate, fallback: datetime = _EPOCH) -> datetime:
    return date if isinstance(date, datetime) else fallback
