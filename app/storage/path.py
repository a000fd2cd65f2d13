"""The paths that the catalogue stores: an absolute local path, or `s3://<bucket>/<key>` with the key verbatim. No I/O.

Prefixes match by whole segments: `/data` never holds `/database`.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.storage.errors import InvalidKey
from app.storage.key import MAX_KEY_BYTES, Key

_SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class LocalArea:
    """The local media folder; `root` is absolute, as the settings have it."""

    root: str

    def path(self, key: Key) -> str:
        return f"{self.base}{key}"

    def listed(self, name: str) -> str:
        """As `path`, for the name of an object that others put there: it need not be a key."""
        return f"{self.base}{name}"

    def holds(self, path: str) -> bool:
        return path.startswith(self.base)

    def key(self, path: str) -> Key | None:
        """The key of a path below the folder, None for other paths. Raises `InvalidKey` where the rest is no key."""
        return Key(path.removeprefix(self.base)) if self.holds(path) else None

    @property
    def base(self) -> str:
        """What the paths of the area begin with."""
        return self.root.rstrip("/") + "/"


@dataclass(frozen=True, slots=True)
class BucketArea:
    """What the settings say is ours in S3: everything below `prefix` (may be empty) of `bucket`."""

    bucket: str
    prefix: str

    def path(self, key: Key) -> str:
        """Raises `InvalidKey` where it is longer with the prefix than S3 allows."""
        path = f"{self.base}{key}"
        if len(path.removeprefix(f"{_SCHEME}{self.bucket}/").encode()) > MAX_KEY_BYTES:
            raise InvalidKey(key.value, "s3", f"longer than {MAX_KEY_BYTES} bytes with the prefix")
        return path

    def listed(self, name: str) -> str:
        """As `path`, for the name of an object that others put there: it need not be a key."""
        return f"{self.base}{name}"

    def holds(self, path: str) -> bool:
        return path.startswith(self.base)

    def key(self, path: str) -> Key | None:
        """As `LocalArea.key`."""
        return Key(path.removeprefix(self.base)) if self.holds(path) else None

    @property
    def base(self) -> str:
        """As `LocalArea.base`."""
        prefix = self.prefix.strip("/")
        return f"{_SCHEME}{self.bucket}/{prefix}/" if prefix else f"{_SCHEME}{self.bucket}/"


def is_s3(path: str) -> bool:
    return path.startswith(_SCHEME)


def parse_s3(path: str) -> tuple[str, str]:
    """The bucket and the key's text (the prefix among it) of an `s3://` URI. Nothing is decoded: `%20` are three characters. Raises `InvalidKey`."""
    bucket, slash, key = path.removeprefix(_SCHEME).partition("/")
    if not is_s3(path) or not bucket or not slash or not key:
        raise InvalidKey(path, "path", "is no s3://<bucket>/<key>")
    return bucket, key


def check_local(path: str) -> str:
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
