"""Immich's markers, before an adoption: a folder without its marker is not mounted, or is not Immich's."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.foreign_files import insert_foreign_files
from app.catalog.schema.import_records import ImportedUser, ImportPhase, ImportSource
from app.catalog.schema.records import FileKind, ForeignFile
from app.immich.errors import MarkerMissing
from app.immich.markers import FOLDERS, LOCATION_FLAG, record_media_location, require_markers
from tests.real.catalogues import catalog, database, databases, db_url

__all__ = ["catalog", "database", "databases", "db_url"]

NAME = "immich"


@pytest.fixture
async def owner(catalog: Catalog) -> UUID:
    user = ImportedUser(uuid4(), "ada@example.org", "Ada", False, None, None, None, None, now(), now())
    await catalog.imported_accounts.apply_user(user)
    return user.id


def make_folders(location: Path, *names: str) -> None:
    """With their markers."""
    for name in names:
        (location / name).mkdir(parents=True)
        (location / name / ".immich").write_text("1700000000000")


async def add_file(catalog: Catalog, owner: UUID, path: Path) -> None:
    file = ForeignFile(uuid4(), owner, FileKind.ORIGINAL, str(path), 3, "image/jpeg", None, None)
    async with catalog.database.write() as connection:
        await insert_foreign_files(connection, [file])


async def begin(catalog: Catalog, *media_roots: str) -> None:
    """As an import does with these folders, of an installation at `/data`."""
    moment = now()
    await catalog.import_sources.begin(
        ImportSource(NAME, media_roots, None, ImportPhase.DONE, None, moment, None, None)
    )
    for root in media_roots:
        await catalog.foreign_files.add_root(root.partition("=")[2])
    await record_media_location(catalog, "/data")


@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "not recorded"])
async def test_each_folder_with_files_needs_its_marker(
    catalog: Catalog, owner: UUID, tmp_path: Path, *, is_recorded: bool
) -> None:
    make_folders(tmp_path, *FOLDERS)
    if is_recorded:
        await begin(catalog, f"/data={tmp_path}")
        assert await catalog.installation.get_flag(LOCATION_FLAG) == "/data"
    else:
        await catalog.foreign_files.add_root(str(tmp_path))
    for name in ("upload", "thumbs"):
        await add_file(catalog, owner, tmp_path / name / "ab" / "IMG.jpg")
    await require_markers(catalog, NAME)

    (tmp_path / "backups" / ".immich").unlink()
    await require_markers(catalog, NAME)
    (tmp_path / "thumbs" / ".immich").unlink()
    with pytest.raises(MarkerMissing, match=f"in {tmp_path}/thumbs: is it mounted"):
        await require_markers(catalog, NAME)
    (tmp_path / "upload" / ".immich").rename(tmp_path / "aside")
    (tmp_path / "upload" / ".immich").symlink_to(tmp_path / "aside")
    with pytest.raises(MarkerMissing, match=f"in {tmp_path}/upload, {tmp_path}/thumbs: "):
        await require_markers(catalog, NAME)


async def test_folders_are_found_where_the_import_has_found_them(catalog: Catalog, owner: UUID, tmp_path: Path) -> None:
    """One below another root, which is no media location; one on a disk of its own; a library without a marker."""
    main, disk, photos = tmp_path / "srv" / "library" / "immich", tmp_path / "ssd", tmp_path / "photos"
    make_folders(main, "upload")
    disk.mkdir()
    await begin(catalog, f"/data/thumbs={disk}", f"/data={main}", f"/mnt/photos={photos}")
    for path in (main / "upload" / "IMG.jpg", disk / "ab" / "preview.jpeg", photos / "IMG.jpg"):
        await add_file(catalog, owner, path)
    with pytest.raises(MarkerMissing, match=f"in {disk}: is it mounted"):
        await require_markers(catalog, NAME)
    (disk / ".immich").write_text("1700000000000")
    await require_markers(catalog, NAME)
