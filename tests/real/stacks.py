"""Stacks: storage and database of a service under test. A folder and SQLite, or a prefix of a bucket and PostgreSQL."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.real.databases import DatabaseFactory, DatabaseKind
from tests.real.seaweedfs import Identity, SeaweedFS
from tests.real.secrets import record_secret

Engine = Literal["local", "s3"]
ENGINES: tuple[Engine, Engine] = ("local", "s3")
Database = DatabaseKind
USUAL: dict[Engine, Database] = {"local": "sqlite", "s3": "postgresql"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """The S3 half of a stack: `identity` has rights below `prefix` of bucket `name`, and nowhere else."""

    server: SeaweedFS
    name: str
    prefix: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class Stack:
    """`settings` are those of a service on it. `folder` holds the SQLite catalogue and local media."""

    engine: Engine
    folder: Path
    db_url: str
    bucket: Bucket | None

    @property
    def media(self) -> Path:
        return self.folder / "media"

    @property
    def settings(self) -> dict[str, str]:
        settings = {
            "IMMICH_STORAGE_ENGINE": self.engine,
            "IMMICH_MEDIA_LOCATION": str(self.media),
            "DB_URL": self.db_url,
        }
        if self.bucket:
            settings |= {
                "S3_ENDPOINT": self.bucket.server.endpoint,
                "S3_REGION": "us-east-1",
                "S3_BUCKET": self.bucket.name,
                "S3_PREFIX": self.bucket.prefix,
                "S3_ACCESS_KEY_ID": self.bucket.identity.access_key,
                "S3_SECRET_ACCESS_KEY": self.bucket.identity.secret_key,
            }
        return settings

    def objects(self) -> dict[str, int]:
        """All stored objects, local and in the bucket: path as in the catalogue to size in bytes. Listed without the code under test."""
        stored: dict[str, int] = {}
        if self.bucket:
            listed = self.bucket.server.objects(self.bucket.name, f"{self.bucket.prefix}/")
            stored |= {f"s3://{self.bucket.name}/{key}": size for key, size in listed.items() if not _is_tail(key)}
        for entry in _find_files(str(self.media)):
            with suppress(FileNotFoundError):  # it may be deleted meanwhile
                if not _temporary(entry.name):
                    stored[entry.path] = entry.stat().st_size
        return stored

    def staged(self) -> list[str]:
        """Files in the default staging folder of a service that runs in `folder`."""
        return sorted(str(path) for path in (self.folder / "data" / "staging").glob("*/*") if path.name != "lock")

    def leftovers(self) -> list[str]:
        """Leftovers of unfinished writes: temporary files, multipart uploads and tails."""
        left: list[str] = []
        if self.bucket:
            left += filter(_is_tail, self.bucket.server.objects(self.bucket.name, f"{self.bucket.prefix}/"))
            left += sorted(self.bucket.server.unfinished_uploads(self.bucket.name, f"{self.bucket.prefix}/").values())
        return left + [entry.path for entry in _find_files(str(self.media)) if _temporary(entry.name)]


class Stacks:
    """Creates stacks. S3 stacks share the session's servers and one bucket, each with a prefix of its own."""

    def __init__(self, seaweedfs: Callable[[], SeaweedFS], databases: DatabaseFactory) -> None:
        self._seaweedfs = seaweedfs
        self._databases = databases
        self._bucket: str | None = None

    def create(
        self,
        engine: Engine,
        folder: Path,
        *,
        server: SeaweedFS | None = None,
        database: Database | None = None,
        tables: bool = True,
    ) -> Stack:
        """`server` replaces the shared S3 server, `database` the engine's default database. Without `tables` the catalogue has none, as before the
        first start of a new installation."""
        create = self._databases.create if tables else self._databases.create_empty
        db_url = create(database or USUAL[engine], folder / "catalogue.db")
        if engine == "local":
            return Stack(engine, folder, db_url, None)
        bucket = prefix_of(server, server.create_bucket()) if server else self._prefix_of_shared_bucket()
        return Stack(engine, folder, db_url, bucket)

    def _prefix_of_shared_bucket(self) -> Bucket:
        server = self._seaweedfs()
        self._bucket = self._bucket or server.create_bucket()
        return prefix_of(server, self._bucket)


def prefix_of(server: SeaweedFS, bucket: str) -> Bucket:
    """A new prefix of `bucket`, and an identity with all rights there and none elsewhere."""
    label = secrets.token_hex(6)
    prefix = f"tests/{label}"
    identity = server.add_prefix_identity(f"service-{label}-", bucket, prefix)
    record_secret(identity.secret_key)
    return Bucket(server, bucket, prefix, identity)


def _is_tail(key: str) -> bool:
    """Whether the object holds the last bytes of an unfinished upload: its folder has the name of a temporary file."""
    return any(map(_temporary, key.split("/")[:-1]))


def _find_files(folder: str) -> Iterator[os.DirEntry[str]]:
    """The files that `os.walk` finds, in half the time. Like there, a folder that is gone or unreadable has none."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield entry
            elif not entry.is_symlink():
                yield from _find_files(entry.path)


def _temporary(name: str) -> bool:
    return name.startswith(".mediavault-") and name.endswith(".tmp")
