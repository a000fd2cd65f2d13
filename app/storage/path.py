"""Translates between keys and the paths that the catalogue stores. No I/O.

A path is an absolute local path, or `s3://<bucket>/<key>` with the key verbatim.

Prefixes match by whole segments: `/data` never holds `/database`.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.storage.errors import InvalidKey
from app.storage.key import MAX_KEY_BYTES, Key

_SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """Paths below the local media folder; `root` is absolute."""

    root: str

    def to_path(self, key: Key) -> str:
        return f"{self.path_prefix}{key}"

    def to_listed_path(self, name: str) -> str:
        """As `to_path`, for a listed name that need not be a valid key, such as that of a foreign object."""
        return f"{self.path_prefix}{name}"

    def contains(self, path: str) -> bool:
        return path.startswith(self.path_prefix)

    def to_key(self, path: str) -> Key | None:
        """The key of a path below the folder, None for other paths. Raises `InvalidKey` where the rest is no key."""
        return Key(path.removeprefix(self.path_prefix)) if self.contains(path) else None

    @property
    def path_prefix(self) -> str:
        """The text that all paths in this location begin with."""
        return self.root.rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class BucketPaths:
    """Paths in S3: everything below `prefix` (may be empty) of `bucket`."""

    bucket: str
    prefix: str

    def to_path(self, key: Key) -> str:
        """Raises `InvalidKey` where key and prefix together exceed the limit of S3."""
        path = f"{self.path_prefix}{key}"
        if len(path.removeprefix(f"{_SCHEME}{self.bucket}/").encode()) > MAX_KEY_BYTES:
            raise InvalidKey(key.value, "s3", f"longer than {MAX_KEY_BYTES} bytes with the prefix")
        return path

    def to_listed_path(self, name: str) -> str:
        """As `to_path`, for a listed name that need not be a valid key, such as that of a foreign object."""
        return f"{self.path_prefix}{name}"

    def contains(self, path: str) -> bool:
        return path.startswith(self.path_prefix)

    def to_key(self, path: str) -> Key | None:
        """As `LocalPaths.to_key`."""
        return Key(path.removeprefix(self.path_prefix)) if self.contains(path) else None

    @property
    def path_prefix(self) -> str:
        """As `LocalPaths.path_prefix`."""
        prefix = self.prefix.strip("/")
        return f"{_SCHEME}{self.bucket}/{prefix}/" if prefix else f"{_SCHEME}{self.bucket}/"


def is_s3_uri(path: str) -> bool:
    return path.startswith(_SCHEME)


def parse_s3_uri(path: str) -> tuple[str, str]:
    """The bucket and the key's text (with the prefix) of an `s3://` URI. Nothing is decoded: `%20` is three characters. Raises
    `InvalidKey`."""
    bucket, slash, key = path.removeprefix(_SCHEME).partition("/")
    if not is_s3_uri(path) or not bucket or not slash or not key:
        raise InvalidKey(path, "path", "is no s3://<bucket>/<key>")
    return bucket, key


def check_local_path(path: str) -> str:
    """Returns `path` unchanged where it is absolute and normalized. Raises `InvalidKey`."""
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
