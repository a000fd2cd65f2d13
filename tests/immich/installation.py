"""`Installation`: a small installation of Immich, made for real: its tables in PostgreSQL, and files in all of its folders. Each of the
ways in which an installation can be wrong is in it once."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import psycopg
from PIL import Image
from psycopg import sql

from tests.immich.tables import Generation, build_tables

PASSWORD = "immich password"
PASSWORD_HASH = "$2b$04$tCxj67CQvczKUdGUtOFF7ePNqQEHfkPKREB/msJD6Qg5BpoRFGQaO"
FIRST_DAY = datetime(2015, 3, 1, 12, tzinfo=UTC)
USERS = ("ada", "ben")
CONTAINER = "/data"
CONTAINER_PHOTOS = "/mnt/photos"
NO_LIBRARY = UUID(int=0)
_NO_SIGNS = str.maketrans("", "", "+/=")

Rows = dict[str, list[dict[str, Any]]]


@dataclass(slots=True)
class Installation:
    """`host`: the media location on this machine, `/data` in the database. `photos`: the folder of the external library, `/mnt/photos`.
    `traps`: the assets that are wrong, by what is wrong with them. `keys`: API keys by their user's name."""

    url: str
    host: Path
    photos: Path
    generation: Generation
    seed: int
    users: dict[str, UUID] = field(default_factory=dict[str, UUID])
    keys: dict[str, str] = field(default_factory=dict[str, str])
    library: UUID = NO_LIBRARY
    plain: list[UUID] = field(default_factory=list[UUID])
    """Assets with nothing wrong, of both users."""
    traps: dict[str, UUID] = field(default_factory=dict[str, UUID])
    contents: dict[UUID, bytes] = field(default_factory=dict[UUID, bytes], repr=False)
    _rows: Rows = field(default_factory=dict[str, list[dict[str, Any]]], repr=False)
    _dice: random.Random = field(default_factory=random.Random)
    _pictures: list[bytes] = field(default_factory=list[bytes], repr=False)
    _made: int = 0

    @classmethod
    def create(cls, url: str, folder: Path, generation: Generation, seed: int, *, assets: int = 60) -> Self:
        """`url`: an empty database. `assets`: how many there are beside those that are wrong."""
        made = cls(url, folder / "media", folder / "photos", generation, seed)
        made._dice.seed(seed)
        made._pictures = [_encode("JPEG"), _encode("WEBP")]
        with psycopg.connect(url) as connection:
            connection.execute(build_tables(generation).encode())
            connection.execute(
                "SET session_replication_role = replica"
            )  # rows of `COPY` come in no order of references
            made._fill(assets)
            for table, rows in made._rows.items():
                _copy(connection, table, rows)
        made._rows.clear()
        return made

    @property
    def media_roots(self) -> list[str]:
        """As for `--media-root`."""
        return [f"{CONTAINER}={self.host}", f"{CONTAINER_PHOTOS}={self.photos}"]

    @property
    def is_v3(self) -> bool:
        return self.generation is Generation.V3

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As Immich: change the rows. Returns the rows of a query."""
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(statement, parameters)  # pyright: ignore[reportArgumentType]
            return cursor.fetchall() if cursor.description else []

    def execute_named(self, statement: str, parameters: Mapping[str, Any]) -> None:
        """As `execute`, with named parameters; without checks of foreign keys."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode(), parameters)

    def log_in(self, name: str, *, expires_at: datetime | None = None) -> tuple[UUID, str]:
        """As Immich does with a password: the id of the session, and its token. `expires_at`: of v3 only."""
        session_id, token = self._id(), base64.b64encode(self._dice.randbytes(24)).decode().translate(_NO_SIGNS)
        values: dict[str, Any] = {
            "id": session_id, "token": self._store_hash(token), "userId": self.users[name], "deviceType": "Android",
        }  # fmt: skip
        if expires_at is not None:
            values["expiresAt"] = expires_at
        with psycopg.connect(self.url) as connection:
            _copy(connection, "session", [values])
        return session_id, token

    def to_host(self, path: str) -> Path:
        """Where the file at this path of Immich's lies."""
        if path.startswith(CONTAINER_PHOTOS + "/"):
            return self.photos / path[len(CONTAINER_PHOTOS) + 1 :]
        return self.host / path[len(CONTAINER) + 1 :]

    def fingerprint(self) -> tuple[dict[str, tuple[Any, ...]], dict[str, str]]:
        """Everything of Immich's: of each file bytes, times and inode; of each table all rows."""
        files = {
            str(path): (path.read_bytes() if path.is_file() else b"", *_identify(path))
            for folder in (self.host, self.photos)
            for path in sorted(folder.rglob("*"))
        }
        tables = self.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        query = "SELECT md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {} AS t"
        with psycopg.connect(self.url) as connection:
            rows = {
                name: str(connection.execute(sql.SQL(query).format(sql.Identifier(name))).fetchall())  # pyright: ignore[reportArgumentType]
                for (name,) in tables
            }
        return files, rows

    # Filling

    def _fill(self, assets: int) -> None:
        for name in ("upload", "library", "thumbs", "encoded-video", "profile", "backups"):
            self._write(f"{CONTAINER}/{name}/.immich", b"1700000000000")
        self._write(f"{CONTAINER}/backups/immich-db-backup.sql.gz", b"no rows name backups")
        for name in USERS:
            self._add_user(name)
        self._add_library()
        for number in range(assets):
            self.plain.append(self._add_usual(number))
        self._add_traps()
        self._add_installation_rows()

    def _add_user(self, name: str, **more: Any) -> UUID:
        user_id = self.users[name] = self._id()
        image = f"{CONTAINER}/profile/{user_id}/{self._id()}.jpg"
        self._write(image, self.picture())
        self._add_row(
            "user", id=user_id, email=f"{name}@example.org", name=name.title(), password=PASSWORD_HASH, isAdmin=name == "ada",
            storageLabel=name, quotaSizeInBytes=10**9 if name == "ben" else None, quotaUsageInBytes=0, profileImagePath=image,
            **more,
        )  # fmt: skip
        key = self.keys[name] = base64.b64encode(self._dice.randbytes(24)).decode()
        stored = self._store_hash(key)
        permissions = ["all"] if name == "ada" else ["asset.read", "asset.view", "asset.download"]
        self._add_row(
            "api_key", id=self._id(), name=f"{name}'s phone", key=stored, userId=user_id, permissions=permissions
        )
        person = self._id()
        path = f"{CONTAINER}/thumbs/{user_id}/{str(person)[:2]}/{str(person)[2:4]}/{person}.jpeg"
        self._write(path, self.picture())
        self._add_row("person", id=person, ownerId=user_id, name=f"{name}'s friend", thumbnailPath=path)
        return user_id

    def _store_hash(self, secret: str) -> bytes | str:
        digest = hashlib.sha256(secret.encode()).digest()
        return digest if self.is_v3 else base64.b64encode(digest).decode()

    def _add_library(self) -> None:
        self.library = self._id()
        self._add_row(
            "library", id=self.library, name="Old disk", ownerId=self.users["ada"], importPaths=[CONTAINER_PHOTOS],
            exclusionPatterns=["**/@eaDir/**"],
        )  # fmt: skip

    def _add_usual(self, number: int) -> UUID:
        """An asset with nothing wrong; every kind comes in turn."""
        owner = USERS[number % 2]
        kind = number % 10
        if kind == 1:
            return self._add_video(owner)
        if kind == 2:
            return self._add_external(owner="ada", name=f"{number // 100}/IMG_{number}.jpg")
        if kind == 3:
            video = self._add_video(owner, hidden=True)
            return self._add_asset(owner, livePhotoVideoId=video)
        if kind == 4:
            return self._add_asset(owner, template=True)
        more: dict[str, Any] = {
            5: {"isFavorite": True},
            6: {"visibility": "archive"},
            7: {"visibility": "locked"},
            8: {"deletedAt": FIRST_DAY + timedelta(days=3000), "status": "trashed"},
        }.get(kind, {})
        return self._add_asset(owner, sidecar=kind == 9, **more)

    def _add_asset(
        self, owner: str, *, template: bool = False, sidecar: bool = False, made: Sequence[str] = ("preview", "thumbnail"),
        path: str | None = None, content: bytes | None = None, suffix: str = ".jpg", write: bool = True, size: int | None = None,
        **values: Any,
    ) -> UUID:  # fmt: skip
        asset_id, user_id = self._id(), self.users[owner]
        content = self.picture() if content is None else content
        self._made += 1
        name = f"IMG_{self._made}{suffix}"
        if path is None:
            where, named = self._id(), f"{CONTAINER}/library/{owner}/2015/{self._made % 7}/{name}"
            path = (
                named
                if template
                else f"{CONTAINER}/upload/{user_id}/{str(where)[:2]}/{str(where)[2:4]}/{where}{suffix}"
            )
        if write:
            self._write(path, content)
        self.contents[asset_id] = content
        taken = FIRST_DAY + timedelta(hours=self._made)
        row: dict[str, Any] = {
            "id": asset_id, "ownerId": user_id, "type": "IMAGE", "originalPath": path, "originalFileName": name,
            "fileCreatedAt": taken, "fileModifiedAt": taken, "localDateTime": taken + timedelta(hours=1),
            "checksum": hashlib.sha1(content).digest(), "thumbhash": self._dice.randbytes(21), "createdAt": taken + timedelta(days=400),
            "updatedAt": taken + timedelta(days=401),
        }  # fmt: skip
        if self.is_v3:
            row |= {"width": 32, "height": 24}
        else:
            row |= {"deviceAssetId": name, "deviceId": "phone"}
        if sidecar:
            self._add_beside(asset_id, row, "sidecar", f"{path}.xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
        for kind in made:
            extension = "webp" if kind == "thumbnail" else "jpeg"
            separator = "_" if self.is_v3 else "-"
            folder = f"{CONTAINER}/thumbs/{user_id}/{str(asset_id)[:2]}/{str(asset_id)[2:4]}"
            self._add_beside(
                asset_id, row, kind, f"{folder}/{asset_id}{separator}{kind}.{extension}", self.picture(kind)
            )
        self._add_row("asset", **row | values)
        self._add_row(
            "asset_exif", assetId=asset_id, make="Canon", model="EOS 5D", exifImageWidth=32, exifImageHeight=24,
            fileSizeInByte=len(content) if size is None else size, orientation="1", dateTimeOriginal=taken, fNumber=2.8, iso=200,
            latitude=52.52, longitude=13.4, city="Berlin", country="Germany", timeZone="UTC+1", rating=4, description=f"nº {self._made}",
        )  # fmt: skip
        return asset_id

    def _add_beside(self, asset_id: UUID, row: dict[str, Any], kind: str, path: str, content: bytes) -> None:
        """A file beside the original; older versions name some of them in the asset's row."""
        self._write(path, content)
        former = {"sidecar": "sidecarPath", "encoded_video": "encodedVideoPath"}
        if kind in former and not self.is_v3:
            row[former[kind]] = path
        else:
            self._add_row("asset_file", assetId=asset_id, type=kind, path=path)

    def _add_video(self, owner: str, *, hidden: bool = False, **values: Any) -> UUID:
        user_id = self.users[owner]
        name = self._id()
        path = None
        if hidden:
            path = f"{CONTAINER}/encoded-video/{user_id}/{str(name)[:2]}/{str(name)[2:4]}/{name}-MP.mp4"
            values["visibility"] = "hidden"
        content = b"a video " + self._dice.randbytes(200)
        encoded = f"{CONTAINER}/encoded-video/{user_id}/{str(name)[:2]}/{str(name)[2:4]}/{name}.mp4"
        row: dict[str, Any] = {"type": "VIDEO", "duration": 1234 if self.is_v3 else "0:00:01.234000"}
        asset_id = self._add_asset(owner, path=path, content=content, suffix=".mp4", **row | values)
        self._add_beside(asset_id, self._rows["asset"][-1], "encoded_video", encoded, b"playable " + content)
        return asset_id

    def _add_external(self, owner: str, name: str, **values: Any) -> UUID:
        path = f"{CONTAINER_PHOTOS}/{name}"
        of_path = hashlib.sha1(f"path:{path}".encode()).digest()
        row = {
            "isExternal": True,
            "libraryId": self.library,
            "checksum": of_path,
            "originalFileName": name.rpartition("/")[2],
        }
        if self.is_v3:
            row["checksumAlgorithm"] = "sha1-path"
        return self._add_asset(owner, path=path, **row | values)

    def _add_traps(self) -> None:
        traps = self.traps
        traps["missing file"] = self._add_asset("ada", write=False)
        traps["size differs"] = self._add_asset("ada", size=7)
        traps["checksum of other bytes"] = self._add_asset("ada", checksum=hashlib.sha1(b"other bytes").digest())
        traps["invalid checksum"] = self._add_asset("ada", checksum=b"abc")
        secret = self.host.parent / "secret.jpg"
        secret.write_bytes(b"not Immich's")
        traps["outside"] = self._add_asset("ada", path=str(secret), write=False)
        traps["dotdot"] = self._add_asset("ada", path=f"{CONTAINER}/upload/../../secret.jpg", write=False)
        traps["link"] = self._add_asset("ada", path=f"{CONTAINER}/upload/link.jpg", write=False)
        (self.host / "upload" / "link.jpg").symlink_to(secret)
        outside = self.host.parent / "outside"
        outside.mkdir()
        (outside / "IMG.jpg").write_bytes(b"not Immich's either")
        (self.host / "upload" / "linked").symlink_to(outside)
        traps["linked folder"] = self._add_asset("ada", path=f"{CONTAINER}/upload/linked/IMG.jpg", write=False)
        shared = self.picture()
        traps["shared path"] = self._add_asset("ada", path=f"{CONTAINER}/upload/shared.jpg", content=shared)
        self._add_asset("ben", path=f"{CONTAINER}/upload/shared.jpg", content=shared)
        twice = self.picture()
        traps["same checksum"] = self._add_asset("ben", content=twice)
        self._add_asset("ben", content=twice)
        self._add_more_traps()

    def _add_more_traps(self) -> None:
        traps = self.traps
        traps["offline"] = self._add_external("ada", "gone.jpg", isOffline=True, write=False)
        self._add_asset("ada", status="deleted", deletedAt=FIRST_DAY, write=False)
        lost = self._add_video("ben", hidden=True, write=False)
        traps["lost video"] = self._add_asset("ben", livePhotoVideoId=lost)
        traps["unusable date"] = self._add_asset(
            "ada", fileCreatedAt="infinity", localDateTime="0044-03-15 00:00:00+00 BC"
        )
        traps["late date"] = self._add_asset("ada", fileModifiedAt="10000-01-01 00:00:00+00")
        traps["odd name"] = self._add_asset("ada", originalFileName="two\nlines.jpg")
        traps["not processed"] = self._add_asset("ada", made=())
        traps["no thumbhash"] = self._add_asset("ada", thumbhash=None)
        traps["no thumbnail"] = self._add_asset("ada")
        path = next(row["path"] for row in reversed(self._rows["asset_file"]) if row["type"] == "thumbnail")
        self.to_host(path).unlink()
        self._add_row("asset_file", assetId=traps["odd name"], type="hologram", path=f"{CONTAINER}/thumbs/hologram")
        self._write(f"{CONTAINER}/upload/stray.jpg", b"no row")
        self._add_user("gone", deletedAt=FIRST_DAY, status="deleted")
        traps["of a deleted user"] = self._add_asset("gone")
        if self.is_v3:
            edited = f"{CONTAINER}/thumbs/{traps['odd name']}_preview_edited.jpeg"
            self._write(edited, self.picture())
            self._add_row("asset_file", assetId=traps["odd name"], type="preview", path=edited, isEdited=True)

    def _add_installation_rows(self) -> None:
        for table, count in (("album", 3), ("tag", 2), ("shared_link", 1), ("asset_face", 5)):
            for _ in range(count):
                self._add_row(table, id=self._id())
        self._add_row("system_metadata", key="MediaLocation", value='{"location": "/data"}')
        version = "3.0.1" if self.is_v3 else "2.5.6"
        self._add_row("version_history", id=self._id(), version=version)
        used = dict.fromkeys(self.users.values(), 0)
        owners = {row["id"]: row["ownerId"] for row in self._rows["asset"] if row.get("libraryId") is None}
        for row in self._rows["asset_exif"]:
            if row["assetId"] in owners:
                used[owners[row["assetId"]]] += row["fileSizeInByte"]
        for row in self._rows["user"]:
            row["quotaUsageInBytes"] = used[row["id"]] + (5 if row["name"] == "Ben" else 0)

    def _add_row(self, table: str, **values: Any) -> None:
        self._rows.setdefault(table, []).append(values)

    def _write(self, path: str, content: bytes) -> None:
        file = self.to_host(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def picture(self, kind: str = "preview") -> bytes:
        """A picture that no other one equals: bytes after the end of a JPEG are ignored."""
        return self._pictures[kind == "thumbnail"] + self._dice.randbytes(8)

    def _id(self) -> UUID:
        return UUID(int=self._dice.getrandbits(128), version=4)


def _encode(format_: str) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (32, 24), (40, 90, 140)).save(output, format_)
    return output.getvalue()


def _identify(path: Path) -> tuple[int, int, int]:
    status = os.lstat(path)
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _copy(connection: psycopg.Connection[Any], table: str, rows: list[dict[str, Any]]) -> None:
    """Rows of a table need not have the same columns."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_columns.setdefault(tuple(row), []).append(row)
    for columns, alike in by_columns.items():
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
        with connection.cursor().copy(statement) as copy:
            for row in alike:
                copy.write_row(list(row.values()))
