"""A folder of another program, as Immich lays it out, with real pictures; and the rows of its files in our catalogue."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import insert

from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.foreign_files import insert_foreign_files
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, FileKind, ForeignFile, Visibility
from tests.api.photos import photo

TreeState = dict[str, tuple[int, int, int, int, str]]
TAKEN = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ForeignAsset:
    """An asset whose files lie in the folder: their paths by kind."""

    id: UUID
    owner_id: UUID
    file_id: UUID
    content: bytes
    paths: dict[FileKind, Path]

    @property
    def path(self) -> Path:
        return self.paths[FileKind.ORIGINAL]


@dataclass(slots=True)
class ForeignTree:
    root: Path
    assets: list[ForeignAsset] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("upload", "thumbs", "library"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            (self.root / folder / ".immich").write_text("1700000000000")

    async def add(
        self,
        catalog: Catalog,
        owner_id: UUID,
        *,
        content: bytes | None = None,
        name: str | None = None,
        sidecar: bool = False,
        derivatives: bool = True,
        taken: datetime = TAKEN,
    ) -> ForeignAsset:
        """Write an asset's files as Immich does, and insert its rows as an import does. Derivatives have no checksum."""
        await catalog.foreign_files.add_root(str(self.root))
        asset_id, data = uuid4(), content or photo()
        paths = {FileKind.ORIGINAL: self.root / "library" / str(owner_id) / "2021" / (name or f"{asset_id}.jpg")}
        if sidecar:
            paths[FileKind.SIDECAR] = paths[FileKind.ORIGINAL].with_suffix(".jpg.xmp")
        if derivatives:
            folder = self.root / "thumbs" / str(owner_id) / str(asset_id)[:2] / str(asset_id)[2:4]
            paths[FileKind.PREVIEW] = folder / f"{asset_id}_preview.jpeg"
            paths[FileKind.THUMBNAIL] = folder / f"{asset_id}_thumbnail.webp"
        contents = {kind: data if kind is FileKind.ORIGINAL else photo(f"{kind} {asset_id}") for kind in paths}
        for kind, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[kind])
            os.utime(path, (taken.timestamp(), taken.timestamp()))
        files = {kind: _describe(owner_id, kind, path, contents[kind]) for kind, path in paths.items()}
        await _insert(catalog, asset_id, files, taken)
        added = ForeignAsset(asset_id, owner_id, files[FileKind.ORIGINAL].id, data, paths)
        self.assets.append(added)
        return added

    def state(self) -> TreeState:
        """Mode, inode, size, modification time and content of every file and folder."""
        found: TreeState = {}
        for place, _, names in os.walk(self.root):
            for path in (Path(place), *(Path(place) / name for name in names)):
                status = path.lstat()
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                found[str(path)] = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, content)
        return found


def _describe(owner_id: UUID, kind: FileKind, path: Path, content: bytes) -> ForeignFile:
    is_original = kind is FileKind.ORIGINAL
    return ForeignFile(
        uuid4(),
        owner_id,
        kind,
        str(path),
        len(content),
        "application/xml" if kind is FileKind.SIDECAR else "image/jpeg",
        hashlib.sha1(content).digest() if is_original else None,
        zlib.crc32(content) if is_original else None,
    )


async def _insert(catalog: Catalog, asset_id: UUID, files: dict[FileKind, ForeignFile], taken: datetime) -> None:
    original, sidecar = files[FileKind.ORIGINAL], files.get(FileKind.SIDECAR)
    moment = now()
    asset = {
        "id": asset_id, "owner_id": original.owner_id, "type": AssetType.IMAGE, "file_id": original.id,
        "sidecar_id": sidecar.id if sidecar else None, "checksum": original.sha1,
        "original_file_name": Path(original.path).name, "file_created_at": taken, "file_modified_at": taken,
        "local_date_time": taken + timedelta(hours=1), "created_at": moment, "updated_at": moment,
        "is_favorite": False, "visibility": Visibility.TIMELINE, "is_offline": False,
    }  # fmt: skip
    derivatives = [
        {"asset_id": asset_id, "kind": kind, "file_id": file.id}
        for kind, file in files.items()
        if kind not in (FileKind.ORIGINAL, FileKind.SIDECAR)
    ]
    async with catalog.database.write() as connection:
        await insert_foreign_files(connection, list(files.values()))
        await connection.execute(insert(tables.asset).values(asset))
        if derivatives:
            await connection.execute(insert(tables.derivative), derivatives)
