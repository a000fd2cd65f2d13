"""The paths that the catalogue stores: an absolute local path, or `s3://<bucket>/<key>` with the key verbatim. No I/O.

Prefixes match by whole segments: `/data` never holds `/database`.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.storage.errors import InvalidKey
from app.storage.key import MAX_KEY_BYTES, Key

_SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """The local media folder; `root` is absolute, as the settings have it."""

    root: str

    def to_path(self, key: Key) -> str:
        return f"{self.path_prefix}{key}"

    def to_listed_path(self, name: str) -> str:
        """As `to_path`, for the name of an object that others put there: it need not be a key."""
        return f"{self.path_prefix}{name}"

    def contains(self, path: str) -> bool:
        return path.startswith(self.path_prefix)

    def to_key(self, path: str) -> Key | None:
        """The key of a path below the folder, None for other paths. Raises `InvalidKey` where the rest is no key."""
        return Key(path.removeprefix(self.path_prefix)) if self.contains(path) else None

    @property
    def path_prefix(self) -> str:
        """What the paths of the area begin with."""
        return self.root.rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class BucketPaths:
    """What the settings say is ours in S3: everything below `prefix` (may be empty) of `bucket`."""

    bucket: str
    prefix: str

    def to_path(self, key: Key) -> str:
        """Raises `InvalidKey` where it is longer with the prefix than S3 allows."""
        path = f"{self.path_prefix}{key}"
        if len(path.removeprefix(f"{_SCHEME}{self.bucket}/").encode()) > MAX_KEY_BYTES:
            raise InvalidKey(key.value, "s3", f"longer than {MAX_KEY_BYTES} bytes with the prefix")
        return path

    def to_listed_path(self, name: str) -> str:
        """As `to_path`, for the name of an object that others put there: it need not be a key."""
        return f"{self.path_prefix}{name}"

    def contains(self, path: str) -> bool:
        return path.startswith(self.path_prefix)

    def to_key(self, path: str) -> Key | None:
        """As `LocalPaths.key`."""
        return Key(path.removeprefix(self.path_prefix)) if self.contains(path) else None

    @property
    def path_prefix(self) -> str:
        """As `LocalPaths.base`."""
        prefix = self.prefix.strip("/")
        return f"{_SCHEME}{self.bucket}/{prefix}/" if prefix else f"{_SCHEME}{self.bucket}/"


def is_s3_uri(path: str) -> bool:
    return path.startswith(_SCHEME)


def parse_s3_uri(path: str) -> tuple[str, str]:
    """The bucket and the key's text (the prefix among it) of an `s3://` URI. Nothing is decoded: `%20` are three characters. Raises `InvalidKey`."""
    bucket, slash, key = path.removeprefix(_SCHEME).partition("/")
    if not is_s3_uri(path) or not bucket or not slash or not key:
        raise InvalidKey(path, "path", "is no s3://<bucket>/<key>")
    return bucket, key


def check_local_path(path: str) -> str:
    """The path as it is, when it is absolute and says one place plainly. Raises `InvalidKey`."""
    if not path.startswith("/"):
        raise InvalidKey(path, "path", "is neither an absolute path nor an s3:// URI")
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidKey(path, "path", "cannot be the name of a file") from None
    if "\0" in path:
        raise InvalidKey(path, "path", "holds a NUL character")
    if any(segment in ("", ".", "..") for segment in path[1:].split("/")):
        raise InvalidKey(path, "path", "has an empty, '.' or '..' segment")
    return path
